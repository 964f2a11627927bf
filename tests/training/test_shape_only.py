"""A step that is traced without data emits the events of one that really runs."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

import lowbit_sim as lb
from lowbit_sim.arith.float_mac import FloatMacUnit
from lowbit_sim.arith.spec import GemmSpec, OpSpec
from lowbit_sim.numerics.catalog import parse_format
from lowbit_sim.ops.attention import AttentionSpec
from lowbit_sim.quant.gradient.dorefa import dorefa_gradient
from lowbit_sim.quant.gradient.luq import luq
from lowbit_sim.quant.gradient.statquant import bhq
from lowbit_sim.quant.transforms import HadamardTransform
from lowbit_sim.study.models import build
from lowbit_sim.study.models.mobilenet import InvertedResidual
from lowbit_sim.trace import Event, GemmEvent, WorkloadTrace
from lowbit_sim.training.optimizers import SGD, AdamW
from lowbit_sim.training.update_spec import UpdateSpec
from lowbit_sim.training.workload import trace_training_step

SR = lb.Rounding("stochastic", random_bits=8)
INT8 = lb.Quantizer(lb.INT8)
CLASSES = 4


class LastStep(nn.Module):
    def __init__(self, recurrent: nn.Module) -> None:
        super().__init__()
        self.recurrent, self.head = recurrent, nn.Linear(6, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.recurrent(x)
        return self.head(torch.tanh(y[-1]))


class Mean(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean(1)


def encoder() -> nn.Module:
    block = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.1, batch_first=True, activation="gelu")
    return nn.Sequential(block, Mean(), nn.Linear(8, CLASSES))


def depthwise() -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(2, 4, 3), InvertedResidual(4, 4, 1, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
        nn.Linear(4, CLASSES),
    )


#: Name: (model, shape of a batch).
MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "mlp": (lambda: build("mlp", 1, CLASSES, 4, width=6), (3, 1, 4, 4)),
    "small_cnn": (lambda: build("small_cnn", 2, CLASSES, 4, width=4), (3, 2, 4, 4)),
    "resnet20": (lambda: build("resnet20", 2, CLASSES, 8, width=2), (2, 2, 8, 8)),
    "depthwise": (depthwise, (2, 2, 6, 6)),
    "encoder": (encoder, (2, 3, 8)),
    "lstm": (lambda: LastStep(nn.LSTM(5, 6)), (4, 2, 5)),
    "transposed": (
        lambda: nn.Sequential(nn.ConvTranspose2d(2, 3, 3, stride=2), nn.Flatten(), nn.Linear(147, CLASSES)),
        (2, 2, 3, 3),
    ),
}


def backward(grad_input: GemmSpec, grad_weight: GemmSpec | None = None) -> OpSpec:
    return OpSpec(output=GemmSpec(INT8, INT8), grad_input=grad_input, grad_weight=grad_weight or grad_input)


_HOUSEHOLDER, _PSQ = bhq(8)

SPECS: dict[str, OpSpec | None] = {
    "native": None,
    "int8": OpSpec.uniform(lb.INT8),
    "int4_stochastic": OpSpec.uniform(lb.INT4, gradient_rounding=SR),
    "per_sample": backward(
        GemmSpec(dorefa_gradient(8), INT8, FloatMacUnit()),
        GemmSpec(dorefa_gradient(8, granularity=lb.PerTensor()), INT8, FloatMacUnit()),
    ),
    "running_scales": backward(GemmSpec(luq(momentum=0.9), INT8, FloatMacUnit(), samples=2)),
    "mxfp8": OpSpec.uniform(parse_format("mxfp8_e4m3")),
    "nvfp4": OpSpec.uniform(parse_format("nvfp4"), gradient_rounding=SR),
    "householder": backward(GemmSpec(_PSQ, INT8, transform=_HOUSEHOLDER), GemmSpec(INT8, INT8)),
    "hadamard": backward(GemmSpec(INT8, INT8, transform=HadamardTransform(4))),
    "fp8_float_mac": OpSpec.uniform(
        parse_format("fp8_e5m2"), mac=FloatMacUnit(accumulator=parse_format("bf16"), chunk=4)
    ),
}


def masked(trace: WorkloadTrace) -> list[Event]:
    """Without what only a run can tell."""
    return [
        replace(e, overflows=None, backend="")
        if isinstance(e, GemmEvent)
        else replace(e, clipped=None, underflowed=None)
        for e in trace.events
    ]


def both(model: nn.Module, shape: tuple[int, ...], optimizer=None) -> tuple[WorkloadTrace, WorkloadTrace]:
    """The step on random numbers, and on the meta device."""
    optimizer = optimizer or torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(shape, generator=generator)
    # Recurrent networks put the steps first.
    targets = torch.zeros(shape[1] if isinstance(model, LastStep) else shape[0], dtype=torch.int64)
    return (
        trace_training_step(model, x, targets, optimizer),
        trace_training_step(model, x.to("meta"), targets.to("meta"), optimizer),
    )


#: torch's own recurrent layers and attention have no known cost, so those models are traced converted only.
CASES = [(m, s) for m in MODELS for s in SPECS if s != "native" or m not in ("lstm", "encoder")]


@pytest.mark.parametrize(("name", "numerics"), CASES, ids=lambda name: name)
def test_the_events_are_those_of_a_real_step(name: str, numerics: str) -> None:
    make, shape = MODELS[name]
    spec = SPECS[numerics]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = lb.convert(make(), [lb.Rule("*", spec)])
    real, shapes = both(model, shape)
    assert masked(shapes) == masked(real)
    assert len(real.gemms) >= 5


def test_what_only_numbers_can_tell_is_not_told() -> None:
    model = lb.convert(build("mlp", 1, CLASSES, 4, width=6), [lb.Rule("*", OpSpec.uniform(lb.INT8))])
    real, shapes = both(model, (3, 1, 4, 4))
    assert {e.overflows for e in real.gemms} == {0}
    assert {e.overflows for e in shapes.gemms} == {None}
    assert {e.backend for e in shapes.gemms} == {"shape_only"}
    assert {e.clipped for e in shapes.vectors} == {None}
    assert shapes.overflow_share() is None


def test_learned_scales() -> None:
    learned = lb.Quantizer(lb.INT8, scale=lb.LearnedScale())
    spec = replace(OpSpec.uniform(lb.INT8), output=GemmSpec(learned, learned))
    model = lb.convert(nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, CLASSES)), [lb.Rule("*", spec)])
    real, shapes = both(model, (3, 4))
    assert masked(shapes) == masked(real)
    passes = [e for e in real.vectors if e.kind == "scale_reduction" and e.write_bytes]
    # A pass for each step's gradient: the second layer's weight and input, the first's.
    assert [e.elements for e in passes] == [CLASSES * 6, 3 * 6, 6 * 4, 3 * 4]


@pytest.mark.parametrize("make", [SGD, AdamW])
def test_low_precision_optimizers(make) -> None:
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, CLASSES))
    update = UpdateSpec.uniform(parse_format("bf16"), rounding=SR)
    real, shapes = both(model, (3, 4), make(model.parameters(), lr=0.1, update=update))
    assert masked(shapes) == masked(real)
    [event] = [e for e in real.vectors if e.kind == "optimizer_update"]
    parameters = 4 * 6 + 6 + 6 * CLASSES + CLASSES
    moments = 2 if make is AdamW else 0
    assert (event.parameter_bytes, event.gradient_bytes) == (2 * parameters, 4 * parameters)
    assert event.state_bytes == 2 * moments * parameters


class Attention(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.scaled_dot_product_attention(x, x, x)


def test_attention_with_a_spec_of_its_own() -> None:
    spec = OpSpec.uniform(lb.INT8)
    attention = AttentionSpec(
        scores=spec, values=OpSpec.uniform(lb.INT4), probabilities=lb.Quantizer(lb.INT8)
    )
    rules = [lb.Rule("1", lb.FunctionalSpec(spec, attention=attention)), lb.Rule("*", spec)]
    model = nn.Sequential(nn.Linear(8, 8), Attention(), Mean(), nn.Linear(8, CLASSES))
    real, shapes = both(lb.convert(model, rules), (2, 3, 8))
    assert masked(shapes) == masked(real)
    assert {e.lhs.format for e in real.gemms if e.layer == "1#0.values"} == {"int4"}


class Words(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table, self.head = nn.Embedding(10, 6), nn.Linear(6, CLASSES)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.table(tokens).mean(1))


def test_a_native_embedding_and_one_whose_gradient_depends_on_the_tokens() -> None:
    tokens, targets = torch.arange(6).reshape(2, 3), torch.zeros(2, dtype=torch.int64)

    def trace(model: nn.Module, device: str) -> WorkloadTrace:
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        return trace_training_step(model, tokens.to(device), targets.to(device), optimizer)

    spec = OpSpec.uniform(lb.INT8)
    native = lb.convert(Words(), [lb.Rule("table", None), lb.Rule("*", spec)])
    assert masked(trace(native, "meta")) == masked(trace(native, "cpu"))
    assert [(e.M, e.N, e.K) for e in trace(native, "meta").gemms if e.layer == "table"] == [(6, 1, 6)]
    with pytest.raises(ValueError, match="layer 'table'.*depends on the tokens.*keep the layer native"):
        trace(lb.convert(Words(), [lb.Rule("*", spec)]), "meta")


def test_nothing_is_allocated() -> None:
    """A step whose activations would take terabytes."""
    with torch.device("meta"):
        model = build("resnet20", 3, 10, 32)
        x, targets = torch.empty(1 << 20, 3, 32, 32), torch.empty(1 << 20, dtype=torch.int64)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    trace = trace_training_step(model, x, targets, optimizer)
    assert sum(e.kept_bytes for e in trace.events) > 1 << 40
