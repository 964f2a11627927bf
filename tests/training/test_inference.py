import pytest
import torch
from torch import Tensor, nn

import lowbit_sim as lb
from lowbit_sim.trace import GemmEvent
from lowbit_sim.training.inference import trace_inference


def network() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Flatten(),
        nn.Linear(4 * 6 * 6, 5),
    )


@pytest.fixture(params=["native", "int8"])
def model(request) -> nn.Module:
    model = network()
    return (
        model if request.param == "native" else lb.convert(model, [lb.Rule("*", lb.OpSpec.uniform(lb.INT8))])
    )


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_a_forward_pass_of_which_nothing_is_kept(model: nn.Module, device: str) -> None:
    trace = trace_inference(model, torch.zeros(2, 3, 6, 6, device=device))
    assert [e.layer for e in trace.events if isinstance(e, GemmEvent)] == ["0", "5"]
    assert {e.role for e in trace.gemms} == {"output"}
    assert not any(e.kept_bytes for e in trace.events)
    assert not any(e.keeps for e in trace.vectors)


def test_a_batch_norm_is_read_once_and_a_dropout_is_free() -> None:
    trace = trace_inference(network(), torch.empty(2, 3, 6, 6, device="meta"))
    size = 4 * 2 * 4 * 6 * 6
    passes = [(e.layer, e.kind, e.read_bytes, e.write_bytes, e.random_bits) for e in trace.vectors]
    assert passes[:2] == [("1", "batch_norm", size, size, 0), ("2", "activation", size, size, 0)]
    assert not any(e.layer == "3" for e in trace.vectors)


def test_the_model_stays_as_it_is(model: nn.Module) -> None:
    before = {name: value.clone() for name, value in model.state_dict().items()}
    trace_inference(model, torch.randn(2, 3, 6, 6))
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_single_value_for_each_channel_has_a_cost() -> None:
    class Pooled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

        def forward(self, x: Tensor) -> Tensor:
            return self.norm(self.conv(x))

    assert trace_inference(Pooled(), torch.empty(1, 3, 3, 3, device="meta")).gemms
