"""Float formats against ml_dtypes, torch and numpy: other implementations of the same specifications."""

from typing import Any

import numpy as np
import pytest
import torch

from lowbit_sim.numerics import catalog
from lowbit_sim.numerics.formats import FloatFormat
from lowbit_sim.numerics.reference import float_value
from lowbit_sim.numerics.rounding import Rounding
from lowbit_sim.quant.qtensor import decode
from tests.numerics.cases import SMALL_FLOATS, kernel_codes, probes

pytestmark = pytest.mark.oracle

TO_INFINITY = Rounding(overflow="infinity")

ML_DTYPES = [
    # format, ml_dtypes' name of it, our overflow that is theirs. ml_dtypes' e4m3fn overflows to NaN, which is
    # our "infinity" in a format without one; its fp6 and fp4, which have neither, saturate.
    (catalog.FP8_E4M3FN, "float8_e4m3fn", TO_INFINITY),
    (catalog.FP8_E5M2, "float8_e5m2", TO_INFINITY),
    (catalog.FP6_E3M2, "float6_e3m2fn", Rounding()),
    (catalog.FP6_E2M3, "float6_e2m3fn", Rounding()),
    (catalog.FP4_E2M1, "float4_e2m1fn", Rounding()),
    (catalog.BF16, "bfloat16", TO_INFINITY),
]
TORCH = [
    (catalog.FP8_E4M3FN, torch.float8_e4m3fn),
    (catalog.FP8_E5M2, torch.float8_e5m2),
    (catalog.BF16, torch.bfloat16),
    (catalog.FP16, torch.float16),
]


def inputs_of(fmt: FloatFormat) -> np.ndarray:
    """Every value, tie and neighbour of a narrow format; of a wide one, random ones and both ends."""
    if fmt in SMALL_FLOATS:
        return probes(fmt)
    rng = np.random.default_rng(0)
    patterns = rng.integers(0, 1 << 32, 200_000, dtype=np.uint64).astype(np.uint32)
    anywhere = patterns.view(np.float32)
    codes = rng.integers(0, fmt.max_code, 100_000)
    values = decode(torch.from_numpy(codes), fmt).numpy()
    above = decode(torch.from_numpy(codes + 1), fmt).numpy()
    ties = (values * 0.5 + above * 0.5).astype(np.float32)
    top = np.float32(fmt.max_value) * np.linspace(0.99, 1.0, 1001, dtype=np.float32)
    near = [np.nextafter(ties, np.float32(limit)) for limit in (0.0, 3e38)]
    inputs = np.concatenate([anywhere, ties, -ties, *near, top, -top])
    return inputs[~np.isnan(inputs)]


def type_of(name: str) -> Any:
    """One of ml_dtypes' types, by name."""
    ml_dtypes = pytest.importorskip("ml_dtypes", reason="ml_dtypes is not installed")
    return getattr(ml_dtypes, name)


def same_values(found: np.ndarray, expected: np.ndarray) -> None:
    """Equal float32 values with equal signs of zero; a NaN is a NaN whatever its bits."""
    np.testing.assert_array_equal(found, expected)
    finite = ~np.isnan(expected)
    np.testing.assert_array_equal(np.signbit(found)[finite], np.signbit(expected)[finite])


@pytest.mark.parametrize(("fmt", "name", "how"), ML_DTYPES, ids=lambda v: str(v))
def test_rounding_equals_ml_dtypes(fmt: FloatFormat, name: str, how: Rounding) -> None:
    inputs = inputs_of(fmt)
    with np.errstate(over="ignore", invalid="ignore"):
        expected = inputs.astype(type_of(name)).astype(np.float32)
    same_values(decode(torch.from_numpy(kernel_codes(inputs, fmt, how)), fmt).numpy(), expected)


@pytest.mark.parametrize(("fmt", "name", "how"), ML_DTYPES, ids=lambda v: str(v))
def test_every_code_reads_as_in_ml_dtypes(fmt: FloatFormat, name: str, how: Rounding) -> None:
    codes = np.arange(1 << fmt.bits, dtype=np.uint16 if fmt.bits == 16 else np.uint8)
    with np.errstate(invalid="ignore"):
        expected = codes.view(type_of(name)).astype(np.float32)
    same_values(decode(torch.from_numpy(codes.astype(np.int64)), fmt).numpy(), expected)


def test_half_precision_equals_numpy() -> None:
    inputs = inputs_of(catalog.FP16)
    with np.errstate(over="ignore", under="ignore"):
        expected = inputs.astype(np.float16).astype(np.float32)
    codes = kernel_codes(inputs, catalog.FP16, TO_INFINITY)
    same_values(decode(torch.from_numpy(codes), catalog.FP16).numpy(), expected)


@pytest.mark.parametrize(("fmt", "dtype"), TORCH, ids=str)
def test_rounding_equals_torch_below_overflow(fmt: FloatFormat, dtype: torch.dtype) -> None:
    inputs = inputs_of(fmt)
    inputs = inputs[np.abs(inputs) <= fmt.max_value]
    expected = torch.from_numpy(inputs).to(dtype).to(torch.float32).numpy()
    for how in (Rounding(), TO_INFINITY):
        same_values(decode(torch.from_numpy(kernel_codes(inputs, fmt, how)), fmt).numpy(), expected)


def _torch_overflows_to(dtype: torch.dtype, x: float) -> float:
    return torch.tensor([x]).to(dtype).to(torch.float32).item()


@pytest.mark.parametrize("x", [464.00003, 480.0, 1e6, 3e38])
def test_torch_overflow_of_e4m3_is_one_of_ours(x: float) -> None:
    # torch saturates finite numbers from release 2.13 on and gave NaN before; never a third thing.
    ours = [
        float_value(
            int(kernel_codes(np.array([x], dtype=np.float32), catalog.FP8_E4M3FN, how)[0]), catalog.FP8_E4M3FN
        )
        for how in (Rounding(), TO_INFINITY)
    ]
    theirs = _torch_overflows_to(torch.float8_e4m3fn, x)
    assert any(np.array_equal(theirs, value, equal_nan=True) for value in ours)


@pytest.mark.parametrize(
    ("fmt", "bits_as"), [(catalog.BF16, torch.bfloat16), (catalog.FP16, torch.float16)], ids=str
)
def test_all_65536_patterns_survive_a_round_trip(fmt: FloatFormat, bits_as: torch.dtype) -> None:
    codes = torch.arange(1 << 16)
    values = codes.to(torch.int32).to(torch.uint16).view(bits_as).to(torch.float32)
    same_values(decode(codes, fmt).numpy(), values.numpy())
    number = ~torch.isnan(values).numpy()
    for mode in ("nearest_even", "nearest_away", "toward_zero", "down", "up"):
        again = kernel_codes(values.numpy(), fmt, Rounding(mode, "infinity"))
        np.testing.assert_array_equal(again[number], codes.numpy()[number])
        assert (again[~number] == fmt.nan_code).all()


def test_every_code_of_e8m0_reads_as_in_ml_dtypes_and_torch() -> None:
    codes = np.arange(256, dtype=np.uint8)
    found = decode(torch.from_numpy(codes), catalog.E8M0).numpy()
    np.testing.assert_array_equal(found, codes.view(type_of("float8_e8m0fnu")).astype(np.float32))
    theirs = torch.from_numpy(codes).view(torch.float8_e8m0fnu).to(torch.float32).numpy()
    np.testing.assert_array_equal(found, theirs)


def test_e8m0_rounds_to_nearest_and_ties_up_as_ml_dtypes_and_torch() -> None:
    # From the smallest value to the largest; beyond, these give NaN where this project's only rule saturates.
    powers = np.float32(2.0) ** np.arange(-126, 127, dtype=np.float32)
    parts = np.array([1, 1.25, 1.4999999, 1.5, 1.5000001, 1.75, 1.9999999], dtype=np.float32)
    inputs = np.concatenate([(powers[:, None] * parts).reshape(-1), [2.0**127, 2.0**-127]]).astype(np.float32)
    found = decode(torch.from_numpy(kernel_codes(inputs, catalog.E8M0, Rounding())), catalog.E8M0).numpy()
    theirs = inputs.astype(type_of("float8_e8m0fnu")).astype(np.float32)
    np.testing.assert_array_equal(found, theirs)
    in_torch = torch.from_numpy(inputs).to(torch.float8_e8m0fnu).to(torch.float32).numpy()
    np.testing.assert_array_equal(found, in_torch)
