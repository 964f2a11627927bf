"""Recipes that decide on which grid weights and inputs are: one of them alone can do so in a run."""

from __future__ import annotations

from collections.abc import Mapping

from lowbit_sim.training.pact import PACT
from lowbit_sim.training.recipe import Recipe
from lowbit_sim.training.sat import SAT


def refuse_other_owners(before: Mapping[str, Recipe], behind: Mapping[str, Recipe]) -> None:
    """Refuse SAT and PACT beside a recipe whose weights and inputs are on DoReFa's grids.

    Raises:
        ValueError: Naming the other recipe.
    """
    for name, recipe in {**before, **behind}.items():
        if isinstance(recipe, SAT | PACT):
            what = "weights" if isinstance(recipe, SAT) else "inputs"
            raise ValueError(
                f"{name} puts {what} on grids of its own, and a tensor is on one grid alone: leave one of the two out"
            )
