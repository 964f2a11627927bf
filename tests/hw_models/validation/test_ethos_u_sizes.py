"""The sizes of Ethos-U as profiles."""

from __future__ import annotations

import pytest

import hw_models
from hw_models.schema.base import Sourced
from hw_models.validation.ethos_u_sizes import SIZES


@pytest.mark.parametrize("name", [*SIZES])
def test_sizes_have_the_multipliers_of_their_names(name: str) -> None:
    size = SIZES[name]
    array = size.profile.array
    assert array.macs_per_cycle(array.modes[0]) == int(name.rpartition("-")[2])
    assert size.unit * size.cores * array.rows == array.elements


def test_the_profile_is_one_of_them() -> None:
    ours, scaled = hw_models.load("ethos_u55"), SIZES["ethos-u55-128"].profile
    assert _numbers(scaled.array) == _numbers(ours.array)
    for name, level in ours.memory.levels.items():
        assert _numbers(scaled.memory.levels[name]) == _numbers(level)


def _numbers(table: Sourced) -> dict[str, object]:
    """A table without its sources: an override has one of its own."""
    return table.model_dump(exclude={"source", "sources"})
