"""StatQuant's gradient quantisers: per tensor (PTQ), per sample (PSQ) and block Householder (BHQ).

Q(g) = S^-1 SR(S (g - z)) + z with B = 2^b - 1 steps: Chen et al. 2020, "A Statistical Framework for Low-bitwidth
Training of Deep Neural Networks" (NeurIPS). PTQ: S = B / range(g). PSQ: S = diag(B /
range(g_i)). BHQ: S = `HouseholderTransform`, then PSQ.

Two differences, both because the codes enter an integer multiplier, whose zero point is a code: zero is always within
the range and on the grid (the paper's z is the minimum, a real number), and one of the steps is kept free, so
that moving the grid clips nothing (`MinMaxScale(unclipped=True)`). What is left is B - 1 steps.

Mean over the random bits: with r bits 0 <= g - E < 2^-r step for every element, as codes are cut downwards. Variance:
step^2 f (1 - f) at the fraction f of a step, at most step^2 / 4; PSQ's sum over N rows of D elements is at most
D / (4 (B - 1)^2) sum_i range_i^2, (1 + 2^-20) for float32's roundings.
"""

from __future__ import annotations

from lowbit_sim.numerics.formats import IntFormat
from lowbit_sim.numerics.rounding import Rounding
from lowbit_sim.quant.granularity import Granularity, PerSample, PerTensor
from lowbit_sim.quant.householder import HouseholderTransform
from lowbit_sim.quant.quantizer import Quantizer
from lowbit_sim.quant.scaling import MinMaxScale


def _affine(bits: int, random_bits: int, granularity: Granularity) -> Quantizer:
    return Quantizer(
        IntFormat(bits=bits, signed=False, symmetric=False),
        granularity=granularity,
        scale=MinMaxScale(unclipped=True),
        rounding=Rounding("stochastic", random_bits=random_bits),
    )


def ptq(bits: int, *, random_bits: int = 8) -> Quantizer:
    """One range for the tensor.

    Args:
        bits: b, 2 to 16.
        random_bits: Bits drawn for an element.

    Raises:
        ValueError: Widths out of range.
    """
    return _affine(bits, random_bits, PerTensor())


def psq(bits: int, *, random_bits: int = 8) -> Quantizer:
    """One range for each sample (index of the first axis); the arguments are those of `ptq`."""
    return _affine(bits, random_bits, PerSample())


def bhq(bits: int, *, random_bits: int = 8) -> tuple[HouseholderTransform, Quantizer]:
    """The transform of the grad_input GEMM and the quantiser of its left operand; arguments as in `ptq`."""
    return HouseholderTransform(), psq(bits, random_bits=random_bits)
