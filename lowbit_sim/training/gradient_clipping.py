"""Clip the norm of the whole gradient: g <- g min(1, max_norm / ||g||_2), over all parameters together.

Source: Pascanu, Mikolov and Bengio, "On the difficulty of training recurrent neural networks", ICML 2013,
algorithm 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from lowbit_sim.training.recipe import Step


@dataclass(frozen=True, kw_only=True)
class ClipGradientNorm:
    """A recipe. A gradient whose norm is at most `max_norm` keeps its bits.

    Args:
        max_norm: The largest L2 norm that the gradient may have.

    Raises:
        ValueError: A norm that is not positive.
    """

    max_norm: float

    def __post_init__(self) -> None:
        if not self.max_norm > 0:
            raise ValueError(f"max_norm must be positive, got {self.max_norm}")

    def before_step(self, step: Step) -> None:
        """Nothing."""

    def on_gradients(self, step: Step) -> None:
        """Scale the gradients if their norm is too large."""
        gradients = [p.grad for p in step.model.parameters() if p.grad is not None]
        if not gradients:
            return
        norm = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(g) for g in gradients]))
        if norm > self.max_norm:
            for gradient in gradients:
                gradient.mul_(self.max_norm / norm)

    def after_step(self, step: Step) -> None:
        """Nothing."""
