"""The definition of a block's float scale: scalars, each operation rounded to float32 once."""

from __future__ import annotations

from lowbit_sim.numerics.formats import BlockFormat, FloatFormat
from lowbit_sim.numerics.reference import float32, float_code, float_value
from lowbit_sim.numerics.rounding import Rounding

MIN_SCALE = 2.0**-126

#: The largest float32.
MAX_SCALE = 2.0**128 - 2.0**104


def smallest_tensor_scale(fmt: FloatFormat) -> float:
    """The least tensor scale: times the smallest positive block scale it is 2^-126 (or 2^-126 itself)."""
    lowest = fmt.min_exponent - (fmt.mantissa_bits if fmt.has_subnormals else 0)
    return 2.0 ** (-126 - min(lowest, 0))


def float_block_code(block_absmax: float, tensor_absmax: float, fmt: BlockFormat) -> tuple[int, float]:
    """The code of a block's scale as it is stored, and the tensor scale; see `float_block_scale`."""
    assert isinstance(fmt.scale, FloatFormat)
    tensor_scale = 1.0
    if fmt.tensor_scale and tensor_absmax:
        bound = float32(fmt.element.max_value * fmt.scale.max_value)
        tensor_scale = max(float32(tensor_absmax / bound), smallest_tensor_scale(fmt.scale))
    quotient = float32(float32(block_absmax / fmt.element.max_value) / tensor_scale)
    return float_code(quotient, fmt.scale, Rounding()), tensor_scale


def float_block_scale(block_absmax: float, tensor_absmax: float, fmt: BlockFormat) -> float:
    """The effective scale of a block whose format has float scales; 0 where the block's scale rounds to 0.

    tensor scale = fp32(tensor absmax / fp32(element max * scale max)), at least `smallest_tensor_scale`; 1 for all
    zeros and without `tensor_scale`. block scale = fp32(fp32(block absmax / element max) / tensor scale), rounded
    to nearest even into the scale's format, saturating. effective = fp32(block scale * tensor scale), at least
    2^-126 and at most the largest float32. float64 in between changes none of the quotients and products, as their
    operands are float32 values.

    Args:
        block_absmax: Largest finite magnitude of the block.
        tensor_absmax: That of the tensor.
        fmt: A block format with a `FloatFormat` as scale.
    """
    assert isinstance(fmt.scale, FloatFormat)
    code, tensor_scale = float_block_code(block_absmax, tensor_absmax, fmt)
    block = float_value(code, fmt.scale)
    return min(max(float32(block * tensor_scale), MIN_SCALE), MAX_SCALE) if block else 0.0
