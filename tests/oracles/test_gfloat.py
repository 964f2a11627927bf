"""Every rounding mode of the float formats against gfloat, which has IEEE 754's modes and overflow rule."""

import numpy as np
import pytest
import torch

from lowbit_sim.numerics import catalog
from lowbit_sim.numerics.encode import code_range
from lowbit_sim.numerics.formats import FixedFormat, FloatFormat
from lowbit_sim.numerics.random import Stream
from lowbit_sim.numerics.reference_blocks import element_exponent, shared_exponent
from lowbit_sim.numerics.rounding import Rounding
from lowbit_sim.quant.qtensor import decode
from tests.numerics.cases import kernel_codes, overflows, probes, stream_draws

gfloat = pytest.importorskip("gfloat", reason="gfloat is not installed")
formats = pytest.importorskip("gfloat.formats", reason="gfloat is not installed")

pytestmark = [
    pytest.mark.oracle,
    # gfloat computes both branches of a selection, so infinities meet integer conversions that it then drops.
    pytest.mark.filterwarnings("ignore::RuntimeWarning:gfloat.*"),
]

PAIRS = [
    (catalog.FP8_E4M3FN, formats.format_info_ocp_e4m3),
    (catalog.FP8_E5M2, formats.format_info_ocp_e5m2),
    (catalog.FP4_E2M1, formats.format_info_ocp_e2m1),
    (catalog.FP6_E3M2, formats.format_info_ocp_e3m2),
    (catalog.FP6_E2M3, formats.format_info_ocp_e2m3),
    (catalog.FP16, formats.format_info_binary16),
    (catalog.BF16, formats.format_info_bfloat16),
]
MODES = {
    "nearest_even": gfloat.RoundMode.TiesToEven,
    "nearest_away": gfloat.RoundMode.TiesToAway,
    "toward_zero": gfloat.RoundMode.TowardZero,
    "down": gfloat.RoundMode.TowardNegative,
    "up": gfloat.RoundMode.TowardPositive,
}


def _rounded(inputs: np.ndarray, fmt: FloatFormat, how: Rounding, stream: Stream | None = None) -> np.ndarray:
    return decode(torch.from_numpy(kernel_codes(inputs, fmt, how, stream)), fmt).numpy().astype(np.float64)


def _inputs(fmt: FloatFormat) -> np.ndarray:
    if fmt.bits <= 8:
        return probes(fmt)
    codes = torch.from_numpy(np.random.default_rng(3).integers(0, fmt.max_code, 4000))
    low, high = decode(codes, fmt).numpy(), decode(codes + 1, fmt).numpy()
    points = [low + (high - low) * np.float32(part) for part in (0.0, 0.25, 0.5, 0.50001, 0.75)]
    ends = np.float32(fmt.max_value) * np.linspace(0.99, 1.0, 500, dtype=np.float32)
    positive = np.concatenate(
        [*points, ends, np.array([0.0, 2.0**-149, 1e-40, 3e38, np.inf], dtype=np.float32)]
    )
    return np.concatenate([positive, -positive]).astype(np.float32)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("fmt", "info"), PAIRS, ids=lambda v: str(getattr(v, "name", v)))
def test_directed_and_nearest_modes(fmt: FloatFormat, info, mode: str) -> None:
    # Overflow included: gfloat and this project both follow IEEE 754-2019 section 7.4. A mode that rounds this
    # sign's magnitude down stops at the largest finite value; an infinite input is infinity (or NaN) in every mode.
    inputs = _inputs(fmt)
    for overflow in overflows(fmt):
        how = Rounding(mode, overflow)  # pyright: ignore[reportArgumentType]
        expected = gfloat.round_ndarray(
            info, inputs.astype(np.float64), MODES[mode], sat=overflow == "saturate"
        )
        found = _rounded(inputs, fmt, how)
        np.testing.assert_array_equal(found, expected)
        number = ~np.isnan(expected)
        np.testing.assert_array_equal(np.signbit(found)[number], np.signbit(expected)[number])


@pytest.mark.parametrize(("fmt", "info"), PAIRS[:5], ids=lambda v: str(getattr(v, "name", v)))
@pytest.mark.parametrize("random_bits", [1, 4, 8])
def test_stochastic_where_the_kept_fraction_is_exact(fmt: FloatFormat, info, random_bits: int) -> None:
    # gfloat's Stochastic rounds the fraction to random_bits bits, this project truncates it; they agree where
    # the fraction has no more bits than that, and so does StochasticFastest, which adds and carries.
    magnitudes = np.array([float(v) for v in _values(fmt)])
    parts = np.arange(1 << random_bits) / (1 << random_bits)
    inputs = (
        (magnitudes[:-1, None] + np.diff(magnitudes)[:, None] * parts).reshape(-1)[::3].astype(np.float32)
    )
    inputs = np.concatenate([inputs, -inputs])
    stream = Stream(seed=8)
    draws = stream_draws(stream, inputs.size, 8) & ((1 << random_bits) - 1)
    found = _rounded(inputs, fmt, Rounding("stochastic", random_bits=random_bits), stream)
    for mode in (gfloat.RoundMode.Stochastic, gfloat.RoundMode.StochasticFastest):
        expected = gfloat.round_ndarray(info, inputs.astype(np.float64), mode, True, draws, random_bits)
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(("fmt", "info"), PAIRS[:5], ids=lambda v: str(getattr(v, "name", v)))
def test_stochastic_truncates_the_fraction(fmt: FloatFormat, info) -> None:
    # Adding an integer number of random units to the exact fraction carries exactly where adding it to the
    # truncated one does, so gfloat's StochasticFastest is this project's rule for every fraction.
    inputs = probes(fmt)
    inputs = inputs[np.abs(inputs) <= fmt.max_value]
    stream = Stream(seed=8)
    draws = stream_draws(stream, inputs.size, 8)
    found = _rounded(inputs, fmt, Rounding("stochastic", random_bits=8), stream)
    mode = gfloat.RoundMode.StochasticFastest
    exact = inputs.astype(np.float64)
    # Below 2^-40 the sum fraction + random is inexact in gfloat's float64.
    shown = (np.abs(exact) >= 2.0**-40) | (exact == 0)
    expected = gfloat.round_ndarray(info, exact, mode, True, draws, 8)
    np.testing.assert_array_equal(found[shown], expected[shown])


@pytest.mark.parametrize(
    ("fmt", "info"),
    [
        (FixedFormat(word_length=8, fraction_length=6), formats.format_info_ocp_int8),
        (catalog.E8M0, formats.format_info_ocp_e8m0),
    ],
    ids=str,
)
def test_every_code_of_an_mx_element_and_scale(fmt, info) -> None:
    low, high = code_range(fmt)
    codes = np.arange(low, high + 1)
    expected = [gfloat.decode_float(info, int(code) & 0xFF).fval for code in codes]
    np.testing.assert_array_equal(decode(torch.from_numpy(codes), fmt).numpy(), expected)


@pytest.mark.parametrize(
    ("fmt", "info"),
    [
        (catalog.MXFP8_E4M3, formats.format_info_mxfp8_e4m3),
        (catalog.MXFP8_E5M2, formats.format_info_mxfp8_e5m2),
        (catalog.MXFP6_E3M2, formats.format_info_mxfp6_e3m2),
        (catalog.MXFP6_E2M3, formats.format_info_mxfp6_e2m3),
        (catalog.MXFP4, formats.format_info_mxfp4_e2m1),
        (catalog.MXINT8, formats.format_info_mxint8),
    ],
    ids=lambda v: str(getattr(v, "name", v)),
)
def test_block_formats_and_the_floor_rule(fmt, info) -> None:
    assert (fmt.block, fmt.scale.bits, fmt.element.bits) == (info.k, info.stype.bits, info.etype.bits)
    assert fmt.rule == "floor"
    assert element_exponent(fmt.element) == info.etype.emax
    rng = np.random.default_rng(0)
    for size in 2.0 ** np.arange(-60, 61, 7):
        block = rng.standard_normal(32).astype(np.float32) * size
        expected = gfloat.compute_scale_amax(info.etype.emax, block)
        found = shared_exponent(float(np.abs(block).max()), fmt.element, "floor")
        assert 2.0**found == expected


def _values(fmt: FloatFormat) -> np.ndarray:
    return decode(torch.arange(fmt.max_code + 1), fmt).numpy()
