"""The cost model against ZigZag on ZigZag's machines."""

from __future__ import annotations

import pytest

from hw_models.validation.data_files import read_rows
from hw_models.validation.peers import machine
from hw_models.validation.zigzag import DRAM, MAC, modelled_parts, points, published_parts, row_cost

ROWS = read_rows("zigzag_gemm.csv")


def _id(row: dict[str, str]) -> str:
    return f"{row['hw']}-{row['M']}-{row['N']}-{row['K']}"


@pytest.mark.parametrize("row", ROWS, ids=_id)
def test_parts_are_the_whole_of_both_energies(row: dict[str, str]) -> None:
    assert sum(published_parts(row).values()) == pytest.approx(float(row["energy_total_pJ"]), rel=1e-6)
    assert sum(modelled_parts(row).values()) == pytest.approx(row_cost(row).energy_pj)


@pytest.mark.parametrize("row", ROWS, ids=_id)
@pytest.mark.parametrize("part", [MAC, DRAM])
def test_multipliers_and_dram_agree(row: dict[str, str], part: str) -> None:
    assert modelled_parts(row)[part] == pytest.approx(published_parts(row)[part], rel=1e-5)


def test_energy_has_the_same_order_and_more() -> None:
    errors = [p.error for p in points() if p.quantity == "energy"]
    assert len(errors) == len(ROWS)
    assert max(abs(e) for e in errors) < 20


def test_cycles_agree_where_one_memory_bounds_both() -> None:
    cycles = [p for p in points() if p.quantity == "cycles"]
    assert max(abs(p.error) for p in cycles) < 40
    near = [p for p in cycles if abs(p.error) < 2.1]
    assert len(near) == len(cycles) - 2  # where ZigZag does not overlap its loads


def test_a_difference_names_its_parts() -> None:
    note = next(p.note for p in points() if p.quantity == "energy")
    assert [part.split()[0] for part in note.split(", ")] == ["SRAM", "registers", "MAC", "DRAM"]


def test_sums_of_gemm_l1_cross_one_port_both_ways() -> None:
    # 8 x 8 sums of 32 bits are written in each of 4,096 steps and read back in all but the first pass: 2 x 256 bytes
    # a step over a port of 256 bytes a cycle.
    (row,) = (r for r in ROWS if _id(r) == "gemm_l1-128-128-128")
    assert row_cost(row).bound_by == "sums"
    assert machine("zigzag_gemm_l1").memory.levels["sums"].bandwidth_bytes_per_cycle == 256
