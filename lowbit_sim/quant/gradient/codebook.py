"""A gradient quantiser with levels of one's own: a static codebook, by default with stochastic rounding.

Codes are looked up in a table before they enter the multiplier: 15 levels have codes of 4 bits, and where the levels
are whole numbers (`quant.codebook.grid_codebook`) the MAC unit is an integer one, as wide as the levels.

Mean over the random bits: with r bits, |E - g| < 2^-r (high - low) for g between the levels low and high, on the side
of the one of smaller magnitude. Variance: (g - low)(high - g) but for the same cut.
"""

from __future__ import annotations

from collections.abc import Sequence

from lowbit_sim.numerics.formats import CodebookFormat
from lowbit_sim.numerics.rounding import Rounding
from lowbit_sim.quant.granularity import Granularity, PerTensor
from lowbit_sim.quant.quantizer import Quantizer
from lowbit_sim.quant.scaling import AbsMaxScale


def codebook_gradient(
    values: Sequence[float],
    *,
    top: float | None = None,
    random_bits: int = 8,
    granularity: Granularity = PerTensor(),
) -> Quantizer:
    """The quantiser of grad_output with these levels.

    Args:
        values: 2 to 65536 ascending float32 values, below and above zero.
        top: What the largest magnitude of a tensor is scaled to, a `Codebook`'s `top`; None for the end of the
            levels that is nearer to zero, so that nothing is clipped.
        random_bits: Bits drawn for an element; 0 rounds to nearest even.
        granularity: Which elements share a scale.

    Raises:
        TypeError, ValueError: Values that are no codebook or of one sign, or a width or top out of range.
    """
    levels = CodebookFormat(values=tuple(values), name=f"codebook{len(values)}")
    if not levels.values[0] < 0 < levels.values[-1]:
        raise ValueError(
            "a gradient has elements of both signs: give levels below and above zero, got levels from "
            f"{levels.values[0]} to {levels.values[-1]}"
        )
    return Quantizer(
        levels,
        granularity=granularity,
        scale=AbsMaxScale(top=top),
        rounding=Rounding("stochastic", random_bits=random_bits) if random_bits else Rounding(),
    )
