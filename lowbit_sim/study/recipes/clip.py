"""`{ name = "clip_gradient_norm", max_norm = 5.0 }`: see `training.gradient_clipping`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from lowbit_sim.study.recipes.base import RecipeContext, RecipeTable
from lowbit_sim.training.gradient_clipping import ClipGradientNorm


class ClipGradientNormTable(RecipeTable):
    """Clip the norm of the whole gradient.

    Attributes:
        max_norm: The largest L2 norm that the gradient may have.
    """

    name: Literal["clip_gradient_norm"]
    max_norm: float = Field(gt=0)

    def build(self, context: RecipeContext) -> ClipGradientNorm:
        """The recipe."""
        return ClipGradientNorm(max_norm=self.max_norm)
