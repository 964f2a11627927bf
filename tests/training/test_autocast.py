from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lowbit_sim.trace import GemmEvent, VectorEvent
from lowbit_sim.training.autocast import forward
from lowbit_sim.training.loop import evaluate, train
from lowbit_sim.training.settings import TrainingSettings, build_optimizer
from lowbit_sim.training.workload import trace_training_step
from tests.training.toys import SETTINGS, toy_examples, toy_model

BF16 = replace(SETTINGS, autocast="bf16")
BATCH = 8


def test_without_a_format_the_forward_pass_is_the_models_own():
    model, data = toy_model(), toy_examples(BATCH)
    assert torch.equal(forward(model, data.inputs, None), toy_model()(data.inputs))


def test_logits_are_float32_and_those_of_products_in_bfloat16():
    linear = nn.Linear(64, 3)
    x = torch.randn(BATCH, 64, generator=torch.Generator().manual_seed(0))
    logits = forward(linear, x, "bf16")
    by_hand = F.linear(x.bfloat16(), linear.weight.bfloat16(), linear.bias.bfloat16()).float()
    assert logits.dtype == torch.float32
    assert torch.equal(logits, by_hand)
    assert not torch.equal(logits, linear(x))


def test_weights_and_their_gradients_stay_in_float32():
    model, data = toy_model(), toy_examples()
    result = train(model, data, data, BF16)
    assert result.status == "completed"
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert {p.grad.dtype for p in model.parameters() if p.grad is not None} == {torch.float32}


def test_training_and_evaluation_are_in_bfloat16():
    """Against the same steps by hand."""
    model, data = toy_model(), toy_examples(BATCH)
    settings = replace(BF16, epochs=1)
    result = train(model, data, data, settings)
    twin = toy_model()
    order = torch.randperm(BATCH, generator=torch.Generator().manual_seed(settings.seed))
    optimizer = build_optimizer(twin, settings)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = twin(data.inputs[order]).float()
    F.cross_entropy(logits, data.targets[order]).backward()
    optimizer.step()
    assert all(map(torch.equal, model.parameters(), twin.parameters()))
    assert result.epochs[0].test_loss == evaluate(twin, data, autocast="bf16")[0]
    assert result.epochs[0].test_loss != evaluate(twin, data)[0]


def test_an_unknown_format_is_refused():
    with pytest.raises(ValueError, match="unknown format of autocast 'bf61'.*did you mean 'bf16'"):
        TrainingSettings(epochs=1, batch_size=1, learning_rate=0.1, autocast="bf61")  # type: ignore[arg-type]


def row(event) -> tuple:
    """Of a GEMM role, formats and bytes kept; else kind, elements, and bytes read, written and kept."""
    if isinstance(event, GemmEvent):
        return event.role, event.lhs.format, event.rhs.format, event.result_bits, event.kept_bytes
    return event.kind, event.elements, event.read_bytes, event.write_bytes, event.kept_bytes


MAPS, POOLED, LOGITS = BATCH * 4 * 16, BATCH * 4, BATCH * 3
PARAMETERS = 36 + 4 + 4 + 12 + 3

# By hand: images, weights, logits and all gradients of weights are float32, the rest bfloat16.
BY_HAND = [
    ("activation", 128, 4 * 128, 2 * 128, 0),  # images cast
    ("activation", 36, 4 * 36, 2 * 36, 2 * 36),  # weights cast
    ("output", "bf16", "bf16", 16, 2 * 128),
    ("batch_norm", MAPS, 2 * 2 * MAPS, 2 * MAPS, 2 * MAPS),
    ("activation", MAPS, 2 * MAPS, 2 * MAPS, 2 * MAPS),
    ("pooling", MAPS, 2 * MAPS, 2 * POOLED, 0),
    ("activation", 12, 4 * 12, 2 * 12, 2 * 12),
    ("activation", 3, 4 * 3, 2 * 3, 2 * 3),
    ("output", "bf16", "bf16", 16, 2 * POOLED),
    ("activation", LOGITS, 2 * LOGITS, 2 * LOGITS, 0),  # bias
    ("loss", LOGITS, 4 * LOGITS, 0, 4 * LOGITS),
    ("loss", LOGITS, 4 * LOGITS, 4 * LOGITS, 0),
    ("activation", LOGITS, 2 * LOGITS, 2 * 3, 0),
    ("grad_input", "bf16", "bf16", 16, 0),
    ("grad_weight", "bf16", "bf16", 16, 0),
    ("activation", 3, 2 * 3, 4 * 3, 0),  # gradients of weights cast
    ("activation", 12, 2 * 12, 4 * 12, 0),
    ("pooling", MAPS, 2 * POOLED, 2 * MAPS, 0),
    ("activation", MAPS, 2 * 2 * MAPS, 2 * MAPS, 0),
    ("batch_norm", MAPS, 2 * 2 * 2 * MAPS, 2 * MAPS, 0),
    ("grad_weight", "bf16", "bf16", 16, 0),
    ("activation", 36, 2 * 36, 4 * 36, 0),
    ("optimizer_update", PARAMETERS, 3 * 4 * PARAMETERS, 2 * 4 * PARAMETERS, 0),
]


def test_a_step_by_hand():
    model, data = toy_model(), toy_examples(BATCH)
    trace = trace_training_step(
        model, data.inputs, data.targets, build_optimizer(model, BF16), autocast="bf16"
    )
    assert [row(event) for event in trace.events] == BY_HAND


def test_what_is_cast_for_the_trace_is_what_autocast_casts():
    """The step that is traced computes the gradients of the step that runs."""
    model, data = toy_model(), toy_examples(BATCH)
    seen: list[torch.Tensor] = []

    class Looks:
        def before_step(self, step): ...

        def on_gradients(self, step):
            seen[:] = [p.grad.clone() for p in step.model.parameters()]

        def after_step(self, step): ...

        def __deepcopy__(self, memo):
            return self

    still = torch.optim.SGD(model.parameters(), lr=0.0)
    trace_training_step(model, data.inputs, data.targets, still, recipes=[Looks()], autocast="bf16")
    twin = toy_model()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = twin(data.inputs).float()
    F.cross_entropy(logits, data.targets).backward()
    assert [g.tolist() for g in seen] == [p.grad.tolist() for p in twin.parameters() if p.grad is not None]


def test_look_ups_stay_in_float32():
    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.classes = nn.Embedding(5, 4), nn.Linear(4, 3)

        def forward(self, tokens: torch.Tensor) -> torch.Tensor:
            return self.classes(self.table(tokens).mean(1))

    model = Tokens()
    trace = trace_training_step(
        model,
        torch.tensor([[0, 1], [2, 3]]),
        torch.tensor([0, 1]),
        torch.optim.SGD(model.parameters(), lr=0.1),
        autocast="bf16",
    )
    formats = {(e.layer, e.rhs.format) for e in trace.gemms}
    assert formats == {("table", "fp32"), ("classes", "bf16")}
    assert all(isinstance(e, VectorEvent | GemmEvent) for e in trace.events)


def test_tensors_without_data_are_refused():
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 3)).to("meta")
    with pytest.raises(ValueError, match="trace a step with autocast='bf16' on the CPU"):
        trace_training_step(
            model,
            torch.empty(4, 16, device="meta"),
            torch.zeros(4, dtype=torch.int64),
            torch.optim.SGD(model.parameters(), lr=0.1),
            autocast="bf16",
        )
