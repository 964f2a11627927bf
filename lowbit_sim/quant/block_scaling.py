"""Scales of block formats: powers of two (MX, block floating point) and floats under a tensor's scale (NVFP4).

* Power-of-two scales are 2^e with e from `reference_blocks.shared_exponent`: -127 to 127, 1 for a block of zeros. The
  smallest, 2^-127, is a subnormal float32 whose reciprocal 2^127 is exact, so E8M0 is used in full. (Other scales are
  at least 2^-126.)
* Float scales are `reference.float_block_scale`. For NVFP4: tensor scale t = fp32(tensor absmax / (6 * 448)), block
  scale s = E4M3(fp32(fp32(block absmax / 6) / t)), rounded to nearest even; the effective scale is fp32(s * t). t is
  at least 2^-117, so that no effective scale is below 2^-126. Where s is 0, finite elements become code +0 and the
  effective scale is 1, as for all zeros.

Infinities count for no maximum, and saturate. Sources: OCP Microscaling Formats 1.0 section 6.3; NVIDIA, "Pretraining
Large Language Models with NVFP4" (2025).
"""

from __future__ import annotations

import torch
from torch import Tensor

from lowbit_sim.numerics.formats import BlockFormat, ExponentFormat, FixedFormat, FloatFormat, IntFormat
from lowbit_sim.numerics.reference import float32
from lowbit_sim.numerics.reference_blocks import element_exponent, element_mantissa_bits
from lowbit_sim.quant.codes import rounded
from lowbit_sim.quant.granularity import Granularity, PerAxis, PerBlock, PerTensor
from lowbit_sim.quant.reference import MAX_SCALE, smallest_tensor_scale
from lowbit_sim.quant.regions import absmax
from lowbit_sim.quant.scale_rules import MIN_SCALE


def granularity_of(fmt: BlockFormat) -> Granularity:
    """Which elements of a tensor in this format share a scale."""
    if fmt.block:
        return PerBlock(fmt.block)
    return PerTensor() if fmt.dim is None else PerAxis(fmt.dim)


def block_scale(x: Tensor, fmt: BlockFormat) -> tuple[Tensor, Tensor]:
    """The scale of each block, and x with the elements set to 0 whose block has the scale 0.

    Args:
        x: float32 of any shape, without NaN.
        fmt: The block format.

    Returns:
        float32 of shape `scale_shape(granularity_of(fmt), x.shape)`, positive; float32 of the shape of x.

    Raises:
        ValueError: x lacks the axis `fmt.dim`, or has no axis to cut into blocks.
    """
    granularity = granularity_of(fmt)
    largest = absmax(x, granularity)
    if isinstance(fmt.scale, ExponentFormat):
        return power_of_two(shared_exponents(largest, fmt.element, fmt.rule)), x
    scale = _float_scales(largest, fmt)
    vanished = scale == 0
    # A GPU does the rare work always: asking whether it is needed takes longer.
    if vanished.is_cuda or vanished.any():
        x = torch.where(_for_elements(vanished, x, fmt) & torch.isfinite(x), 0.0, x)
        scale = torch.where(vanished, 1.0, scale)
    return scale, x


def _for_elements(values: Tensor, x: Tensor, fmt: BlockFormat) -> Tensor:
    return values.repeat_interleave(fmt.block, dim=-1)[..., : x.shape[-1]] if fmt.block else values


def shared_exponents(largest: Tensor, element: IntFormat | FixedFormat | FloatFormat, rule: str) -> Tensor:
    """`reference_blocks.shared_exponent` of every element of a float32 tensor: int32 of its shape."""
    half_significand, exponent = torch.frexp(largest)  # of magnitudes: in [0.5, 1)
    exponent = exponent - 1 - element_exponent(element)
    if rule == "even":
        # What rounds up to the next power of two: the tie is among it.
        bits = element_mantissa_bits(element)
        exponent = exponent + (half_significand >= 1.0 - 2.0 ** -(bits + 2)).to(exponent.dtype)
    elif rule == "ceil":
        largest_half = element.max_value / 2.0 ** (element_exponent(element) + 1)
        exponent = exponent + (half_significand > largest_half).to(exponent.dtype)
    return torch.where(largest == 0, 0, exponent.clamp(-127, 127))


def power_of_two(exponent: Tensor) -> Tensor:
    """2^e as float32 for int32 e from -127 to 127, exactly: by its bits, as 2^-127 is subnormal."""
    normal = (exponent + 127) << 23
    return torch.where(exponent == -127, 1 << 22, normal).to(torch.int32).view(torch.float32)


def _float_scales(largest: Tensor, fmt: BlockFormat) -> Tensor:
    """Effective scales, 0 where the block's scale rounds to 0; the twin of `reference.float_block_scale`."""
    assert isinstance(fmt.scale, FloatFormat)
    quotient = largest / torch.full_like(largest, fmt.element.max_value)
    if not fmt.tensor_scale:
        return _within_float32(rounded(quotient, fmt.scale))
    overall = largest.amax() if largest.numel() else largest.new_zeros(())
    bound = torch.full_like(overall, float32(fmt.element.max_value * fmt.scale.max_value))  # perhaps infinity
    tensor_scale = (overall / bound).clamp(smallest_tensor_scale(fmt.scale), MAX_SCALE)
    tensor_scale = torch.where(overall == 0, 1.0, tensor_scale)
    return _within_float32(rounded(quotient / tensor_scale, fmt.scale) * tensor_scale)


def _within_float32(scale: Tensor) -> Tensor:
    return torch.where(scale == 0, scale, scale.clamp(MIN_SCALE, MAX_SCALE))
