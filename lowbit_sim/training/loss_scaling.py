"""The loss times a scale that follows the gradients' range, so that gradients in float16 neither vanish nor overflow.

    g = d(s L)/dw / s;      a gradient with inf or NaN: the update is left out, s <- s / 2;
                            2000 updates in a row: s <- 2 s

Everything that reads gradients (recipes, the optimiser) sees them unscaled, in float32. A step whose update is left
out is one that recipes are told to abandon: it leaves nothing behind in them.
Source: Micikevicius et al., "Mixed Precision Training", ICLR 2018, section 3.2; `torch.amp.GradScaler` does it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer


class LossScaling:
    """`torch.amp.GradScaler` for a loop with recipes: whether a step's update happens is known before they act.

    The host waits for the device once a step, in `unscale`, whose answer decides what `update` does.
    """

    def __init__(self, device: torch.device) -> None:
        self.scaler = torch.amp.GradScaler(device.type)  # pyright: ignore[reportPrivateImportUsage]
        self.skipped = 0
        self._finite = True

    def scaled(self, loss: Tensor) -> Tensor:
        """The loss to differentiate."""
        return self.scaler.scale(loss)

    def unscale(self, optimizer: Optimizer) -> bool:
        """Divide the gradients by the scale; whether all of them are finite."""
        self.scaler.unscale_(optimizer)
        self._finite = _all_finite([p.grad for group in optimizer.param_groups for p in group["params"]])
        return self._finite

    def update(self, optimizer: Optimizer) -> None:
        """After `unscale`: the optimiser's step, unless a gradient was not finite then; and the scale's own.

        Not `GradScaler.step`, which asks the device once more for what `unscale` has found.
        """
        if self._finite:
            optimizer.step()
        else:
            self.skipped += 1
        self.scaler.update()

    def measurements(self) -> dict[str, float]:
        """The scale, and how many updates were left out so far."""
        return {"loss_scale.scale": self.scaler.get_scale(), "loss_scale.skipped_steps": float(self.skipped)}

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs to go on bit for bit."""
        return {"scaler": self.scaler.state_dict(), "skipped": self.skipped}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a `state_dict`."""
        self.scaler.load_state_dict(state["scaler"])
        self.skipped = state["skipped"]


def _all_finite(gradients: list[Tensor | None]) -> bool:
    norms = [torch.linalg.vector_norm(g, torch.inf) for g in gradients if g is not None and g.numel()]
    return not norms or bool(torch.isfinite(torch.stack(norms)).all())
