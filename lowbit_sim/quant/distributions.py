"""Samples of named distributions of a gradient's magnitudes: the quantiles of so many elements, without chance.

    x_i = F^-1((i + 1/2) / n),  i = 0 .. n - 1,  over the largest one

with F the distribution of |g|. Neural gradients are near lognormal: Chmiel et al., "Neural gradients are
near-lognormal: improved quantized and sparse training", ICLR 2021.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from lowbit_sim.numerics.suggest import unknown
from lowbit_sim.numerics.whole import is_whole

#: The inverse distribution of the magnitudes by name: of a probability, up to scale.
DISTRIBUTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "uniform": lambda p: p,
    "normal": lambda p: torch.special.ndtri((1 + p) / 2),
    "laplace": lambda p: -torch.log1p(-p),
    "lognormal": torch.special.ndtri,  # of the logarithm
}


def magnitudes(distribution: str, *, spread: float | None = None, elements: int = 65536) -> Tensor:
    """The magnitudes of a tensor's elements over the largest of them, ascending, float64.

    Args:
        distribution: "uniform", "normal", "laplace" (|g| is exponential) or "lognormal" (of |g|).
        spread: Standard deviation of ln |g|, of a lognormal one only.
        elements: Elements of the tensor: the more, the further its largest one is out.

    Raises:
        ValueError: An unknown distribution, a spread that is missing or has no effect, or sizes out of range.
    """
    if distribution not in DISTRIBUTIONS:
        raise ValueError(unknown("distribution", distribution, DISTRIBUTIONS))
    if not is_whole(elements, 16, 1 << 22):
        raise ValueError(f"elements is from 16 to 2^22, got {elements!r}")
    if (spread is None) == (distribution == "lognormal"):
        raise ValueError(
            f"spread goes with 'lognormal', and only with it: got {spread!r} for {distribution!r}"
        )
    if spread is not None and not 0 < spread <= 16:
        raise ValueError(f"spread is above 0 and at most 16, got {spread!r}")
    x = DISTRIBUTIONS[distribution]((torch.arange(elements, dtype=torch.float64) + 0.5) / elements)
    return x / x[-1] if spread is None else torch.exp(spread * (x - x[-1]))
