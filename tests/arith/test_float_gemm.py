"""Against arithmetic that is not this project's: the C library's fused multiply-add, numpy, ml_dtypes."""

import ctypes
import ctypes.util
import platform

import ml_dtypes
import numpy as np
import pytest
import torch
from hypothesis import given, settings

import lowbit_sim as lb
from lowbit_sim.arith.float_gemm import BACKENDS, run_float_gemm
from lowbit_sim.arith.float_mac import FloatMacUnit
from lowbit_sim.numerics.catalog import BF16, FP4_E2M1, FP8_E4M3FN, FP8_E5M2, FP16
from lowbit_sim.numerics.random import Stream
from lowbit_sim.numerics.rounding import Rounding
from tests.arith.float_strategies import FP16_E6M9, float_operands, same_bits

#: <fenv.h> of glibc: machine -> rounding mode -> argument of fesetround.
FENV = {
    "x86_64": {"nearest_even": 0, "down": 0x400, "up": 0x800, "toward_zero": 0xC00},
    "aarch64": {"nearest_even": 0, "up": 0x400000, "down": 0x800000, "toward_zero": 0xC00000},
}


@pytest.fixture(scope="module")
def libm():
    name = ctypes.util.find_library("m")
    if name is None or platform.system() != "Linux" or platform.machine() not in FENV:
        pytest.skip("no C library whose rounding modes are known")
    library = ctypes.CDLL(name)
    library.fmaf.restype = ctypes.c_float
    library.fmaf.argtypes = [ctypes.c_float] * 3
    return library


def fused_sums(a, b, libm, mode):
    """float32 sums by fmaf in one of the processor's rounding modes."""
    out = torch.zeros(a.shape[0], b.shape[1])
    rows, columns = a.tolist(), b.t().tolist()
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            total = 0.0
            for x, y in zip(row, column, strict=True):
                libm.fesetround(FENV[platform.machine()][mode])
                total = libm.fmaf(x, y, total)
                libm.fesetround(0)
            out[i, j] = total
    return out


@pytest.mark.parametrize("mode", ["nearest_even", "down", "up", "toward_zero"])
@given(matrices=float_operands())
@settings(max_examples=100)
def test_float32_is_the_c_librarys_fused_multiply_add(libm, mode, matrices):
    """All of float32: subnormals, infinities, NaN, signed zeros, overflow in each direction."""
    mac = FloatMacUnit(rounding=Rounding(mode, overflow="infinity"))
    expected = fused_sums(*matrices, libm, mode)
    assert same_bits(run_float_gemm(*matrices, mac).values, expected)
    assert same_bits(run_float_gemm(*matrices, mac, backend="reference").values, expected)


ORACLES = {
    "fp16": (FP16, np.float16),
    "bf16": (BF16, ml_dtypes.bfloat16),
    "fp8_e5m2": (FP8_E5M2, ml_dtypes.float8_e5m2),
    "fp8_e4m3fn": (FP8_E4M3FN, ml_dtypes.float8_e4m3fn),
}


@pytest.mark.oracle
@pytest.mark.parametrize("name", sorted(ORACLES))
@pytest.mark.parametrize("scale", [0.01, 1.0, 40.0])
@pytest.mark.parametrize("kahan", [False, True])
def test_narrow_accumulators_add_as_numpys_scalars_do(name, scale, kahan):
    """Products and sums in the narrow type: the oracles compute in float32 and round, which for at most 11
    significant bits is one rounding (Figueroa 1995: 24 >= 2 x 11 + 2).
    """
    fmt, dtype = ORACLES[name]
    rng = np.random.default_rng(7)
    a, b = ((scale * rng.standard_normal(shape)).astype(dtype) for shape in ((3, 40), (40, 5)))
    mac = FloatMacUnit(accumulator=fmt, product=fmt, kahan=kahan)
    out = np.zeros((3, 5), dtype=np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        for i in range(3):
            for j in range(5):
                total = correction = dtype(0)
                for k in range(40):
                    term = a[i, k] * b[k, j]
                    if kahan:
                        term = term - correction
                        correction = ((total + term) - total) - term
                    total = total + term
                out[i, j] = total
    left, right = (torch.from_numpy(x.astype(np.float32)) for x in (a, b))
    assert same_bits(run_float_gemm(left, right, mac).values, torch.from_numpy(out))


def bf16_normals(m, k, n):
    generator = torch.Generator().manual_seed(5)
    a, b = torch.randn(m, k, generator=generator), torch.randn(k, n, generator=generator)
    return a.bfloat16().float(), b.bfloat16().float()


@pytest.mark.parametrize("chunk", [0, 16])
def test_float32_sums_of_exact_products_are_numpys(chunk):
    a, b = bf16_normals(6, 100, 7)
    total = np.zeros((6, 7), dtype=np.float32)
    for start in range(0, 100, chunk or 100):
        inner = np.zeros((6, 7), dtype=np.float32)
        for k in range(start, min(start + (chunk or 100), 100)):
            inner += a.numpy()[:, k, None] * b.numpy()[None, k]
        total += inner
    result = run_float_gemm(a, b, FloatMacUnit(chunk=chunk))
    assert "float32 arithmetic" in result.why
    assert same_bits(result.values, torch.from_numpy(total))


@pytest.mark.parametrize(
    ("a", "b", "float32"),
    [
        ([[1 + 2.0**-11]], [[1 + 2.0**-11]], True),  # 12 + 12 bits
        ([[1 + 2.0**-12]], [[1 + 2.0**-11]], False),
        ([[1 + 2.0**-23]], [[2.0**5]], True),  # a power of two widens nothing
        ([[2.0**-100]], [[2.0**-49]], True),
        ([[2.0**-100]], [[2.0**-50]], False),  # below the smallest subnormal
        ([[3 * 2.0**-149]], [[0.5]], False),
        ([[2.0**63]], [[2.0**63]], True),
        ([[2.0**64]], [[2.0**63]], False),
        ([[float("inf")]], [[1.0]], False),
        ([[float("nan")]], [[1.0]], False),
        ([[0.0, 2.0**-149]], [[1.0], [1.0]], True),
    ],
)
def test_when_the_processors_own_arithmetic_is_used(a, b, float32):
    result = run_float_gemm(torch.tensor(a), torch.tensor(b), FloatMacUnit(), backend="numba_cpu")
    assert ("float32 arithmetic" in result.why) is float32


def test_a_long_sum_of_equal_products_stagnates_and_chunks_save_it():
    """Wang et al. 2018 (arXiv 1812.08011), section 2.2: an accumulator of 1 + 6 + 9 bits, chunks of 64.

    The sum of ones stops at 2^10, where the spacing becomes 2 and 1 is a tie that falls back; chunks reach 64
    and their sums 4096 without a rounding.
    """
    ones = torch.ones(1, 4096), torch.ones(4096, 1)
    for backend in ("reference", "numba_cpu"):
        plain = run_float_gemm(*ones, FloatMacUnit(accumulator=FP16_E6M9), backend=backend)
        assert (plain.values.item(), plain.swamped, plain.overflows) == (1024.0, 4096 - 1024, 0)
        chunked = run_float_gemm(*ones, FloatMacUnit(accumulator=FP16_E6M9, chunk=64), backend=backend)
        assert (chunked.values.item(), chunked.swamped) == (4096.0, 0)
        assert str(plain).endswith("overflows: 0 of 4096 additions; swamped: 3072")
        tree = run_float_gemm(*ones, FloatMacUnit(accumulator=FP16_E6M9, order="tree"), backend=backend)
        assert tree.values.item() == 4096.0


def test_stochastic_additions_do_not_stagnate():
    """Each addition is unbiased while no product is finer than its 8 random bits resolve."""
    rounding = Rounding("stochastic", random_bits=8)
    mac = FloatMacUnit(accumulator=FP16_E6M9, rounding=rounding)
    a, b = torch.ones(1, 4096), torch.ones(4096, 400)
    sums = run_float_gemm(a, b, mac, stream=Stream(seed=1)).values
    error = sums.std() / 20  # of a mean of 400
    assert abs(sums.mean() - 4096) < 4 * error
    assert sums.std() > 10


def test_overflow_is_counted_and_kept():
    a, b = torch.full((1, 4), 256.0), torch.full((4, 1), 256.0)
    for backend in ("reference", "numba_cpu"):
        ieee = run_float_gemm(a, b, FloatMacUnit(accumulator=FP16), backend=backend)
        assert (ieee.values.item(), ieee.overflows) == (float("inf"), 1)
        clipped = run_float_gemm(a, b, FloatMacUnit(accumulator=FP16, rounding=Rounding()), backend=backend)
        assert (clipped.values.item(), clipped.overflows) == (65504.0, 4)


def test_a_nan_needs_a_format_that_has_one():
    mac = FloatMacUnit(accumulator=FP4_E2M1, rounding=Rounding())
    a = torch.tensor([[float("nan"), 1.0]])
    for backend in ("reference", "numba_cpu", None):
        with pytest.raises(ValueError, match="fp4_e2m1"):
            run_float_gemm(a, torch.ones(2, 1), mac, backend=backend)


@pytest.mark.parametrize(
    ("a", "b", "error", "message"),
    [
        (
            torch.ones(2, 2, dtype=torch.float64),
            torch.ones(2, 2),
            TypeError,
            "got torch.float64 for operand a",
        ),
        (torch.ones(2, 2), torch.ones(2, 2, dtype=torch.int8), TypeError, "got torch.int8 for operand b"),
        (torch.ones(2, 3), torch.ones(2, 2), ValueError, r"got \[2, 3\] and \[2, 2\]"),
        (torch.ones(2), torch.ones(2, 2), ValueError, r"got \[2\] and \[2, 2\]"),
    ],
)
def test_bad_operands_are_refused(a, b, error, message):
    with pytest.raises(error, match=message):
        run_float_gemm(a, b, FloatMacUnit())


def test_stochastic_rounding_needs_a_stream():
    mac = FloatMacUnit(rounding=Rounding("stochastic", random_bits=4))
    with pytest.raises(ValueError, match="needs a stream"):
        run_float_gemm(torch.ones(1, 1), torch.ones(1, 1), mac)


def test_an_unknown_backend():
    with pytest.raises(ValueError, match="did you mean 'numba_cpu'"):
        run_float_gemm(torch.ones(1, 1), torch.ones(1, 1), FloatMacUnit(), backend="numba")
    assert sorted(BACKENDS) == ["numba_cpu", "reference", "torch_exact", "triton_gpu"]


def test_gemm_takes_both_kinds_of_unit():
    a, b = bf16_normals(2, 10, 3)
    mac = FloatMacUnit(accumulator=BF16, rounding=Rounding("stochastic", random_bits=8))
    stream = Stream(seed=2)
    values, why = lb.gemm(a, b, mac, stream=stream, explain=True)
    assert same_bits(values, run_float_gemm(a, b, mac, stream=stream).values)
    assert same_bits(lb.gemm(a, b, mac, stream=stream, backend="reference"), values)
    assert why.backend == "numba_cpu"
    assert why.additions == 60
    with pytest.raises(TypeError, match="integer codes"):
        lb.gemm(a, b)
