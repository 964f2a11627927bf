"""What a correction does to the gradient, in numbers: means over the steps of the epoch in progress.

The gain <M(g), g> / <g, g> is the factor on the learning rate that the correction amounts to; the cosine
<M(g), g> / (|M(g)| |g|) is 1 where it does nothing else.

The three dot products are instrumentation of the simulator: they run in every step, but no machine that trains needs
them, so the trace does not bill them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

_NAMES = ("gain", "cosine")


@dataclass(kw_only=True, eq=False)
class Effect:
    """Sums over the steps of an epoch.

    Attributes:
        epoch: The epoch.
        steps: Its corrections so far.
        sums: Of gain and cosine [2]; None before the first one.
        updates: Its updates of phi so far.
        norms: Sum of the norms of phi's gradient in these.
    """

    epoch: int = 0
    steps: int = 0
    sums: Tensor | None = None
    updates: int = 0
    norms: float = 0.0

    def start(self, epoch: int) -> None:
        """Begin anew where the epoch is another one."""
        if epoch != self.epoch:
            self.epoch, self.steps, self.sums, self.updates, self.norms = epoch, 0, None, 0, 0.0

    def corrected(self, gradient: Tensor, corrected: Tensor) -> None:
        """Take in a correction."""
        dot, size, after = (
            torch.dot(*pair) for pair in ((corrected, gradient), (gradient, gradient), (corrected, corrected))
        )
        values = torch.stack((dot / size, dot / (size.sqrt() * after.sqrt())))
        # A gradient of zeros has neither; it must not hide the other steps'.
        values = torch.where(size > 0, values, torch.ones_like(values))
        # Sums of a checkpoint come back on the CPU.
        self.sums = values if self.sums is None else self.sums.to(values.device) + values
        self.steps += 1

    def updated(self, norm: float) -> None:
        """Take in an update of phi."""
        self.norms += norm
        self.updates += 1

    def measurements(self) -> dict[str, float]:
        """The means by name; nothing before the first step."""
        means: dict[str, float] = {}
        if self.sums is not None:
            means.update(zip(_NAMES, (self.sums / self.steps).tolist(), strict=True))
        if self.updates:
            means["phi_gradient_norm"] = self.norms / self.updates
        return means

    def state_dict(self) -> dict[str, Any]:
        """Plain values and tensors."""
        return dict(vars(self))

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a `state_dict`."""
        vars(self).update(state)
