"""Unified INT8's gradient quantiser: a clip that keeps the gradient's direction, and stochastic rounding.

q = SR(clip(g, c) / s), s = c / 127, c minimising 1 - cos(g, g'): Zhu et al. 2020, "Towards Unified INT8 Training for
Convolutional Neural Network" (CVPR). The clip is searched with rounding to nearest even (see
`DirectionSensitiveScale`). Clipping is a bias: the mean over the random bits is clip(g, c), to 2^-r of a step.
"""

from __future__ import annotations

from lowbit_sim.numerics.formats import IntFormat
from lowbit_sim.numerics.rounding import Rounding
from lowbit_sim.quant.quantizer import Quantizer
from lowbit_sim.quant.scaling import DirectionSensitiveScale


def direction_sensitive(bits: int = 8, *, period: int = 1, random_bits: int = 8) -> Quantizer:
    """Unified INT8's quantiser of grad_output, per tensor.

    Args:
        bits: Width of the symmetric integers; the paper's is 8.
        period: Calls from one search of the clip to the next (the paper: 100); above 1 calls need a `ScaleState`.
        random_bits: Bits drawn for an element.

    Raises:
        ValueError: Widths or a period out of range.
    """
    return Quantizer(
        IntFormat(bits=bits),
        scale=DirectionSensitiveScale(period),
        rounding=Rounding("stochastic", random_bits=random_bits),
    )
