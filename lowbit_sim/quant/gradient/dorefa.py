"""DoReFa's gradient quantiser: 2^k levels, symmetric and without a zero, per sample, stochastic.

f(g) = 2 m (q_k(g / 2m + 1/2 + noise) - 1/2), m = max|g| over the sample, q_k(x) = round((2^k - 1) x) / (2^k - 1),
noise uniform over one step: Zhou et al. 2016, "DoReFa-Net" (arXiv 1606.06160). Its levels are
m (2i - (2^k - 1)) / (2^k - 1), the odd integers from -(2^k - 1) to 2^k - 1 times the scale m / (2^k - 1).
Uniform noise of one step before rounding to nearest is stochastic rounding.

Mean over the random bits: with r bits and y = g / scale between the levels a and a + 2, the fraction of the way is
cut to r bits, so the mean is within 2^-r of a step (2 scale) of g, on the side of the level of smaller magnitude.
Variance: (y - a)(a + 2 - y) scale^2 but for the same cut, at most scale^2.
"""

from __future__ import annotations

from lowbit_sim.numerics.formats import CodebookFormat
from lowbit_sim.numerics.rounding import Rounding
from lowbit_sim.numerics.whole import is_whole
from lowbit_sim.quant.granularity import Granularity, PerSample
from lowbit_sim.quant.quantizer import Quantizer

_PER_SAMPLE = PerSample()


def dorefa_format(bits: int) -> CodebookFormat:
    """The odd integers from -(2^bits - 1) to 2^bits - 1.

    Raises:
        ValueError: A width outside 1 to 16.
    """
    if not is_whole(bits, 1, 16):
        raise ValueError(f"DoReFa's gradients have 1 to 16 bits, got bits={bits!r}")
    top = (1 << bits) - 1
    return CodebookFormat(values=tuple(float(v) for v in range(-top, top + 1, 2)), name=f"dorefa{bits}")


def dorefa_gradient(bits: int, *, random_bits: int = 8, granularity: Granularity = _PER_SAMPLE) -> Quantizer:
    """DoReFa's quantiser of grad_output.

    A sample of zeros has a next to zero scale (2^-126), as no level is zero.

    Args:
        bits: k.
        random_bits: Bits drawn for an element.
        granularity: The paper takes the maximum over each sample; a gradient of the weight sums over samples and
            needs PerTensor().

    Raises:
        ValueError: Widths out of range.
    """
    return Quantizer(
        dorefa_format(bits), granularity=granularity, rounding=Rounding("stochastic", random_bits=random_bits)
    )
