"""The definition of PACT and CG-PACT for one element, in plain Python: what `pact.py` must equal, bit for bit."""

from __future__ import annotations

from dataclasses import dataclass

from lowbit_sim.numerics.reference import float32
from lowbit_sim.quant.pact import ClipGrid


@dataclass(frozen=True, kw_only=True)
class ClippedElement:
    """What becomes of one element.

    Attributes:
        code: Its code, a whole number of steps.
        value: y_q, a float32.
        passes: dy_q/dx, 0 or 1.
        pact: dy_q/dalpha of PACT.
        cg_pact: dy_q/dalpha of CG-PACT, not rounded.
    """

    code: int
    value: float
    passes: int
    pact: float
    cg_pact: float


def clip_element(x: float, alpha: float, grid: ClipGrid) -> ClippedElement:
    """One element, clipped at a positive alpha and rounded.

    Args:
        x: A float32, not NaN.
        alpha: A float32, positive.
        grid: The levels.
    """
    low = -alpha if grid.two_sided else 0.0
    step = float32(alpha / grid.steps)
    scaled = float32(x * float32(1 / step))
    end = -grid.steps if grid.two_sided else 0
    code = end if scaled <= end else grid.steps if scaled >= grid.steps else round(scaled)
    inside = low < x < alpha
    beyond = code / grid.steps
    return ClippedElement(
        code=code,
        value=float32(code * step),
        passes=int(inside),
        pact=0.0 if inside else beyond,
        cg_pact=(code - scaled) / grid.steps if inside else beyond,
    )
