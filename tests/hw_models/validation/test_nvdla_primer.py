"""The cost model against the rates and the power that the NVDLA primer gives for ResNet-50."""

from __future__ import annotations

from functools import cache

import pytest

from hw_models.validation.data_files import silicon_rows
from hw_models.validation.nvdla_primer import PJ_PER_MJ, Size, energy_points, frame_energy, rate_points, sizes
from hw_models.validation.table import Point


@cache
def _rates() -> tuple[Point, ...]:
    return tuple(rate_points())


def test_sizes_have_the_multipliers_and_figures_of_the_rates() -> None:
    assert [s.rows * s.columns for s in sizes()] == [2048, 1024, 512, 256, 128, 64, 32]
    assert [s.frames_per_second for s in sizes()] == [269, 153, 93, 46, 20, 7.3, 3.6]


def test_frames_per_second_of_the_four_larger_sizes_within_15_percent() -> None:
    errors = [abs(p.error) for p in _rates() if p.quantity == "frames per second"]
    assert max(errors[:4]) < 15


def test_exposed_loads_are_never_faster() -> None:
    hidden = [p.modelled for p in _rates() if p.quantity == "frames per second"]
    exposed = [p.modelled for p in _rates() if p.quantity != "frames per second"]
    assert all(a >= b for a, b in zip(hidden, exposed, strict=True))


def test_the_three_smallest_sizes_lie_above_the_published_rates() -> None:
    # Reported as a difference: no overlap of loads explains it for 64 and 32 multipliers.
    errors = {p.workload.split(", ")[-1]: p.error for p in _rates() if p.quantity != "frames per second"}
    assert 35 < errors["64 MACs"] < 50
    assert 35 < errors["32 MACs"] < 50
    assert abs(errors["128 MACs"]) < 10


def _macs(size: Size) -> str:
    return f"{size.rows * size.columns}-macs"


@pytest.mark.parametrize("size", sizes(), ids=_macs)
def test_figures_are_those_of_the_reference_table(size: Size) -> None:
    (row,) = (r for r in silicon_rows("NVDLA") if r["array"] == str(size.rows * size.columns))
    assert float(row["value"]) == size.frames_per_second
    assert f"/{size.average_mw:g} mW" in row["note"]
    assert f"{size.buffer_kib} kB; {size.bytes_per_second / 1e9:g} GB/s" in row["note"]


@pytest.mark.parametrize("size", sizes(), ids=_macs)
def test_published_energy_lies_in_the_models_range(size: Size) -> None:
    published = size.average_mw / size.frames_per_second
    energy = frame_energy(size)
    assert energy.low_pj / PJ_PER_MJ < published < energy.high_pj / PJ_PER_MJ


def test_nominal_energy_of_the_four_larger_sizes_is_below_the_chips_by_half_at_most() -> None:
    # Control, clock and post-processing are in the published power and not in the model.
    assert all(-55 < p.error < 0 for p in list(energy_points())[:4])


def test_ends_of_the_range_are_in_the_note() -> None:
    assert all("low" in p.note and "high" in p.note for p in energy_points())
