"""QPyTorch's numbers as formats, against its kernels on the CPU; the differences that `interop` lists, one by one.

QPyTorch compiles C++ when it is imported, so it is imported here and nowhere else.
"""

import os
import shutil
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lowbit_sim.numerics.catalog import as_format
from lowbit_sim.numerics.encode import decode
from lowbit_sim.numerics.formats import BlockFormat, ElementFormat, FixedFormat, FloatFormat, IntFormat
from lowbit_sim.numerics.reference_blocks import shared_exponent
from lowbit_sim.numerics.rounding import Rounding
from lowbit_sim.quant.quantizer import Quantizer
from lowbit_sim.quant.scaling import FixedScale
from tests.numerics.cases import EDGES, kernel_codes

pytestmark = pytest.mark.oracle

BITS = [2, 3, 4, 6, 8, 12, 16]

LONGEST_BUILD_SECONDS = 600


@pytest.fixture(scope="module")
def qtorch() -> Any:
    """QPyTorch with its functions, where they can be built."""
    pytest.importorskip("qtorch", reason="qtorch is not installed")
    if not (shutil.which("ninja") and (shutil.which("c++") or shutil.which("g++"))):
        pytest.skip("qtorch compiles its kernels at import: it needs a C++ compiler and ninja")
    _break_stale_lock()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import qtorch.quant
    return qtorch


def _break_stale_lock() -> None:
    """torch waits without end for a build whose process was killed, since its lock file stays."""
    from torch.utils.cpp_extension import get_default_build_root

    folder = os.environ.get("TORCH_EXTENSIONS_DIR") or get_default_build_root()
    for lock in Path(folder).glob("**/quant_cpu/lock"):
        if time.time() - lock.stat().st_mtime > LONGEST_BUILD_SECONDS:
            lock.unlink(missing_ok=True)


@pytest.fixture(scope="module")
def fixed_point_quantize(qtorch) -> Any:
    return qtorch.quant.fixed_point_quantize


def _theirs(
    fixed_point_quantize: Any, x: np.ndarray, bits: int, fraction_bits: int, symmetric: bool
) -> np.ndarray:
    """QPyTorch's codes: its values in units of 2^-fraction_bits."""
    values = fixed_point_quantize(
        torch.from_numpy(x), wl=bits, fl=fraction_bits, clamp=True, symmetric=symmetric, rounding="nearest"
    )
    codes = values.double().numpy() * 2.0**fraction_bits
    assert (codes == np.rint(codes)).all()
    return codes.astype(np.int64)


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("fraction_bits", [0, 3])
@pytest.mark.parametrize("bits", BITS)
def test_nearest_away_from_ties(fixed_point_quantize, bits: int, fraction_bits: int, symmetric: bool) -> None:
    fmt = IntFormat(bits=bits, symmetric=symmetric)
    rng = np.random.default_rng(bits)
    y = rng.uniform(-1.5, 1.5, 20_000) * (fmt.qmax + 2)
    y = (np.round(y * 64) / 64).astype(np.float32)
    y = y[np.abs(y - np.trunc(y)) != 0.5]
    theirs = _theirs(
        fixed_point_quantize, y * np.float32(2.0**-fraction_bits), bits, fraction_bits, symmetric
    )
    for mode in ("nearest_even", "nearest_away"):
        np.testing.assert_array_equal(kernel_codes(y, fmt, Rounding(mode)), theirs)


# On the CPU, QPyTorch rounds y as nearbyint(y + 0.5 - 0.5): ties go to the even code. Its CUDA code sends them
# away from zero.
TIES = {
    -3.5: -4,
    -2.5: -2,
    -1.5: -2,
    -0.5: 0,
    0.5: 0,
    1.5: 2,
    2.5: 2,
    3.5: 4,
}


def test_listed_ties(fixed_point_quantize) -> None:
    y = np.array(list(TIES), dtype=np.float32)
    assert _theirs(fixed_point_quantize, y, 8, 0, True).tolist() == list(TIES.values())
    assert kernel_codes(y, IntFormat(bits=8), Rounding("nearest_even")).tolist() == list(TIES.values())


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("bits", BITS)
def test_every_tie_and_the_ends(fixed_point_quantize, bits: int, symmetric: bool) -> None:
    fmt = IntFormat(bits=bits, symmetric=symmetric)
    y = np.arange(2 * fmt.qmin - 6, 2 * fmt.qmax + 7, dtype=np.float32) / 2
    theirs = _theirs(fixed_point_quantize, y, bits, 0, symmetric)
    np.testing.assert_array_equal(kernel_codes(y, fmt, Rounding("nearest_even")), theirs)
    assert (kernel_codes(y, fmt, Rounding("nearest_away")) != theirs).any()


def test_where_qtorch_is_not_the_nearest(fixed_point_quantize) -> None:
    # y + 0.5 is a float32 sum there: just above one half it rounds down to 1, and the code becomes 0.
    y = np.nextafter(np.array([0.5], dtype=np.float32), np.float32(1))
    assert _theirs(fixed_point_quantize, y, 8, 0, True).tolist() == [0]
    assert kernel_codes(y, IntFormat(bits=8), Rounding("nearest_even")).tolist() == [1]


def _ours(x: np.ndarray, fmt: ElementFormat, how: Rounding) -> np.ndarray:
    return decode(torch.from_numpy(kernel_codes(x, fmt, how)), fmt).numpy()


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize(("wl", "fl"), [(8, 6), (4, 1), (16, 12), (6, 9), (2, 1)])
def test_fixed_point_objects_quantise_as_qtorch_does(qtorch, wl: int, fl: int, symmetric: bool) -> None:
    number = qtorch.FixedPoint(wl, fl, symmetric=symmetric)
    fmt = as_format(number)
    assert isinstance(fmt, FixedFormat)
    assert (fmt.word_length, fmt.fraction_length, fmt.symmetric) == (wl, fl, symmetric)
    x = np.random.default_rng(0).standard_normal(20_000) * 2.0 ** (wl - fl - 1)
    ties = (np.arange(2 * fmt.qmin - 5, 2 * fmt.qmax + 6) / 2) * fmt.unit
    below = np.nextafter(ties.astype(np.float32), np.float32(0))
    x = torch.from_numpy(np.concatenate([x, ties, below, EDGES, -EDGES]).astype(np.float32))
    theirs = qtorch.quant.fixed_point_quantize(x, wl=wl, fl=fl, symmetric=symmetric, rounding="nearest")
    # The object itself is the format of a quantiser.
    quantizer = Quantizer(number, scale=FixedScale(1.0))
    assert quantizer.format == fmt
    assert torch.equal(quantizer(x).dequantize(), theirs)


def test_fixed_point_without_clamping_is_refused(qtorch) -> None:
    with pytest.raises(ValueError, match="clamp=False has no largest value"):
        as_format(qtorch.FixedPoint(8, 6, clamp=False))


FLOATS = [(4, 3), (5, 2), (2, 1), (3, 5), (5, 10), (1, 2), (7, 16), (8, 7), (8, 1)]


def _float_inputs(fmt: FloatFormat) -> np.ndarray:
    rng = np.random.default_rng(1)
    anywhere = rng.integers(0, 1 << 32, 50_000, dtype=np.uint64).astype(np.uint32).view(np.float32)
    codes = rng.integers(0, fmt.max_code, 20_000)
    low, high = (decode(torch.from_numpy(c), fmt).double().numpy() for c in (codes, codes + 1))
    ties = np.where(np.isfinite(high), (low + high) / 2, low).astype(np.float32)
    near = [np.nextafter(ties, np.float32(limit)) for limit in (0.0, 3e38)]
    top = np.float32(fmt.max_value) * np.linspace(0.9, 1, 200, dtype=np.float32)
    inputs = np.concatenate([anywhere, low.astype(np.float32), ties, *near, top, EDGES])
    inputs = inputs[~np.isnan(inputs)]
    return np.concatenate([inputs, -inputs])


def _after_qtorchs_sum(x: np.ndarray, fmt: FloatFormat) -> np.ndarray:
    """What is left of a number below the smallest normal one after adding that one in float32 and taking it off."""
    shift = np.copysign(np.float32(2.0**fmt.min_exponent), x)
    return np.where(np.abs(x) < 2.0**fmt.min_exponent, (x + shift) - shift, x)


@pytest.mark.parametrize(("exp", "man"), FLOATS)
def test_floating_point_objects_quantise_as_qtorch_does(qtorch, exp: int, man: int) -> None:
    fmt = as_format(qtorch.FloatingPoint(exp, man))
    assert isinstance(fmt, FloatFormat)
    x = _float_inputs(fmt)
    theirs = qtorch.quant.float_quantize(torch.from_numpy(x), exp=exp, man=man, rounding="nearest").numpy()
    how = Rounding("nearest_away", "infinity" if exp == 8 else "saturate")
    with np.errstate(invalid="ignore"):
        np.testing.assert_array_equal(_ours(_after_qtorchs_sum(x, fmt), fmt, how), theirs)
    different = _ours(x, fmt, how) != theirs
    # Where its sum matters it is beside a tie of the subnormals, and off by one of their steps.
    assert (np.abs(x[different]) < 2.0**fmt.min_exponent).all()
    gaps = np.abs(_ours(x[different], fmt, how) - theirs[different])
    assert (gaps == 2.0 ** (fmt.min_exponent - man)).all()
    # With 8 exponent bits float32's own spacing is there, and the sum is exact.
    assert different.any() == (exp < 8)


def test_the_float_range_has_no_reserved_exponent(qtorch) -> None:
    fmt = as_format(qtorch.FloatingPoint(5, 2))
    assert fmt.max_value == 1.75 * 2.0**16
    x = torch.tensor([1e9, -1e9, float("inf"), float("nan")])
    theirs = qtorch.quant.float_quantize(x, exp=5, man=2, rounding="nearest")
    assert theirs.tolist() == [fmt.max_value, -fmt.max_value, fmt.max_value, fmt.max_value]
    ours = _ours(x[:3].numpy(), fmt, Rounding("nearest_away"))
    assert ours.tolist() == theirs[:3].tolist()
    # With 8 exponent bits the top exponent is float32's own, of infinities.
    wide = qtorch.quant.float_quantize(torch.tensor([3.4e38]), exp=8, man=2, rounding="nearest")
    assert wide.tolist() == [float("inf")]
    assert as_format(qtorch.FloatingPoint(8, 2)).max_value == 1.75 * 2.0**127


def test_float_ties_and_the_sign_of_zero(qtorch) -> None:
    fmt = as_format(qtorch.FloatingPoint(4, 3))
    ties = torch.tensor([1.0625, 1.1875, -1.0625, -1.1875])
    theirs = qtorch.quant.float_quantize(ties, exp=4, man=3, rounding="nearest")
    assert theirs.tolist() == [1.125, 1.25, -1.125, -1.25]
    assert _ours(ties.numpy(), fmt, Rounding("nearest_even")).tolist() == [1.0, 1.25, -1.0, -1.25]
    tiny = torch.tensor([-1e-10])
    theirs = qtorch.quant.float_quantize(tiny, exp=4, man=3, rounding="nearest")
    assert not torch.signbit(theirs).item()
    assert np.signbit(_ours(tiny.numpy(), fmt, Rounding("nearest_away"))).item()


def _block_exponents(x: np.ndarray, fmt: BlockFormat) -> np.ndarray:
    axes = None if fmt.dim is None else tuple(i for i in range(x.ndim) if i != fmt.dim)
    largest = np.abs(x).max(axis=axes, keepdims=True)
    exponents = [shared_exponent(float(v), fmt.element, fmt.rule) for v in largest.reshape(-1)]
    return np.broadcast_to(np.array(exponents).reshape(largest.shape), x.shape)


def _our_blocks(x: np.ndarray, fmt: BlockFormat, how: Rounding) -> np.ndarray:
    exponents = _block_exponents(x, fmt)
    return np.ldexp(_ours(np.ldexp(x, -exponents), fmt.element, how), exponents)


@pytest.mark.parametrize("dim", [-1, 0, 1, 2])
@pytest.mark.parametrize("wl", [2, 4, 8, 16])
def test_block_floating_point_objects_quantise_as_qtorch_does(qtorch, wl: int, dim: int) -> None:
    fmt = as_format(qtorch.BlockFloatingPoint(wl, dim))
    assert isinstance(fmt, BlockFormat)
    assert (fmt.block, fmt.rule, fmt.dim) == (0, "floor", None if dim == -1 else dim)
    x = np.random.default_rng(wl).standard_normal((6, 7, 500)).astype(np.float32)
    x *= np.float32(2.0) ** np.arange(-3, 3, dtype=np.float32)[:, None, None]
    x[0, 0, 0] = 0.0
    theirs = qtorch.quant.block_quantize(torch.from_numpy(x), wl=wl, dim=dim, rounding="nearest").numpy()
    base = np.ldexp(np.float32(6), _block_exponents(x, fmt))
    # Its float32 sum first, which makes ties of what is beside them; a negative tie then goes up, not away.
    summed = (x + base) - base
    step = np.ldexp(np.float32(fmt.element.unit), _block_exponents(x, fmt))
    tie = np.abs(summed / step % 1) == 0.5
    different = _our_blocks(x, fmt, Rounding("nearest_away")) != theirs
    np.testing.assert_array_equal(
        _our_blocks(np.where(tie & (summed < 0), x, summed), fmt, Rounding("nearest_away"))[~tie],
        theirs[~tie],
    )
    assert tie[different].all()
    positive = tie & (summed > 0)
    np.testing.assert_array_equal(
        _our_blocks(summed, fmt, Rounding("nearest_away"))[positive], theirs[positive]
    )


def test_block_ties_go_up(qtorch) -> None:
    x = torch.tensor([1.0, 0.375, -0.375, 0.125, -0.125, 1.99, -1.99])
    theirs = qtorch.quant.block_quantize(x, wl=4, rounding="nearest")
    assert theirs.tolist() == [1.0, 0.5, -0.25, 0.25, 0.0, 1.75, -1.75]
    fmt = as_format(qtorch.BlockFloatingPoint(4))
    ours = _our_blocks(x.numpy(), fmt, Rounding("nearest_away"))
    assert ours.tolist() == [1.0, 0.5, -0.5, 0.25, -0.25, 1.75, -1.75]


def test_blocks_at_the_ends_of_float32(qtorch) -> None:
    tiny = torch.tensor([2.0**-130, 3 * 2.0**-131])
    # Steps of 2^(-126-wl) there, whatever the magnitudes; of 2^(-125-wl) with the smallest scale, 2^-127, here.
    theirs = qtorch.quant.block_quantize(tiny, wl=4, rounding="nearest")
    assert theirs.tolist() == [2.0**-130, 2.0**-129]
    ours = _our_blocks(tiny.numpy(), as_format(qtorch.BlockFloatingPoint(4)), Rounding("nearest_away"))
    assert ours.tolist() == [2.0**-129, 2.0**-129]
    huge = torch.tensor([2.0**126, 2.0**126])
    # 6 * 2^126 is infinite, and what comes of infinity less infinity is cut to the largest magnitude.
    theirs = qtorch.quant.block_quantize(huge, wl=4, rounding="nearest")
    assert theirs.abs().tolist() == [1.75 * 2.0**126] * 2
    ours = _our_blocks(huge.numpy(), as_format(qtorch.BlockFloatingPoint(4)), Rounding("nearest_away"))
    assert ours.tolist() == huge.tolist()


def test_block_floating_point_of_one_bit_is_refused(qtorch) -> None:
    with pytest.raises(ValueError, match="word_length=1"):
        as_format(qtorch.BlockFloatingPoint(1))


@pytest.mark.parametrize("x", [0.3, -0.3, 1.03125, 0.001])
def test_stochastic_rounding_has_the_same_neighbours_and_odds(qtorch, x: float) -> None:
    # Its float and block kernels can't be seeded; 8 standard deviations are passed once in 10^15 runs.
    count, inputs = 40_000, torch.full((40_000,), x)
    torch.manual_seed(0)
    drawn = [
        (
            FixedFormat(word_length=8, fraction_length=6),
            qtorch.quant.fixed_point_quantize(inputs, wl=8, fl=6),
        ),
        (as_format(qtorch.FloatingPoint(4, 3)), qtorch.quant.float_quantize(inputs, exp=4, man=3)),
    ]
    for fmt, theirs in drawn:
        low, high = (_ours(np.array([x], dtype=np.float32), fmt, Rounding(m)).item() for m in ("down", "up"))
        assert set(theirs.tolist()) <= {low, high}
        odds = (float(np.float32(x)) - low) / (high - low) if high > low else 1.0
        ups = int((theirs == high).sum())
        assert abs(ups - count * odds) <= 8 * (count * odds * (1 - odds)) ** 0.5 + 1e-9
