"""What every backend of the floating-point GEMM must do: return the reference's bits or say why it can't run.

A new backend joins `BACKENDS` and is tested here without another line; but for the one that a GPU runs, which has
smaller tests of its own, in Triton's interpreter.
"""

import pytest
import torch
from hypothesis import given, settings

from lowbit_sim.arith import float_numba, float_triton
from lowbit_sim.arith.float_gemm import BACKENDS, run_float_gemm
from lowbit_sim.arith.float_mac import FloatMacUnit
from lowbit_sim.numerics.catalog import BF16, FP4_E2M1, FP8_E4M3FN, FP16, FP32
from lowbit_sim.numerics.random import Stream
from lowbit_sim.numerics.rounding import Rounding
from tests.arith.float_strategies import FP16_E6M9, float_mac_units, float_operands, same_bits

FAST = sorted(set(BACKENDS) - {"reference", float_triton.NAME})
STREAM = Stream(seed=3, step=1, site=4, operand=1, offset=5)
STOCHASTIC = Rounding("stochastic", random_bits=8)


def check(a, b, mac, backend, stream=STREAM):
    """The backend's result is the reference's, or the backend refuses with a reason; True if it ran."""
    if backend is not None and (reason := BACKENDS[backend].why_not(mac, a, b)):
        with pytest.raises(ValueError, match="can't run") as refusal:
            run_float_gemm(a, b, mac, stream=stream, backend=backend)
        assert reason in str(refusal.value)
        return False
    try:
        expected = run_float_gemm(a, b, mac, stream=stream, backend="reference")
    except ValueError:
        with pytest.raises(ValueError, match="NaN"):
            run_float_gemm(a, b, mac, stream=stream, backend=backend)
        return True
    result = run_float_gemm(a, b, mac, stream=stream, backend=backend)
    assert same_bits(result.values, expected.values)
    assert result.additions == expected.additions == expected.values.numel() * mac.additions(a.shape[1])
    assert (result.overflows, result.swamped) == (expected.overflows, expected.swamped)
    return True


@pytest.mark.parametrize("backend", [*FAST, None])
@given(matrices=float_operands(), mac=float_mac_units())
@settings(max_examples=200)
def test_equals_the_reference(backend, matrices, mac):
    check(*matrices, mac, backend)


def normals(m, k, n, dtype=torch.bfloat16, seed=0):
    generator = torch.Generator().manual_seed(seed)
    a, b = torch.randn(m, k, generator=generator), torch.randn(k, n, generator=generator)
    return a.to(dtype).to(torch.float32), b.to(dtype).to(torch.float32)


UNITS = [
    FloatMacUnit(),
    FloatMacUnit(chunk=5, outer=FP16),
    FloatMacUnit(accumulator=FP16, chunk=5, outer=FP32),
    FloatMacUnit(accumulator=FP16, rounding=Rounding("down")),
    FloatMacUnit(accumulator=FP8_E4M3FN, order="tree", chunk=16),
    FloatMacUnit(accumulator=BF16, order="tree", rounding=STOCHASTIC),
    FloatMacUnit(accumulator=BF16, kahan=True, chunk=7, rounding=STOCHASTIC),
    FloatMacUnit(accumulator=FP16_E6M9, product=FP8_E4M3FN, rounding=Rounding("toward_zero")),
]
EDGES = [1, float_numba.BLOCK - 1, float_numba.BLOCK, float_numba.BLOCK + 1]


@pytest.mark.parametrize("mac", UNITS, ids=str)
@pytest.mark.parametrize("long_side", ["m", "n"])
def test_sizes_around_the_kernels_block(mac, long_side):
    for size in EDGES:
        m, n = (size, 1) if long_side == "m" else (1, size)
        assert check(*normals(m, 2, n), mac, "numba_cpu")


@pytest.mark.parametrize("mac", UNITS, ids=str)
@pytest.mark.parametrize(("m", "n", "k"), [(0, 3, 4), (3, 0, 4), (3, 2, 0), (0, 0, 0)])
def test_empty_operands(mac, m, n, k):
    for backend in ("numba_cpu", None):
        assert check(torch.ones(m, k), torch.ones(k, n), mac, backend)


@pytest.mark.parametrize("mac", UNITS, ids=str)
@pytest.mark.parametrize("k", [34, 35, 36, 65])
def test_long_reductions(mac, k):
    assert check(*normals(2, k, 3), mac, "numba_cpu")
    assert check(*normals(3, k, 2, torch.float32), mac, "numba_cpu")


@pytest.mark.parametrize("mode", ["nearest_even", "down", "up"])
@pytest.mark.parametrize(("chunk", "outer"), [(0, None), (0, FP4_E2M1), (1, None), (2, FP16)])
def test_signs_of_zeros_in_compensated_sums(mode, chunk, outer):
    """c starts at +0, so that the first term is added to -0, in the outer accumulator too."""
    mac = FloatMacUnit(accumulator=FP4_E2M1, rounding=Rounding(mode), kahan=True, chunk=chunk, outer=outer)
    a = torch.tensor([[x, y, z] for x in (0.0, -0.0, 0.25) for y in (0.0, -0.25) for z in (-0.0, 0.5)])
    for b in (torch.ones(3, 1), -torch.ones(3, 2)):
        assert check(a, b, mac, "numba_cpu")
        assert check(a[:, :1], b[:1], mac, "numba_cpu")


@pytest.mark.parametrize("order", ["sequential", "tree"])
@pytest.mark.parametrize("random_bits", [1, 8, 9, 16, 17, 27])
def test_every_width_of_a_draw(order, random_bits):
    rounding = Rounding("stochastic", random_bits=random_bits)
    mac = FloatMacUnit(
        accumulator=FP16, rounding=rounding, order=order, chunk=4, outer=FP32 if random_bits < 20 else None
    )
    assert check(*normals(5, 37, 2), mac, "numba_cpu")
    assert check(*normals(2, 37, 5), mac, "numba_cpu")


@pytest.mark.parametrize("mac", UNITS, ids=str)
def test_threads_change_no_bit(mac, torch_threads):
    a, b = normals(40, 64, 600)
    results = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        results.append(run_float_gemm(a, b, mac, stream=STREAM, backend="numba_cpu"))
    assert same_bits(results[0].values, results[1].values)
    assert results[0].swamped == results[1].swamped
    assert results[0].overflows == results[1].overflows


@pytest.mark.parametrize("order", ["sequential", "tree"])
def test_rows_can_be_computed_apart(order):
    """A slice of rows with the stream moved on to its first addition draws the bits of the whole."""
    mac = FloatMacUnit(accumulator=BF16, rounding=STOCHASTIC, order=order)
    a, b = normals(9, 20, 3)
    whole = run_float_gemm(a, b, mac, stream=STREAM).values
    moved = Stream(seed=3, step=1, site=4, operand=1, offset=5 + 4 * 3 * mac.additions(20))
    assert same_bits(run_float_gemm(a[4:], b, mac, stream=moved).values, whole[4:])


@given(matrices=float_operands())
@settings(max_examples=100)
def test_float32_to_nearest(matrices):
    """The accumulator that may take the processor's own arithmetic, on operands of every kind."""
    a, b = matrices
    narrow = a.to(torch.bfloat16).to(torch.float32), b.to(torch.bfloat16).to(torch.float32)
    for mac in (FloatMacUnit(), FloatMacUnit(chunk=3), FloatMacUnit(rounding=Rounding())):
        check(a, b, mac, "numba_cpu")
        check(*narrow, mac, "numba_cpu")
