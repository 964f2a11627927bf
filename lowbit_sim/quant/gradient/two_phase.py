"""Two-phase rounding to radix-4 FP4: the two backward GEMMs read the gradient on interleaved grids.

A [sign 1, exponent 3, mantissa 0] format of radix 4 has levels 4^n: twice the dynamic range of radix 2 and twice the
distance. So the gradient is rounded twice, to even powers of two for one GEMM and to odd ones, the same levels
times 2, for the other: what lies near a threshold of one grid lies near a level of the other. Sun et al. 2020,
"Ultra-Low Precision 4-bit Training of Deep Neural Networks" (NeurIPS). Rounding is to nearest,
deterministic: the threshold between 4^n and 4^(n+1) is their midpoint 4^(n+1) / 1.6.

Both phases share a scale, which maps the largest magnitude to the largest level of the two (that of the odd grid);
the even grid, whose largest is half of it, saturates above. (The paper's GradScale is a trainable scale instead.)
"""

from __future__ import annotations

from dataclasses import dataclass

from lowbit_sim.numerics.catalog import LOG4_RADIX4, LOG4_RADIX4_ODD
from lowbit_sim.quant.granularity import Granularity, PerTensor
from lowbit_sim.quant.quantizer import Quantizer
from lowbit_sim.quant.scaling import AbsMaxScale


@dataclass(frozen=True, kw_only=True)
class TwoPhase:
    """The quantisers of grad_output in the two backward GEMMs.

    Attributes:
        grad_input: The even phase.
        grad_weight: The odd phase.
    """

    grad_input: Quantizer
    grad_weight: Quantizer


def two_phase_fp4(*, granularity: Granularity = PerTensor()) -> TwoPhase:
    """The pair of radix-4 quantisers with a common scale.

    Args:
        granularity: Which elements share a scale.
    """
    scale = AbsMaxScale(top=LOG4_RADIX4_ODD.max_value)
    return TwoPhase(
        grad_input=Quantizer(LOG4_RADIX4, granularity=granularity, scale=scale),
        grad_weight=Quantizer(LOG4_RADIX4_ODD, granularity=granularity, scale=scale),
    )
