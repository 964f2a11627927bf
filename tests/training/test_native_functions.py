"""What functions that a model's own forward calls cost; nothing that ran is free, and nothing is counted twice."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import lowbit_sim as lb
from lowbit_sim.trace import GemmEvent, VectorEvent, WorkloadTrace
from lowbit_sim.training.workload import trace_training_step

N = 2 * 3 * 4 * 4  # elements of the tensor that each function gets


class Calls(nn.Module):
    """1x1 convolution, a function, and a linear layer on the means; no biases, which are additions of their own."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.function, self.head = (
            nn.Conv2d(1, 3, 1, bias=False),
            function,
            nn.LazyLinear(4, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.function(self.first(x)).flatten(1))


def trace_of(model: nn.Module, *, device: str = "meta") -> WorkloadTrace:
    with torch.no_grad():
        model(torch.randn(2, 1, 4, 4))
    x, targets = torch.randn(2, 1, 4, 4, device=device), torch.zeros(2, dtype=torch.int64, device=device)
    return trace_training_step(model, x, targets, torch.optim.SGD(model.parameters(), lr=0.1))


def passes(trace: WorkloadTrace) -> list[tuple[str, int, int, int, int]]:
    """Kind, elements, and bytes read, written and kept, of all but loss and update."""
    kinds = ("activation", "pooling", "batch_norm")
    return [
        (e.kind, e.elements, e.read_bytes, e.write_bytes, e.kept_bytes)
        for e in trace.vectors
        if e.kind in kinds
    ]


def test_a_dropout_draws_bits_for_each_decision_and_a_rectifier_none() -> None:
    def drawn(function: Callable[[Tensor], Tensor]) -> list[int]:
        return [e.random_bits for e in trace_of(Calls(function)).vectors if e.kind == "activation"]

    assert drawn(lambda x: F.dropout(x, 0.5)) == [32 * N, 0]
    assert drawn(lambda x: F.dropout2d(x, 0.5)) == [32 * 2 * 3, 0]
    assert drawn(F.relu) == [0, 0]


# By hand, in bytes: 4 an element, the pooled maps a quarter of them.
CASES: dict[str, tuple[Callable[[Tensor], Tensor], list[tuple[str, int, int, int, int]]]] = {
    "relu": (F.relu, [("activation", N, 4 * N, 4 * N, 4 * N), ("activation", N, 8 * N, 4 * N, 0)]),
    "method": (
        lambda x: x.relu(),
        [("activation", N, 4 * N, 4 * N, 4 * N), ("activation", N, 8 * N, 4 * N, 0)],
    ),
    "in_place": (
        lambda x: torch.relu_(x),
        [("activation", N, 4 * N, 4 * N, 4 * N), ("activation", N, 8 * N, 4 * N, 0)],
    ),
    "gelu": (F.gelu, [("activation", N, 4 * N, 4 * N, 4 * N), ("activation", N, 8 * N, 4 * N, 0)]),
    "softmax": (
        lambda x: x.softmax(1),
        [("activation", N, 4 * N, 4 * N, 4 * N), ("activation", N, 8 * N, 4 * N, 0)],
    ),
    "dropout": (
        lambda x: F.dropout(x, 0.5),
        [("activation", N, 4 * N, 4 * N, N // 8), ("activation", N, 4 * N + N // 8, 4 * N, 0)],
    ),
    "scaled": (lambda x: 0.5 * x, [("activation", N, 4 * N, 4 * N, 0), ("activation", N, 4 * N, 4 * N, 0)]),
    "squared": (
        lambda x: x * x.detach(),
        [("activation", N, 8 * N, 4 * N, 4 * N), ("activation", N, 12 * N, 4 * N, 0)],
    ),
    "max_pool": (
        lambda x: F.max_pool2d(x, 2),
        [("pooling", N, 4 * N, N, N // 4), ("pooling", N, N + N // 4, 4 * N, 0)],
    ),
    "average_pool": (
        lambda x: F.adaptive_avg_pool2d(x, 2),
        [("pooling", N, 4 * N, N, 0), ("pooling", N, N, 4 * N, 0)],
    ),
    "layer_norm": (
        lambda x: F.layer_norm(x, x.shape[1:]),
        [("batch_norm", N, 8 * N, 4 * N, 4 * N), ("batch_norm", N, 16 * N, 4 * N, 0)],
    ),
    "fixed_batch_norm": (
        lambda x: F.batch_norm(x, torch.zeros(3, device=x.device), torch.ones(3, device=x.device)),
        [("batch_norm", N, 4 * N, 4 * N, 0), ("batch_norm", N, 4 * N, 4 * N, 0)],
    ),
    "residual": (
        lambda x: x + F.relu(x),
        [
            *(("activation", N, 4 * N, 4 * N, 4 * N), ("activation", N, 8 * N, 4 * N, 0)),
            *(("activation", N, 8 * N, 4 * N, 0), ("activation", N, 8 * N, 4 * N, 0)),
        ],
    ),
    "views": (lambda x: x.permute(0, 2, 3, 1)[:, 1:].transpose(1, 2).unsqueeze(0)[0], []),
}


@pytest.mark.parametrize("name", [name for name in CASES if name != "views"])
def test_a_function_by_hand(name: str) -> None:
    function, expected = CASES[name]
    assert sorted(passes(trace_of(Calls(function)))) == sorted(expected)


def test_views_are_free_and_a_copy_is_not() -> None:
    # flatten has to copy what the transposition left.
    found = passes(trace_of(Calls(CASES["views"][0])))
    n = N * 3 // 4
    assert found == [("activation", n, 4 * n, 4 * n, 0), ("activation", n, 4 * n, 4 * n, 0)]


MODULES = {
    "relu": (nn.ReLU(), F.relu),
    "gelu": (nn.GELU(), F.gelu),
    "max_pool": (nn.MaxPool2d(2), lambda x: F.max_pool2d(x, 2)),
    "dropout": (nn.Dropout(0.3), lambda x: F.dropout(x, 0.3)),
    "norm": (nn.GroupNorm(1, 3, affine=False), lambda x: F.group_norm(x, 1)),
}


@pytest.mark.parametrize("name", MODULES)
def test_a_module_costs_what_its_function_does_and_once(name: str) -> None:
    module, function = MODULES[name]
    ours, theirs = passes(trace_of(Calls(module))), passes(trace_of(Calls(function)))
    assert ours == theirs
    assert len(ours) == 2


def test_functions_next_to_emulated_layers_are_seen_and_those_inside_are_not() -> None:
    spec = lb.OpSpec.uniform(lb.INT8, gradient_rounding=lb.Rounding("stochastic", random_bits=8))
    model = Calls(F.relu)
    native = passes(trace_of(model))
    assert passes(trace_of(lb.convert(model, [lb.Rule("*", spec)]), device="cpu")) == native


def test_the_gates_of_an_emulated_recurrent_layer_are_not_free() -> None:
    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.recurrent, self.head = nn.GRU(4, 3), nn.Linear(3, 4)

        def forward(self, x: Tensor) -> Tensor:
            y, _ = self.recurrent(x[:, 0].transpose(0, 1))
            return self.head(y[-1])

    trace = trace_of(lb.convert(Last(), [lb.Rule("*", lb.OpSpec.uniform(lb.INT8))]))
    gates = [e for e in trace.vectors if e.kind == "activation" and e.layer == "recurrent"]
    assert sum(e.elements for e in gates) > 4 * 2 * 3 * 8
    # Both weights of the hidden state, a gradient for each of the four steps.
    sums = [e for e in trace.vectors if e.kind == "activation" and e.layer == ""]
    assert sum(e.elements for e in sums) >= 3 * (9 * 3 + 9)


def test_a_tensor_that_two_operators_keep_counts_once() -> None:
    trace = trace_of(Calls(F.relu))
    kept = [(e.layer, e.kept_bytes) for e in trace.events if e.kept_bytes]
    # The images by the convolution, relu's output by relu (and so by the linear layer), the logits by the loss.
    assert kept == [("first", 4 * 2 * 16), ("", 4 * N), ("", 4 * 2 * 4)]


ONE_LAYER = [
    *(("scale_reduction", "conv"), ("quantize", "conv")) * 2,  # input, weight
    *(("output", "conv"), ("dequantize", "conv"), ("activation", "conv")),  # the bias
    *(("batch_norm", "bn"), ("activation", "relu")),
    *(("scale_reduction", "fc"), ("quantize", "fc")) * 2,
    *(("output", "fc"), ("dequantize", "fc"), ("activation", "fc"), ("loss", ""), ("loss", "")),
    ("activation", "fc"),  # the gradient of the bias
    ("scale_reduction", "fc"),  # one scale, and as it is stochastic a draw for each GEMM
    *(("random_bits", "fc"), ("quantize", "fc")) * 2,
    *(("grad_input", "fc"), ("dequantize", "fc"), ("grad_weight", "fc"), ("dequantize", "fc")),
    *(("activation", "relu"), ("batch_norm", "bn"), ("activation", "conv")),
    *(
        ("scale_reduction", "conv"),
        ("random_bits", "conv"),
        ("quantize", "conv"),
    ),  # the images need no gradient
    *(("grad_weight", "conv"), ("dequantize", "conv"), ("optimizer_update", "")),
]


def step(spec: lb.OpSpec) -> list[tuple[str, str]]:
    layers = {"conv": nn.Conv2d(1, 3, 1), "bn": nn.BatchNorm2d(3), "relu": nn.ReLU()}
    layers |= {"flatten": nn.Flatten(), "fc": nn.Linear(48, 4)}
    model = nn.Sequential()
    for name, layer in layers.items():
        model.add_module(name, layer)
    events = trace_of(lb.convert(model, [lb.Rule("*", spec)])).events
    return [(e.role if isinstance(e, GemmEvent) else e.kind, e.layer) for e in events]


def test_a_whole_step_by_name() -> None:
    rounding = lb.Rounding("stochastic", random_bits=8)
    assert step(lb.OpSpec.uniform(lb.INT8, gradient_rounding=rounding)) == ONE_LAYER


def test_static_scales_need_no_pass() -> None:
    rounding = lb.Rounding("stochastic", random_bits=8)
    spec = lb.OpSpec.uniform(lb.INT8, gradient_rounding=rounding, scale=lb.FixedScale(0.25))
    assert step(spec) == [event for event in ONE_LAYER if event[0] != "scale_reduction"]


def test_blocks_are_quantised_anew_for_every_gemm() -> None:
    events = step(lb.OpSpec.uniform(lb.parse_format("mxfp8_e4m3")))
    assert events.count(("quantize", "fc")) == events.count(("scale_reduction", "fc")) == 6
    assert events.count(("quantize", "conv")) == 4


def test_the_update_tells_what_is_held() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 4))
    x, targets = torch.randn(2, 1, 4, 4), torch.zeros(2, dtype=torch.int64)
    for optimizer, states in (
        (torch.optim.Adam(model.parameters()), 2),
        (torch.optim.SGD(model.parameters()), 0),
    ):
        [update] = [
            e for e in trace_training_step(model, x, targets, optimizer).vectors if e.role == "update"
        ]
        assert isinstance(update, VectorEvent)
        size = 4 * 68
        assert (update.parameter_bytes, update.gradient_bytes, update.state_bytes) == (
            size,
            size,
            states * size,
        )
