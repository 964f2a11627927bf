"""Integer formats against QPyTorch's fixed point, on the CPU.

QPyTorch compiles C++ when it is imported, so it is imported here and nowhere else.
"""

import shutil
import warnings
from typing import Any

import numpy as np
import pytest
import torch

from lowbit_sim.numerics.formats import IntFormat
from lowbit_sim.numerics.rounding import Rounding
from tests.numerics.cases import kernel_codes

pytestmark = pytest.mark.oracle

BITS = [2, 3, 4, 6, 8, 12, 16]


@pytest.fixture(scope="module")
def fixed_point_quantize() -> Any:
    """QPyTorch's function, where it can be built."""
    pytest.importorskip("qtorch", reason="qtorch is not installed")
    if not (shutil.which("ninja") and (shutil.which("c++") or shutil.which("g++"))):
        pytest.skip("qtorch compiles its kernels at import: it needs a C++ compiler and ninja")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from qtorch.quant import fixed_point_quantize
    return fixed_point_quantize


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
