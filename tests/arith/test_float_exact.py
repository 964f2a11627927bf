"""The proof that no addition rounds: at its limits, and what it refuses."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lowbit_sim.arith.float_exact import (
    Proof,
    _codes,
    _hopeless,
    _used_bits,
    prove,
    used_bits_on_device,
    whole_multiples,
)
from lowbit_sim.arith.float_gemm import run_float_gemm
from lowbit_sim.arith.float_mac import FloatMacUnit
from lowbit_sim.arith.lanes_plan import extent
from lowbit_sim.numerics.catalog import BF16, FP4_E2M1, FP8_E4M3FN, FP16, FP32
from lowbit_sim.numerics.formats import FloatFormat
from lowbit_sim.numerics.random import Stream
from lowbit_sim.numerics.rounding import Rounding, RoundingMode
from tests.arith.float_strategies import same_bits


@given(
    codes=st.lists(st.integers(-65535, 65535), min_size=1, max_size=6),
    exponent=st.integers(-149, 110),
)
def test_whole_multiples(codes, exponent):
    x = torch.tensor([float(c) for c in codes], dtype=torch.float64)
    x = (x * 2.0**exponent).to(torch.float32)[None]
    multiples = whole_multiples(x)
    assert multiples is not None
    integers, found = multiples
    assert torch.equal(integers.to(torch.float64) * 2.0**found, x.to(torch.float64))
    assert int(integers.to(torch.int64).abs().max()) <= 65535
    assert not any(codes) or bool((integers % 2).any())  # the exponent is the largest
    fits = int(integers.to(torch.int64).abs().max()) <= 127
    assert integers.dtype == (torch.int8 if fits else torch.int32)


@given(
    codes=st.lists(st.integers(-65535, 65535), min_size=1, max_size=6),
    exponent=st.integers(-149, 110),
)
def test_codes_by_the_extent_are_the_same(codes, exponent):
    x = (torch.tensor([codes], dtype=torch.float64) * 2.0**exponent).to(torch.float32)
    expected, found = whole_multiples(x), _codes(x, extent(x))
    assert expected is not None
    assert found is not None
    assert found[1] == expected[1]
    assert found[0].dtype == expected[0].dtype
    assert torch.equal(found[0], expected[0])


@given(
    largest=st.sampled_from([1, 7, 100, 1000, 60000]),
    shape=st.sampled_from([(1, 1, 1), (3, 40, 2), (20, 9, 30), (2, 300, 17)]),
    chunk=st.sampled_from([0, 4, 64]),
    accumulator=st.sampled_from([FP16, BF16, FP32]),
    seed=st.integers(0, 100),
)
def test_a_look_at_a_few_sums_refuses_no_proof(largest, shape, chunk, accumulator, seed):
    """And finds that there is none where operands are alike everywhere."""
    m, k, n = shape
    generator = torch.Generator().manual_seed(seed)
    a, b = (torch.randint(-largest, largest + 1, s, generator=generator) * 0.25 for s in ((m, k), (k, n)))
    mac = FloatMacUnit(accumulator=accumulator, chunk=chunk)
    extents = extent(a), extent(b)
    known, sampled = prove(mac, a, b), prove(mac, a, b, extents)
    assert isinstance(known, Proof) == isinstance(sampled, Proof)
    if isinstance(known, Proof) and isinstance(sampled, Proof):
        assert torch.equal(known.left, sampled.left)
        assert torch.equal(known.right, sampled.right)
        assert (known.exponent, known.why) == (sampled.exponent, sampled.why)
        assert _hopeless(mac, a, b, extents) is None
    ones = torch.ones(9, 2049)
    hopeless = _hopeless(mac, ones * 2000, ones.t(), (extent(ones * 2000), extent(ones)))
    # 2000 is 125 x 2^4.
    assert (hopeless is None) == ((chunk or 2049) * 125 <= 2 << accumulator.mantissa_bits)


@pytest.mark.parametrize("x", [65537.0, 1 + 2.0**-16, float("inf"), float("nan"), -float("inf")])
def test_values_that_are_no_whole_multiples(x):
    assert whole_multiples(torch.tensor([[1.0, x]])) is None


def test_an_empty_or_zero_tensor():
    for x in (torch.zeros(2, 3), torch.empty(0, 3)):
        multiples = whole_multiples(x)
        assert multiples is not None
        integers, exponent = multiples
        assert (integers.shape, exponent, int(integers.abs().sum())) == (x.shape, 0, 0)


def column(*values):
    return torch.tensor([[v] for v in values])


@pytest.mark.parametrize(
    ("mac", "a", "refusal"),
    [
        (FloatMacUnit(accumulator=FP16), [2047.0], None),
        (FloatMacUnit(accumulator=FP16), [1024.0, 1021.0], None),
        (FloatMacUnit(accumulator=FP16), [1024.0, 1025.0], "no bound covers"),
        (FloatMacUnit(accumulator=FP16, chunk=1, outer=BF16), [200.0, 53.0], None),
        (FloatMacUnit(accumulator=FP16, chunk=1, outer=BF16), [200.0, 57.0], "no bound covers"),
        (FloatMacUnit(accumulator=BF16, outer=FP16), [200.0, 53.0], None),
        (FloatMacUnit(accumulator=BF16, outer=FP16), [200.0, 57.0], "no bound covers"),
        (FloatMacUnit(accumulator=FP16), [2.0**-24], None),
        (FloatMacUnit(accumulator=FP16), [2.0**-25], "finer than fp16"),
        (FloatMacUnit(accumulator=FP16), [32768.0, 16384.0], "may leave fp16"),
        (FloatMacUnit(accumulator=FP16), [32768.0], None),
        (FloatMacUnit(rounding=Rounding("down")), [1.0], "mode 'down'"),
        (FloatMacUnit(accumulator=FP8_E4M3FN), [1.0], "mantissa bits"),
        (FloatMacUnit(), [1 + 2.0**-20], "not whole multiples"),
        (FloatMacUnit(product=FP8_E4M3FN), [15.0], None),
        (FloatMacUnit(product=FP8_E4M3FN), [17.0], "may round in fp8_e4m3fn"),
        (FloatMacUnit(product=FP4_E2M1, product_rounding=Rounding()), [8.0], "may round in fp4_e2m1"),
        (FloatMacUnit(product=FP4_E2M1, product_rounding=Rounding()), [0.25], "may round in fp4_e2m1"),
    ],
)
def test_the_limits_of_the_proof(mac, a, refusal):
    row = torch.tensor([a])
    proof = prove(mac, row, torch.ones(len(a), 1))
    if refusal is None:
        assert isinstance(proof, Proof)
        result = run_float_gemm(row, torch.ones(len(a), 1), mac)
        assert (result.backend, result.values.item()) == ("torch_exact", sum(a))
    else:
        assert isinstance(proof, str)
        assert refusal in proof


def test_without_subnormals_the_grid_ends_at_the_smallest_normal():
    flushed = FloatFormat(exponent_bits=5, mantissa_bits=10, bias=15, has_subnormals=False)
    for exponent, proven in ((-14, True), (-15, False)):
        row = torch.tensor([[2.0**exponent]])
        proof = prove(FloatMacUnit(accumulator=flushed), row, torch.ones(1, 1))
        assert isinstance(proof, Proof) is proven


@pytest.mark.parametrize("mode", [mode for mode in RoundingMode if mode != RoundingMode.DOWN])
@pytest.mark.parametrize("order", ["sequential", "tree"])
def test_where_it_is_proven_neither_mode_nor_order_matters(mode, order):
    generator = torch.Generator().manual_seed(0)
    a = torch.randint(-7, 8, (4, 30), generator=generator) * 0.25
    b = torch.randint(-7, 8, (30, 5), generator=generator) * 0.5
    bits = 8 if mode == RoundingMode.STOCHASTIC else 0
    mac = FloatMacUnit(accumulator=FP16, rounding=Rounding(mode, random_bits=bits), order=order, chunk=8)
    results = {
        backend: run_float_gemm(a, b, mac, stream=Stream(seed=0), backend=backend)
        for backend in ("reference", "numba_cpu", "torch_exact")
    }
    for result in results.values():
        assert same_bits(result.values, a @ b)
        assert (result.overflows, result.swamped) == (0, 0)


def test_compensated_sums_of_proven_operands():
    a, b = torch.tensor([[3.0, -5.0, 2.0]]), column(1.0, 1.0, 1.0)
    mac = FloatMacUnit(kahan=True)
    for backend in ("reference", "numba_cpu", "torch_exact"):
        result = run_float_gemm(a, b, mac, backend=backend)
        assert same_bits(result.values, torch.tensor([[0.0]]))
        assert result.additions == 12


@given(numbers=st.lists(st.integers(-65535, 65535), min_size=1, max_size=6).filter(any))
def test_used_bits_on_a_device(numbers):
    whole = torch.tensor([numbers], dtype=torch.int32)
    (zeros, used), (device_zeros, largest) = _used_bits(whole), used_bits_on_device(whole)
    assert device_zeros == zeros
    assert largest.bit_length() == used.bit_length()
