"""A layer's events from its sizes are those that the emulated layer emits when it runs."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import lowbit_sim as lb
from hw_models.workloads.layer import Layer, conv_layer, gemm_events, training_events
from lowbit_sim.arith.float_mac import FloatMacUnit
from lowbit_sim.arith.spec import GemmSpec, OpSpec
from lowbit_sim.quant.gradient.luq import luq
from lowbit_sim.quant.gradient.statquant import bhq
from lowbit_sim.quant.transforms import HadamardTransform
from lowbit_sim.trace import Event, GemmEvent, VectorEvent

INT8, INT4 = lb.Quantizer(lb.INT8), lb.Quantizer(lb.INT4)
SR = lb.Rounding("stochastic", random_bits=8)
_HOUSEHOLDER, _PSQ = bhq(8)
MX = lb.Quantizer(lb.parse_format("mxint8"))
MX_BF16 = GemmSpec(MX, MX, across=FloatMacUnit(accumulator=lb.parse_format("bf16")))


def with_gradients(grad_input: GemmSpec, grad_weight: GemmSpec | None = None) -> OpSpec:
    return OpSpec(output=GemmSpec(INT8, INT8), grad_input=grad_input, grad_weight=grad_weight or grad_input)


SPECS: dict[str, OpSpec | None] = {
    "native": None,
    "int8": OpSpec.uniform(lb.INT8),
    "int4_stochastic": OpSpec.uniform(lb.INT4, gradient_rounding=SR),
    "fixed_scale": OpSpec.uniform(lb.INT8, scale=lb.FixedScale(0.5)),
    "chunked": OpSpec.uniform(lb.INT8, mac=lb.MacUnit(accumulator_bits=16, chunk=4, outer_bits=24)),
    "fp8": OpSpec.uniform(lb.parse_format("fp8_e4m3fn")),
    "bf16": OpSpec.uniform(lb.parse_format("bf16")),
    "bf16_sums": OpSpec.uniform(
        lb.parse_format("bf16"), mac=FloatMacUnit(accumulator=lb.parse_format("bf16"))
    ),
    "stochastic_sums": OpSpec.uniform(lb.parse_format("bf16"), mac=FloatMacUnit(rounding=SR, chunk=3)),
    "compensated_sums": OpSpec.uniform(lb.parse_format("bf16"), mac=FloatMacUnit(kahan=True)),
    "mx_stochastic_sums": with_gradients(replace(MX_BF16, mac=FloatMacUnit(rounding=SR))),
    "mxfp8_bf16_sums": with_gradients(MX_BF16),
    "blocks_on_one_side": with_gradients(GemmSpec(MX, INT8)),
    "blocks_of_two": OpSpec.uniform(lb.parse_format("block<int8,e8m0,block=2>"), gradient_rounding=SR),
    "mxfp8": OpSpec.uniform(lb.parse_format("mxfp8_e4m3")),
    "nvfp4_stochastic": OpSpec.uniform(lb.parse_format("nvfp4"), gradient_rounding=SR),
    "weights_requantised": with_gradients(GemmSpec(INT8, INT4)),
    "two_gradients": with_gradients(GemmSpec(INT8, INT8), GemmSpec(INT4, INT8)),
    "luq_two_samples": with_gradients(GemmSpec(luq(), INT4, FloatMacUnit(), samples=2)),
    "householder": with_gradients(
        GemmSpec(_PSQ, INT8, transform=_HOUSEHOLDER), GemmSpec(lb.Quantizer(lb.INT8, rounding=SR), INT8)
    ),
    "hadamard": with_gradients(GemmSpec(INT8, INT8, transform=HadamardTransform(4))),
    "native_gradients": OpSpec(output=GemmSpec(INT8, INT8), grad_input=None, grad_weight=None),
    "native_output": replace(OpSpec.uniform(lb.INT8), output=None),
    "per_channel": OpSpec(
        output=GemmSpec(INT8, lb.Quantizer(lb.INT8, granularity=lb.PerAxis(0))),
        grad_input=GemmSpec(INT8, lb.Quantizer(lb.INT8, granularity=lb.PerAxis(1))),
        grad_weight=GemmSpec(INT8, INT8),
    ),
}


def masked(events: list[Event]) -> list[Event]:
    """Without what only a run can tell."""
    return [
        replace(e, overflows=None, backend="")
        if isinstance(e, GemmEvent)
        else replace(e, clipped=None, underflowed=None)
        for e in events
    ]


def ran(layer: nn.Module, x: torch.Tensor, spec: OpSpec | None, input_gradient: bool) -> list[Event]:
    """The events of a layer that really runs, in a layer of its own under the name "0"."""
    model = lb.convert(nn.Sequential(layer), [lb.Rule("*", spec or native())])
    with lb.record() as trace:
        model(x.requires_grad_(input_gradient)).sum().backward()
    return masked(trace.events)


def native() -> OpSpec:
    return OpSpec(output=None, grad_input=None, grad_weight=None)


@pytest.mark.parametrize("input_gradient", [True, False])
@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_a_linear_layer_as_it_runs(spec: OpSpec | None, input_gradient: bool) -> None:
    layer = Layer(name="0", M=6, N=5, K=7, input_gradient=input_gradient, bias=True)
    run = ran(nn.Linear(7, 5), torch.randn(6, 7), spec, input_gradient)
    assert masked(training_events(layer, spec)) == run


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_a_convolution_as_it_runs(spec: OpSpec | None, groups: int) -> None:
    conv = nn.Conv2d(4, 8, (3, 2), stride=(2, 1), padding=1, groups=groups)
    events = ran(conv, torch.randn(2, 4, 5, 6), spec, True)
    geometry = next(e.conv for e in events if isinstance(e, GemmEvent))
    assert geometry is not None
    layer = replace(conv_layer("0", geometry), bias=True)
    assert masked(training_events(layer, spec)) == events


@settings(max_examples=40)
@given(
    sizes=st.tuples(*[st.integers(1, 12)] * 3),
    spec=st.sampled_from(sorted(SPECS)),
    input_gradient=st.booleans(),
    bias=st.booleans(),
)
def test_any_linear_layer_as_it_runs(
    sizes: tuple[int, int, int], spec: str, input_gradient: bool, bias: bool
) -> None:
    m, n, k = sizes
    layer = Layer(name="0", M=m, N=n, K=k, input_gradient=input_gradient, bias=bias)
    run = ran(nn.Linear(k, n, bias=bias), torch.randn(m, k), SPECS[spec], input_gradient)
    assert masked(training_events(layer, SPECS[spec])) == run


def kinds(spec: OpSpec) -> list[str]:
    events = training_events(Layer(name="fc", M=2, N=3, K=4), spec)
    return [e.role if isinstance(e, GemmEvent) else e.kind for e in events]


def test_a_step_by_hand() -> None:
    quantised = ["scale_reduction", "quantize"]
    gradient = ["scale_reduction", "random_bits", "quantize"]
    assert kinds(OpSpec.uniform(lb.INT8, gradient_rounding=SR)) == [
        *(*quantised, *quantised, "output", "dequantize"),
        *(*gradient, *gradient[1:], "grad_input", "dequantize", "grad_weight", "dequantize"),
    ]


def test_blocks_are_quantised_again_along_the_second_axis() -> None:
    events = kinds(OpSpec.uniform(lb.parse_format("mxfp8_e4m3")))
    assert events.count("quantize") == events.count("scale_reduction") == 6


def test_a_fixed_scale_is_not_searched() -> None:
    assert "scale_reduction" not in kinds(OpSpec.uniform(lb.INT8, scale=lb.FixedScale(1.0)))


def test_kept_bytes_by_hand() -> None:
    layer = Layer(name="fc", M=2, N=3, K=4)
    for spec, expected in (
        (None, 4 * 8),  # x in float32; the weight is there anyway
        (OpSpec.uniform(lb.INT4), 4 + 6),  # 8 codes of x and 12 of w, 4 bits each
        (
            OpSpec.uniform(lb.parse_format("mxfp8_e4m3")),
            4 * 8,
        ),  # blocks run along another axis then: x is kept
    ):
        events = training_events(layer, spec)
        assert sum(e.kept_bytes for e in events) == expected
        assert [e.role for e in events if isinstance(e, GemmEvent) and e.kept_bytes] == ["output"]
    products = replace(layer, weights=False)
    assert sum(e.kept_bytes for e in training_events(products, None)) == 4 * (8 + 12)
    assert sum(e.kept_bytes for e in training_events(replace(layer, input_kept=True), None)) == 0


def test_a_single_gemm_of_any_role_has_its_own_sizes() -> None:
    spec = OpSpec.uniform(lb.INT8).grad_weight
    [*before, gemm, after] = gemm_events(Layer(name="q", M=2, N=3, K=4, count=5), "grad_weight", spec)
    assert isinstance(gemm, GemmEvent)
    assert (gemm.role, gemm.M, gemm.N, gemm.K, gemm.count) == ("grad_weight", 2, 3, 4, 5)
    assert [(e.kind, e.elements) for e in before if isinstance(e, VectorEvent)] == [
        *(("scale_reduction", 40), ("quantize", 40), ("scale_reduction", 60), ("quantize", 60))
    ]
    assert isinstance(after, VectorEvent)
    assert after.elements == 30


def test_sizes_below_one_are_refused() -> None:
    with pytest.raises(ValueError, match="layer 'fc': N must be at least 1, got 0"):
        Layer(name="fc", M=1, N=0, K=1)
