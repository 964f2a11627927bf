"""LUQ: logarithmic unbiased quantisation of neural gradients.

Levels 0 and +-a 2^n, n = 0 .. 2^b - 2, for b exponent bits (FP4 [1, 3, 0]: seven magnitudes), with the largest
level at max|g|, so that nothing is clipped. Stochastic rounding between neighbouring levels, and below a between 0
and a (stochastic underflow): Chmiel et al. 2023, "Accurate Neural Training with 4-bit Matrix Multiplications at
Standard Formats" (ICLR).

Mean over the random bits: with r bits, |E - g| < 2^-r (u - l) for g between the levels l and u, towards zero.
Variance: (|g| - l)(u - |g|) but for the same cut. SMP, the average of N independent quantisations, is
`GemmSpec.samples` and divides it by N. With a maximum in hindsight (`momentum`), what exceeds it saturates and is
biased.
"""

from __future__ import annotations

from lowbit_sim.numerics.formats import LogFormat
from lowbit_sim.numerics.rounding import Rounding
from lowbit_sim.quant.granularity import Granularity, PerTensor
from lowbit_sim.quant.quantizer import Quantizer
from lowbit_sim.quant.scaling import AbsMaxScale, EmaScale


def luq(
    exponent_bits: int = 3,
    *,
    random_bits: int = 8,
    momentum: float | None = None,
    granularity: Granularity = PerTensor(),
) -> Quantizer:
    """LUQ's quantiser of grad_output.

    Args:
        exponent_bits: b; 2^b - 1 magnitudes and zero.
        random_bits: Bits drawn for an element.
        momentum: None to read the maximum off each tensor; else the maximum is `EmaScale`'s, which needs a
            `ScaleState` at each call.
        granularity: Which elements share a maximum.

    Raises:
        ValueError: Widths or a momentum out of range.
    """
    return Quantizer(
        LogFormat(exponent_bits=exponent_bits, radix=2, name=f"luq{exponent_bits + 1}"),
        granularity=granularity,
        scale=AbsMaxScale() if momentum is None else EmaScale(momentum),
        rounding=Rounding("stochastic", random_bits=random_bits),
    )
