"""A whole tensor on one absmax scale to integer codes on the CPU: two kernels and a division.

scale = fp32(absmax / qmax), at least 2^-126, 1 where absmax is 0;  code = round(fp32(x * fp32(1 / scale))), saturated

Nearly all operands of a training step are quantised so, and where a tensor is small its kernels take less time than
the choices that `Quantizer` makes among formats, granularities and devices. That general way is the slow twin, with
the same bits, and is gone wherever this one returns None.
"""

from __future__ import annotations

import functools

import numpy as np
import torch
from torch import Tensor

from lowbit_sim.numerics.formats import Format, IntFormat
from lowbit_sim.numerics.memory import empty
from lowbit_sim.numerics.random import Stream, draw_width
from lowbit_sim.numerics.rounding import MODE_CODES, Rounding
from lowbit_sim.quant.granularity import Granularity, PerTensor
from lowbit_sim.quant.qtensor import code_dtype
from lowbit_sim.quant.scale_rules import MIN_SCALE, AbsMaxScale, ScaleRule

#: steps, qmin, qmax, mode, random bits and the width of a draw, as `whole_lanes.quantize` takes them.
_Numbers = tuple[np.float32, np.float32, np.float32, int, int, int]

_ONE, _MIN_SCALE = np.float32(1), np.float32(MIN_SCALE)


def serves(fmt: Format, granularity: Granularity, scale: ScaleRule, rounding: Rounding) -> bool:
    """Whether a quantiser of these parts can go this way for tensors on the CPU."""
    plain = isinstance(granularity, PerTensor) and isinstance(scale, AbsMaxScale) and scale.top is None
    return plain and isinstance(fmt, IntFormat) and rounding.overflow == "saturate"


def absmax_codes(
    x: Tensor, fmt: IntFormat, rounding: Rounding, stream: Stream | None
) -> tuple[Tensor, Tensor] | None:
    """Codes in the shape of x and their scale, float32 [1, ..., 1]; None where the general way must be gone.

    Args:
        x: float32 on the CPU, contiguous, with elements.
        fmt: The format.
        rounding: Its rounding, which saturates.
        stream: Address of the random bits, for stochastic rounding.
    """
    from lowbit_sim.numerics import whole_lanes
    from lowbit_sim.numerics.absmax_kernel import INFINITY_BITS, PIECE, row_maxima

    numbers = _numbers(fmt, rounding)
    if numbers is None:
        return None
    flat = x.reshape(-1).numpy()
    largest = row_maxima(flat.view(np.int32), PIECE, PIECE).max()
    if largest >= INFINITY_BITS:
        return None  # infinities are left out of the scale, and a NaN has a message of its own
    scale = _scale(largest, fmt)
    codes = empty(tuple(x.shape), code_dtype(fmt), x.device)
    address = (
        (0, 0, 0, 0, 0)
        if stream is None
        else (stream.seed, stream.operand, stream.step, stream.site, stream.offset)
    )
    # The threads are those of `row_maxima`.
    whole_lanes.quantize(flat, _ONE / scale, *numbers, address, codes.reshape(-1).numpy())
    return codes, torch.from_numpy(np.full((1,) * x.ndim, scale))


def _scale(largest: np.int32, fmt: IntFormat) -> np.float32:
    """From the largest magnitude's bits."""
    return max(largest.view(np.float32) / np.float32(fmt.max_value), _MIN_SCALE) if largest else _ONE


@functools.lru_cache(maxsize=256)
def _numbers(fmt: IntFormat, rounding: Rounding) -> _Numbers | None:
    """What the rounding kernel is told of a format and a rounding, or None where its lanes are not exact."""
    from lowbit_sim.numerics import integer_lanes

    if not integer_lanes.fits(fmt, rounding, np.zeros(1, dtype=np.int64)):
        return None
    return (
        np.float32(1.0 / fmt.unit),
        np.float32(fmt.qmin),
        np.float32(fmt.qmax),
        MODE_CODES[rounding.mode],
        rounding.random_bits,
        draw_width(rounding.random_bits),
    )
