"""The definition of quantising, element by element, for a quantiser's scales."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from lowbit_sim.numerics.formats import BlockFormat, FixedFormat, IntFormat
from lowbit_sim.numerics.reference import decode_value, encode_value
from lowbit_sim.quant.block_scaling import block_scale
from lowbit_sim.quant.qtensor import QTensor
from lowbit_sim.quant.quantizer import Quantizer


def quantized(
    x: Tensor, quantizer: Quantizer, result: QTensor, random: Sequence[int]
) -> tuple[list[int], list[float], list[float]]:
    """Codes, values and scale of each element in row-major order.

    Args:
        x: Float32, of any layout.
        quantizer: Format and rounding.
        result: The quantiser's result for x, of which only the scales and zero points are used.
        random: The random integer of each element.
    """
    if isinstance(quantizer.format, BlockFormat):
        x = block_scale(x.contiguous(), quantizer.format)[1]  # zeros where a block's scale is zero
    scale = np.broadcast_to(result.expanded_scale().numpy(), x.shape).reshape(-1)
    offsets = np.broadcast_to(result.expanded_zero_point().numpy(), x.shape).reshape(-1)
    with np.errstate(over="ignore", invalid="ignore"):
        y = x.numpy().reshape(-1) * (np.float32(1) / scale)
    codes, values = [], []
    for i, scaled in enumerate(y.tolist()):
        code, value = _element(scaled, quantizer, random[i], int(offsets[i]))
        codes.append(code)
        with np.errstate(over="ignore", invalid="ignore"):
            values.append(float(np.float32(value) * scale[i]))
    return codes, values, scale.tolist()


def _element(y: float, quantizer: Quantizer, random: int, zero_point: int) -> tuple[int, float]:
    """One code, and what it stands for before scaling."""
    fmt = quantizer.element_format
    is_nan = np.isnan(y) and quantizer.nan != "raise"
    code = int(quantizer.nan) if is_nan else encode_value(y, fmt, quantizer.rounding, random, zero_point)
    if isinstance(fmt, IntFormat | FixedFormat):
        return code, (code - zero_point) * fmt.unit
    return code, decode_value(code, fmt)
