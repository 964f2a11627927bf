"""Float32 lanes against the definition: every kind of addition, tails of tiles, random bits, batches and threads."""

import dataclasses
import os
import platform
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lowbit_sim.arith import float_numba, lanes_gemm
from lowbit_sim.arith.float_gemm import run_float_gemm, run_float_gemms
from lowbit_sim.arith.float_mac import FloatMacUnit
from lowbit_sim.arith.lanes_plan import (
    BY_MODE,
    DIRECT,
    NORMAL_AWAY,
    NORMAL_CUT,
    NORMAL_DOWN,
    NORMAL_NEAREST,
    NORMAL_NEAREST_ODD,
    NORMAL_RANDOMLY,
    NORMAL_UP,
    ON_GRID,
    ON_GRID_ODD,
    RANDOMLY,
    Plan,
    extent,
    plan,
)
from lowbit_sim.numerics.catalog import BF16, FP4_E2M1, FP8_E4M3FN, FP8_E5M2, FP16, FP32, TF32
from lowbit_sim.numerics.formats import FloatFormat
from lowbit_sim.numerics.random import Stream
from lowbit_sim.numerics.reference import float_value
from lowbit_sim.numerics.rounding import Rounding, RoundingMode
from tests.arith.float_strategies import DETERMINISTIC, FP16_E6M9, has_overflow_value, same_bits

ACCUMULATORS = [
    FP32,
    TF32,
    FP16,
    BF16,
    FP16_E6M9,
    FP8_E5M2,
    FloatFormat(exponent_bits=5, mantissa_bits=0, bias=15, has_nan=False, name="e5m0"),
    FloatFormat(exponent_bits=8, mantissa_bits=20, bias=127, name="e8m20"),
]
OPERANDS = [FP4_E2M1, FP8_E4M3FN, FP8_E5M2, BF16]


@st.composite
def units(draw):
    """Units that lanes may serve: sequential, of exact products."""
    accumulator, outer = draw(st.sampled_from(ACCUMULATORS)), draw(st.none() | st.sampled_from(ACCUMULATORS))
    mode = draw(st.sampled_from([RoundingMode.NEAREST_EVEN, RoundingMode.STOCHASTIC, *DETERMINISTIC]))
    infinite = has_overflow_value(accumulator) and has_overflow_value(outer)
    rounding = Rounding(
        mode,
        overflow=draw(st.sampled_from(["saturate", "infinity"] if infinite else ["saturate"])),
        random_bits=draw(st.sampled_from([1, 4, 8, 9, 12, 17])) if mode == RoundingMode.STOCHASTIC else 0,
    )
    return FloatMacUnit(
        accumulator=accumulator, outer=outer, rounding=rounding, chunk=draw(st.sampled_from([0, 0, 1, 5, 16]))
    )


def values(fmt, shape, spread, seed):
    """Finite values of a format, the codes between 0 and a share of the largest one equally likely."""
    generator = torch.Generator().manual_seed(seed)
    low, high = spread
    codes = torch.randint(int(low * fmt.max_code), int(high * fmt.max_code) + 1, shape, generator=generator)
    signs = 2.0 * torch.randint(0, 2, shape, generator=generator) - 1
    known = {c: float_value(c, fmt) for c in codes.unique().tolist()}
    return signs * torch.tensor([known[c] for c in codes.flatten().tolist()]).view(shape)


@st.composite
def operands(draw, sizes=((1, 9, 3), (5, 17, 2), (1, 7, 66), (4, 12, 4))):
    m, k, n = draw(st.sampled_from(sizes))
    left, right = draw(st.sampled_from(OPERANDS)), draw(st.sampled_from(OPERANDS))
    spread = draw(st.sampled_from([(0.0, 1.0), (0.0, 0.5), (0.4, 0.6), (0.5, 0.5), (0.0, 0.1)]))
    seed = draw(st.integers(0, 1000))
    return values(left, (m, k), spread, seed), values(right, (k, n), spread, seed + 1)


STREAM = Stream(seed=3, step=1, site=2, operand=5, offset=7)


def in_lanes(a, b, mac, counting=True):
    found = plan(mac, extent(a), extent(b), a.shape[1])
    if isinstance(found, str):
        return None
    return lanes_gemm.run(mac, found, a[None], b[None], STREAM, counting)[0]


@settings(max_examples=60, deadline=None)
@given(operands=operands(), mac=units())
def test_values_and_counts_are_the_definitions(operands, mac):
    got = in_lanes(*operands, mac)
    if got is not None:
        expected = run_float_gemm(*operands, mac, stream=STREAM, backend="reference")
        assert same_bits(got.values, expected.values)
        assert (got.overflows, got.swamped) == (expected.overflows, expected.swamped)
        assert same_bits(in_lanes(*operands, mac, counting=False).values, expected.values)


FP8 = values(FP8_E4M3FN, (5, 24), (0.3, 0.7), 0), values(FP8_E4M3FN, (24, 6), (0.3, 0.7), 1)
WIDE = values(BF16, (5, 24), (0.49, 0.51), 0), values(BF16, (24, 6), (0.49, 0.51), 1)
SMALL = values(FP8_E5M2, (5, 24), (0.0, 0.4), 0), values(FP8_E5M2, (24, 6), (0.1, 0.4), 1)
SMALL_WIDE = values(BF16, (5, 24), (0.44, 0.48), 0), values(BF16, (24, 6), (0.44, 0.48), 1)
SR = Rounding("stochastic", random_bits=8, overflow="infinity")


def rounding_to(mode, fmt=BF16, **settings):
    return FloatMacUnit(accumulator=fmt, rounding=Rounding(mode, "infinity"), **settings)


KINDS = {
    "fp32": (FloatMacUnit(), FP8, DIRECT),
    "fp16": (FloatMacUnit(accumulator=FP16), FP8, NORMAL_NEAREST),
    "fp16 of small ones": (FloatMacUnit(accumulator=FP16), SMALL, ON_GRID),
    "e8m20": (FloatMacUnit(accumulator=ACCUMULATORS[-1]), FP8, NORMAL_NEAREST_ODD),
    "bf16 of bf16": (FloatMacUnit(accumulator=BF16), WIDE, NORMAL_NEAREST_ODD),
    "fp16 of small bf16": (FloatMacUnit(accumulator=FP16), SMALL_WIDE, ON_GRID_ODD),
    "bf16 toward zero": (rounding_to("toward_zero"), FP8, NORMAL_CUT),
    "bf16 of bf16 toward zero": (rounding_to("toward_zero"), WIDE, NORMAL_CUT),
    "bf16 away": (rounding_to("nearest_away"), WIDE, NORMAL_AWAY),
    "bf16 down": (rounding_to("down"), FP8, NORMAL_DOWN),
    "bf16 up": (rounding_to("up"), FP8, NORMAL_UP),
    "bf16 of bf16 up": (rounding_to("up"), WIDE, NORMAL_UP),
    "fp16 of small ones up": (rounding_to("up", FP16), SMALL, BY_MODE),
    "fp16 stochastic": (FloatMacUnit(accumulator=FP16, rounding=SR), FP8, NORMAL_RANDOMLY),
    "fp16 stochastic, chunks of 15": (
        FloatMacUnit(accumulator=FP16, rounding=SR, chunk=15),
        FP8,
        NORMAL_RANDOMLY,
    ),
    "fp16 of small ones stochastic": (FloatMacUnit(accumulator=FP16, rounding=SR), SMALL, RANDOMLY),
}


LARGE = values(FP8_E4M3FN, (6, 30), (0.8, 1.0), 0), values(FP8_E4M3FN, (30, 20), (0.8, 1.0), 1)


def overflowing(mode, overflow):
    bits = 8 if mode == "stochastic" else 0
    rounding = Rounding(mode, overflow=overflow, random_bits=bits)
    return FloatMacUnit(accumulator=FP16, rounding=rounding), LARGE, None


OVERFLOWING = [
    overflowing(mode, overflow)
    for mode in ("nearest_even", "nearest_away", "toward_zero", "up", "down", "stochastic")
    for overflow in ("saturate", "infinity")
]


@pytest.mark.parametrize("name", KINDS)
def test_each_kind_of_addition_is_planned_and_right(name):
    mac, (a, b), kind = KINDS[name]
    found = plan(mac, extent(a), extent(b), a.shape[1])
    assert isinstance(found, Plan)
    assert found.inner == kind
    expected = run_float_gemm(a, b, mac, stream=STREAM, backend="reference")
    got = run_float_gemm(a, b, mac, stream=STREAM)
    assert same_bits(got.values, expected.values)
    assert (got.overflows, got.swamped, got.additions) == (
        expected.overflows,
        expected.swamped,
        expected.additions,
    )
    assert expected.swamped or mac.accumulator.mantissa_bits > 16 or a is SMALL[0]
    uncounted = run_float_gemm(a, b, mac, stream=STREAM, count_overflows=False)
    assert same_bits(uncounted.values, expected.values)


#: Of tiles one to four vectors wide, their last rows and columns, panels longer than they are, and both ways round.
SHAPES = [(5, 40, 16), (17, 33, 70), (9, 600, 33), (70, 520, 3), (3, 17, 129), (1, 30, 200), (40, 16, 100)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", ["fp32", "bf16 toward zero", "fp16 stochastic, chunks of 15"])
def test_every_shape_and_layout_is_the_general_kernels(name, shape, monkeypatch):
    mac = KINDS[name][0]
    m, k, n = shape
    a, b = values(FP8_E4M3FN, (m, k), (0.2, 0.4), 4), values(FP8_E4M3FN, (k, n), (0.2, 0.4), 5)
    a_across, b_across = a.t().contiguous().t(), b.t().contiguous().t()
    layouts = [(a, b), (a_across, b), (a, b_across), (a_across, b_across), (a.repeat(1, 2)[:, :k], b)]
    found = [in_lanes(*layout, mac, counting) for layout in layouts for counting in (False, True)]
    monkeypatch.setattr(float_numba, "make_plan", lambda *_: "asked for")
    expected = float_numba.run(mac, a, b, STREAM)
    for i, got in enumerate(found):
        assert same_bits(got.values, expected.values)
        assert not i % 2 or (got.overflows, got.swamped) == (expected.overflows, expected.swamped)


@pytest.mark.parametrize(
    ("mac", "operands", "_kind"), OVERFLOWING, ids=lambda x: str(x) if isinstance(x, FloatMacUnit) else ""
)
def test_overflows_are_the_same_counted_or_not(mac, operands, _kind):
    a, b = operands
    expected = run_float_gemm(a, b, mac, stream=STREAM, backend="reference")
    assert expected.overflows
    for counting in (False, True):
        got = in_lanes(a, b, mac, counting)
        assert same_bits(got.values, expected.values)
        assert got.overflows == (expected.overflows if counting else None)


@pytest.mark.parametrize("name", ["fp16", "bf16 toward zero", "fp16 stochastic, chunks of 15"])
def test_long_reductions_and_threads_change_nothing(name):
    """A reduction of more than one panel, more rows than a task has, on one thread and two."""
    mac = KINDS[name][0]
    a, b = values(FP8_E4M3FN, (2, 1030), (0.2, 0.4), 2), values(FP8_E4M3FN, (1030, 1), (0.2, 0.4), 3)
    expected = run_float_gemm(a, b, mac, stream=STREAM, backend="reference").values
    many = a.repeat(300, 1)
    threads = torch.get_num_threads()
    try:
        results = []
        for n in (1, 2):
            torch.set_num_threads(n)
            results.append(run_float_gemm(many, b.repeat(1, 90), mac, stream=STREAM).values)
    finally:
        torch.set_num_threads(threads)
    assert same_bits(*results)
    assert same_bits(in_lanes(a, b, mac).values, expected)
    if not mac.rounding.is_stochastic:
        assert same_bits(results[0][:2, :1], expected)
        assert same_bits(results[0], expected.repeat(300, 90))


@pytest.mark.parametrize("name", ["fp16", "fp16 stochastic", "bf16 up"])
@pytest.mark.parametrize(("m", "n"), [(1, 130), (130, 1), (7, 65)])
def test_many_at_once_are_each_alone(name, m, n):
    """Groups of a convolution; each draws from its own part of the stream."""
    mac = KINDS[name][0]
    lhs = [values(FP8_E4M3FN, (m, 9), (0.2, 0.6), i) for i in range(3)]
    rhs = [values(FP8_E4M3FN, (9, n), (0.2, 0.6), 10 + i) for i in range(3)]
    together = run_float_gemms(lhs, rhs, mac, stream=STREAM, apart=1 << 40)
    for i, result in enumerate(together):
        stream = dataclasses.replace(STREAM, offset=STREAM.offset + (i << 40))
        alone = run_float_gemm(lhs[i], rhs[i], mac, stream=stream)
        assert same_bits(result.values, alone.values)
        assert (result.overflows, result.swamped, result.additions) == (
            alone.overflows,
            alone.swamped,
            alone.additions,
        )


def test_unequal_ones_go_their_own_ways():
    mac = FloatMacUnit(accumulator=FP16)
    lhs, rhs = [FP8[0], FP8[0][:2]], [FP8[1], FP8[1]]
    results = run_float_gemms(lhs, rhs, mac)
    assert [list(r.values.shape) for r in results] == [[5, 6], [2, 6]]
    assert same_bits(results[0].values[:2], results[1].values)


def test_counts_that_nobody_asks_for_are_none():
    mac = FloatMacUnit(accumulator=FP16)
    result = run_float_gemm(*FP8, mac, count_overflows=False)
    assert result.swamped is None
    big = torch.full((2, 4), 256.0)
    unknown = run_float_gemm(big * 1.03125, big.t().contiguous() * 1.0009765625, mac, count_overflows=False)
    assert unknown.values.isinf().all()
    assert unknown.overflows is None


WITHOUT_AVX512 = """
from tests.arith.test_lanes_gemm import KINDS, OVERFLOWING, STREAM, in_lanes, run_float_gemm, same_bits
from lowbit_sim.arith.lanes_call import function
for mac, (a, b), _ in [*KINDS.values(), *OVERFLOWING]:
    expected = run_float_gemm(a, b, mac, stream=STREAM, backend="reference")
    for counting in (False, True):
        assert same_bits(in_lanes(a, b, mac, counting).values, expected.values), mac
    counted = in_lanes(a, b, mac)
    assert (counted.overflows, counted.swamped) == (expected.overflows, expected.swamped), mac
print("zmm" in "".join(function(0, 0, 4, 4)[0].inspect_asm().values()))
"""

#: Features of a processor with fused multiply-adds but without additions rounded otherwise than to nearest, and of
#: the plainest one.
PROCESSORS = {"haswell": "+avx,+avx2,+bmi,+bmi2,+fma,+popcnt,+sse4.2", "generic": ""}


@pytest.mark.slow
@pytest.mark.skipif(platform.machine() != "x86_64", reason="features of x86-64 processors")
@pytest.mark.parametrize("processor", PROCESSORS)
def test_processors_without_avx512(processor, tmp_path):
    """There the sum's error tells what the first rounding did, and LLVM splits the vectors."""
    environment = os.environ | {
        "NUMBA_CPU_NAME": processor,
        "NUMBA_CPU_FEATURES": PROCESSORS[processor],
        "NUMBA_CACHE_DIR": str(tmp_path),
    }
    command = [sys.executable, "-c", WITHOUT_AVX512]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.stdout.strip() == "False", done.stderr
