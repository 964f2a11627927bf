"""Clipped and underflowed elements, against a count of exact numbers one by one."""

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import lowbit_sim as lb
from lowbit_sim.numerics.encode import code_range
from lowbit_sim.numerics.reference import decode_value, float32
from lowbit_sim.ops import counts
from lowbit_sim.ops.counts import OperandCounts, count_operand
from lowbit_sim.quant.qtensor import QTensor

FIXED = lb.FixedScale(0.5)
STOCHASTIC = lb.Rounding("stochastic", random_bits=8)
SIGNED_CODEBOOK = lb.CodebookFormat(values=(-2.0, -0.5, 0.0, 1.0, 1.5), name="book")

QUANTIZERS = {
    "int4 fixed": lb.Quantizer(lb.INT4, scale=FIXED),
    "int4 stochastic": lb.Quantizer(lb.INT4, scale=FIXED, rounding=STOCHASTIC),
    "int4 wrap": lb.Quantizer(
        lb.IntFormat(bits=4, symmetric=False), scale=FIXED, rounding=lb.Rounding(overflow="wrap")
    ),
    "fixed point": lb.Quantizer(lb.parse_format("fixed<8,6>"), scale=FIXED),
    "fp8": lb.Quantizer(lb.FP8_E4M3FN, scale=lb.FixedScale(0.0078125)),
    "fp8 to infinity": lb.Quantizer(
        lb.FP8_E5M2, scale=lb.FixedScale(2.0**-14), rounding=lb.Rounding(overflow="infinity")
    ),
    "fp4": lb.Quantizer(lb.FP4_E2M1, scale=FIXED),
    "log4": lb.Quantizer(lb.LOG4_RADIX4, scale=lb.FixedScale(2.0**-8)),
    "posit8": lb.Quantizer(lb.POSIT8, scale=lb.FixedScale(2.0**-24)),
    "codebook": lb.Quantizer(SIGNED_CODEBOOK, scale=FIXED),
    "percentile": lb.Quantizer(lb.INT8, scale=lb.PercentileScale(75.0)),
    "mxfp8": lb.Quantizer(lb.MXFP8_E4M3),
    "mxfp4": lb.Quantizer(lb.MXFP4),
    "blocks": lb.Quantizer(lb.INT4, granularity=lb.PerBlock(3), scale=lb.PercentileScale(50.0)),
    "rows": lb.Quantizer(lb.INT4, granularity=lb.PerAxis(0), scale=lb.PercentileScale(80.0)),
    "columns": lb.Quantizer(lb.INT4, granularity=lb.PerAxis(1), scale=lb.PercentileScale(80.0)),
    "groups": lb.Quantizer(lb.INT4, granularity=lb.PerGroup(2, 0), scale=lb.PercentileScale(80.0)),
}
UNCLIPPED = {
    "absmax": lb.Quantizer(lb.INT8),
    "absmax rows": lb.Quantizer(lb.INT2, granularity=lb.PerAxis(0)),
    "power of two": lb.Quantizer(lb.INT4, scale=lb.PowerOfTwoScale()),
    "min max": lb.Quantizer(lb.UINT4, scale=lb.MinMaxScale()),
    "min max rows": lb.Quantizer(lb.UINT8, scale=lb.MinMaxScale(), granularity=lb.PerAxis(0)),
    "fp8 absmax": lb.Quantizer(lb.FP8_E5M2),
}


def thresholds(fmt: lb.ElementFormat) -> tuple[Fraction, Fraction]:
    low, high = code_range(fmt)
    found = (decode_value(code, fmt) for code in range(low, high + 1))
    ends = sorted({Fraction(v) for v in found if math.isfinite(v)})
    return ends[0] - (ends[1] - ends[0]) / 2, ends[-1] + (ends[-1] - ends[-2]) / 2


def expected(x: Tensor, q: QTensor, unclipped: bool) -> OperandCounts:
    """By the definition."""
    low, high = thresholds(q.element_format)
    scale = q.expanded_scale().expand(x.shape).reshape(-1).tolist()
    zero = q.expanded_zero_point().expand(x.shape).reshape(-1).tolist()
    values = q.values().reshape(-1).tolist()
    clipped = vanished = 0
    for v, s, z, value in zip(x.reshape(-1).tolist(), scale, zero, values, strict=True):
        y = math.copysign(math.inf, v) if math.isinf(v) else float32(v * float32(1 / s))
        beyond = math.isinf(y) or (not unclipped and not low < Fraction(y) + z < high)
        clipped += beyond
        vanished += v != 0 and value == 0 and not beyond
    return OperandCounts(elements=x.numel(), clipped=clipped, underflowed=vanished)


def values(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    """Numbers of many sizes, zeros of both signs, ties at the ends of INT4 and an infinity of each sign."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(shape, generator=generator) * torch.exp2(
        torch.randint(-12, 3, shape, generator=generator)
    )
    flat = x.reshape(-1)
    for i, v in enumerate((0.0, -0.0, 3.75, -3.75, 3.7499, 8.0, math.inf, -math.inf, 1e-30)):
        flat[i * 7 % x.numel()] = v
    return x


@pytest.mark.parametrize("name", QUANTIZERS)
@pytest.mark.parametrize("shape", [(6, 32), (5, 7)], ids=str)
def test_counts_are_those_of_the_definition(name, shape) -> None:
    x, quantizer = values(shape), QUANTIZERS[name]
    q = quantizer(x, stream=lb.Stream(seed=0))
    found = count_operand(x, q, quantizer)
    assert found == expected(x, q, unclipped=False)
    assert found.clipped > 2  # more than the infinities


@pytest.mark.parametrize("name", UNCLIPPED)
def test_scales_from_the_maximum_clip_infinities_alone(name) -> None:
    quantizer = UNCLIPPED[name]
    for seed in range(3):
        x = values((6, 32), seed)
        q = quantizer(x)
        assert count_operand(x, q, quantizer) == expected(x, q, unclipped=True)
        assert count_operand(x, q, quantizer).clipped == 2


@pytest.mark.parametrize("name", ["int4 fixed", "int4 wrap", "fp8", "mxfp4", "codebook"])
@settings(max_examples=30)
@given(data=st.data())
def test_any_finite_numbers(name, data) -> None:
    numbers = st.floats(width=32, allow_nan=False, allow_infinity=False, min_value=-64, max_value=64)
    x = torch.tensor(data.draw(st.lists(numbers, min_size=1, max_size=40)))
    quantizer = QUANTIZERS[name]
    q = quantizer(x)
    assert count_operand(x, q, quantizer) == expected(x, q, unclipped=False)


def test_layouts_and_dtypes() -> None:
    quantizer = QUANTIZERS["rows"]
    x = values((32, 6)).to(torch.float16).t()
    q = quantizer(x)
    assert count_operand(x, q, quantizer) == expected(x.float(), q, unclipped=False)
    empty = torch.empty(0, 4)
    assert count_operand(empty, quantizer(empty), quantizer) == OperandCounts(elements=0)


@pytest.mark.parametrize("name", [*QUANTIZERS, *UNCLIPPED])
@pytest.mark.parametrize("shape", [(6, 32), (5, 7)], ids=str)
def test_counts_on_a_device_are_those_on_the_cpu(monkeypatch, name, shape) -> None:
    quantizer = {**QUANTIZERS, **UNCLIPPED}[name]
    x = values(shape)
    q = quantizer(x, stream=lb.Stream(seed=0))
    on_the_cpu = count_operand(x, q, quantizer)
    monkeypatch.setattr(counts, "_count_on_cpu", counts.count_on_device)
    assert count_operand(x, q, quantizer) == on_the_cpu


def test_a_format_without_zero_has_no_underflow() -> None:
    quantizer = lb.Quantizer(lb.CodebookFormat(values=(-1.0, 1.0), name="sign"), scale=lb.FixedScale(1.0))
    x = torch.tensor([0.0, 1e-9, -1e-9, 5.0])
    assert count_operand(x, quantizer(x), quantizer) == OperandCounts(elements=4, clipped=1)


@pytest.mark.parametrize("threads", [1, 2])
def test_threads_and_sizes(threads) -> None:
    quantizer, before = QUANTIZERS["int4 fixed"], torch.get_num_threads()
    x = torch.randn(3, 70_001, generator=torch.Generator().manual_seed(0)) * 4
    torch.set_num_threads(threads)
    try:
        counts = count_operand(x, quantizer(x), quantizer)
    finally:
        torch.set_num_threads(before)
    assert counts.clipped == int((x.abs() >= 3.75).sum())
    assert counts.underflowed == int(((x.abs() <= 0.25) & (x != 0)).sum())


def test_counts_add_up() -> None:
    a, b = OperandCounts(elements=3, clipped=1), OperandCounts(elements=4, clipped=2, underflowed=1)
    assert a + b == OperandCounts(elements=7, clipped=3, underflowed=1)
