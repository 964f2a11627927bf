"""The kernels for a GPU on the CPU's tensors, in Triton's interpreter."""

import numpy as np
import pytest
import torch

from lowbit_sim.numerics.formats import ElementFormat
from lowbit_sim.numerics.random import Stream
from lowbit_sim.numerics.rounding import Rounding, RoundingMode
from lowbit_sim.numerics.triton_support import why_no_triton
from tests.numerics.cases import overflows, rounding

pytest.importorskip("triton", reason="Triton is not installed")
if why_no_triton(torch.device("cpu")) is not None:
    pytest.skip("Triton compiles for the GPU here: see `make gpu`", allow_module_level=True)

#: The offset is no whole number of blocks of any width; then one that is, in the high half of the counter.
ODD_STREAM = Stream(seed=3, step=1, site=4, operand=1, offset=5)
FAR_STREAM = Stream(seed=2**32 - 1, step=2**31 + 3, site=2**32 - 2, operand=7, offset=16 * (2**40 + 7))


def triton_codes(
    x: np.ndarray,
    fmt: ElementFormat,
    how: Rounding,
    stream: Stream | None = None,
    *,
    inv: np.ndarray | None = None,
    zero_points: np.ndarray | None = None,
    run: int = 0,
) -> np.ndarray:
    """Codes, int64, of x * inv by the kernels for a GPU."""
    from lowbit_sim.numerics.triton.launch import encode_on_device

    flat = torch.from_numpy(np.ascontiguousarray(x, dtype=np.float32).reshape(-1))
    codes = torch.full(flat.shape, -(1 << 40), dtype=torch.int64)
    scales = torch.ones(1) if inv is None else torch.from_numpy(inv)
    offsets = None if zero_points is None else torch.from_numpy(zero_points.astype(np.int32))
    # The interpreter computes in numpy, which warns of what the formats are about: overflow to infinity, NaN.
    with np.errstate(all="ignore"):
        encode_on_device(flat, scales, offsets, run, fmt, how, stream, codes)
    return codes.numpy()


def roundings(fmt: ElementFormat, random_bits: tuple[int, ...] = (8,)) -> list[Rounding]:
    """Every rounding that a format can have, with some numbers of random bits."""
    most = getattr(fmt, "max_random_bits", 32)
    return [
        rounding(mode, overflow, bits)
        for overflow in overflows(fmt)
        for mode in RoundingMode
        for bits in (random_bits if mode == RoundingMode.STOCHASTIC else (0,))
        if bits <= most
    ]


def thinned(values: np.ndarray, count: int) -> np.ndarray:
    """About that many of the values, from all over, both ends among them."""
    places = np.linspace(0, len(values) - 1, min(count, len(values)))
    return values[np.unique(places.round().astype(np.int64))]
