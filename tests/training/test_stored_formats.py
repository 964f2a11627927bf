"""What a step with activations of 16 bits bills, in bytes by hand; and that nothing is narrower than what ran."""

import pytest
import torch
from torch import Tensor, nn

import lowbit_sim as lb
from lowbit_sim.study.models import build
from lowbit_sim.trace import GemmEvent, WorkloadTrace
from lowbit_sim.training.workload import trace_training_step

BF16 = lb.Quantizer(lb.BF16, scale=lb.FixedScale(1.0))
SIXTEEN = lb.ElementwiseSpec(output=BF16, grad_input=BF16, grad_output=BF16)
INT8 = lb.OpSpec.uniform(lb.INT8)
N = 2 * 3 * 4 * 4  # elements of the convolution's output


def converted(model: nn.Module, activations: lb.ElementwiseSpec | None = SIXTEEN) -> nn.Module:
    return lb.convert(model, [lb.Rule("*", INT8, activations)])


def trace_of(model: nn.Module, shape: tuple[int, ...] = (2, 1, 4, 4), device: str = "meta") -> WorkloadTrace:
    x, targets = torch.ones(shape, device=device), torch.zeros(shape[0], dtype=torch.int64, device=device)
    return trace_training_step(model, x, targets, torch.optim.SGD(model.parameters(), lr=0.1))


def net(*between: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 3, 1, bias=False), *between, nn.Flatten(), nn.Linear(48, 4, bias=False))


def row(event) -> tuple[str, int, int, int, int]:
    """Kind (of a GEMM the role), elements, bytes read, written and kept."""
    if isinstance(event, GemmEvent):
        return event.role, 0, 0, 0, event.kept_bytes
    return event.kind, event.elements, event.read_bytes, event.write_bytes, event.kept_bytes


# By hand: images and weights are float32, sums of 32 bits, codes of 8, all between the layers of 16.
BY_HAND = [
    *(("scale_reduction", 32, 4 * 32, 0, 0), ("quantize", 32, 4 * 32, 32, 0)),
    *(("scale_reduction", 3, 12, 0, 0), ("quantize", 3, 12, 3, 0)),
    ("output", 0, 0, 0, 32),
    ("dequantize", N, 4 * N, 2 * N, 0),
    ("batch_norm", N, 2 * 2 * N, 2 * N, 2 * N),
    ("activation", N, 2 * N, 2 * N, 2 * N),
    *(("scale_reduction", N, 2 * N, 0, 0), ("quantize", N, 2 * N, N, 0)),
    *(("scale_reduction", 192, 4 * 192, 0, 0), ("quantize", 192, 4 * 192, 192, 0)),
    ("output", 0, 0, 0, N + 192),
    ("dequantize", 8, 4 * 8, 2 * 8, 0),
    ("loss", 8, 2 * 8, 0, 2 * 8),
    ("loss", 8, 2 * 8, 4 * 8, 0),
    ("quantize", 8, 4 * 8, 2 * 8, 0),  # the loss' gradient, which is float32
    *(("scale_reduction", 8, 2 * 8, 0, 0), ("quantize", 8, 2 * 8, 8, 0)),
    ("grad_input", 0, 0, 0, 0),
    ("dequantize", N, 4 * N, 2 * N, 0),
    ("grad_weight", 0, 0, 0, 0),
    ("dequantize", 192, 4 * 192, 4 * 192, 0),
    ("activation", N, 2 * N + 2 * N, 2 * N, 0),
    ("batch_norm", N, 2 * (2 * N + 2 * N), 2 * N, 0),
    *(("scale_reduction", N, 2 * N, 0, 0), ("quantize", N, 2 * N, N, 0)),
    ("grad_weight", 0, 0, 0, 0),
    ("dequantize", 3, 12, 12, 0),
]


@pytest.mark.parametrize("device", ["meta", "cpu"])
@pytest.mark.parametrize("in_place", [False, True], ids=["new tensor", "in place"])
def test_every_event_by_hand(device: str, in_place: bool) -> None:
    model = converted(net(nn.BatchNorm2d(3), nn.ReLU(inplace=in_place)))
    assert [row(e) for e in trace_of(model, device=device).events[:-1]] == BY_HAND


def test_what_the_backward_pass_reads_unrounded_is_stored_twice() -> None:
    """A sigmoid's gradient is made of its float32 result; what goes on is 16 bits, in a pass of its own."""
    rows = [row(e) for e in trace_of(converted(net(nn.Sigmoid()))).events]
    at = rows.index(("activation", N, 2 * N, 4 * N, 4 * N))
    assert rows[at + 1] == ("quantize", N, 4 * N, 2 * N, 0)
    assert ("activation", N, 2 * N + 4 * N, 2 * N, 0) in rows


class Doubles(nn.Module):
    """A module of two functions: what lies between them is float32."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + x.detach()) + 1


def test_inside_of_a_module_tensors_are_float32() -> None:
    rows = [row(e) for e in trace_of(converted(net(Doubles()))).events if row(e)[0] == "activation"]
    assert rows == [
        ("activation", N, 2 * N + 2 * N, 4 * N, 0),
        ("activation", N, 4 * N, 4 * N, 4 * N),
        ("activation", N, 4 * N, 2 * N, 0),
        ("activation", N, 2 * N + 4 * N, 2 * N, 0),
    ]


def test_an_overwritten_tensor_is_float32() -> None:
    class Overwrites(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 3, 1, bias=False)
            self.head = nn.Linear(48, 4, bias=False)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.conv(x).mul_(3.0).flatten(1))

    rows = [row(e) for e in trace_of(converted(Overwrites())).events]
    assert ("activation", N, 2 * N, 4 * N, 0) in rows
    assert ("quantize", N, 4 * N, N, 0) in rows


class Residual(nn.Module):
    class Add(nn.Module):
        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return x + y

    def __init__(self) -> None:
        super().__init__()
        self.relu, self.add = nn.ReLU(), self.Add()

    def forward(self, x: Tensor) -> Tensor:
        return self.add(x, self.relu(x))


@pytest.mark.parametrize(
    ("activations", "sums"),
    [
        (SIXTEEN, (2 * 2 * N, 2 * N)),
        (lb.ElementwiseSpec(output=BF16, grad_input=BF16), (2 * 2 * N, 4 * N)),
        (None, (2 * 4 * N, 4 * N)),
    ],
    ids=["rounded", "not rounded", "float32"],
)
def test_gradients_are_summed_as_they_are_stored(
    activations: lb.ElementwiseSpec | None, sums: tuple[int, int]
) -> None:
    trace = trace_of(converted(net(Residual()), activations))
    assert [(e.read_bytes, e.write_bytes) for e in trace.vectors if e.layer == "" and e.elements == N] == [
        sums
    ]


def test_a_format_with_a_scale_is_a_pass_of_its_own() -> None:
    scaled = lb.ElementwiseSpec(output=lb.Quantizer(lb.INT8))
    rows = [row(e) for e in trace_of(converted(net(nn.Tanh()), scaled)).events]
    at = rows.index(("activation", N, N, 4 * N, 4 * N))
    assert rows[at + 1 : at + 3] == [("scale_reduction", N, 4 * N, 0, 0), ("quantize", N, 4 * N, N, 0)]


def test_a_residual_network_moves_half_the_bytes() -> None:
    """Of element-wise work; and no event moves more than with float32, or less than half."""
    with torch.device("meta"):
        models = [build("resnet20", 3, 10, 32) for _ in range(2)]
    narrow, wide = (
        trace_of(converted(model, spec), (4, 3, 32, 32))
        for model, spec in zip(models, (SIXTEEN, None), strict=True)
    )
    kinds = ("batch_norm", "activation", "pooling")
    moved = [[e.bytes for e in t.vectors if e.kind in kinds and e.layer] for t in (narrow, wide)]
    assert all(w <= 2 * n <= 2 * w for n, w in zip(*moved, strict=True))
    assert sum(moved[0]) < 0.51 * sum(moved[1])
    kept = [sum(e.kept_bytes for e in t.events) for t in (narrow, wide)]
    assert kept[0] < 0.65 * kept[1]
