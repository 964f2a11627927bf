"""The cost model against AccelForge on AccelForge's machines."""

from __future__ import annotations

import pytest

from hw_models.validation.accelforge import MACHINES, SIMPLE, energy_by_part, points, row_cost, simple_energy
from hw_models.validation.data_files import read_rows
from hw_models.validation.peers import machine

ROWS = read_rows("accelforge_gemm.csv")
MEASURED = [row for row in ROWS if row["arch"] != SIMPLE]


def _id(row: dict[str, str]) -> str:
    return f"{row['arch']}-{row['M']}"


@pytest.mark.parametrize("row", [row for row in ROWS if row["arch"] == SIMPLE], ids=_id)
def test_the_machine_of_units_is_met_exactly(row: dict[str, str]) -> None:
    M, side = int(row["M"]), int(row["KN"])
    assert simple_energy(M, side, side) == float(row["energy_J"])
    assert M * side * side == float(row["latency_s"])  # one multiply-accumulate in a unit of time


def test_every_row_is_a_point() -> None:
    assert {row["arch"] for row in ROWS} == {*MACHINES, SIMPLE}
    assert len(points()) == 2 * len(MEASURED) + (len(ROWS) - len(MEASURED))


def test_energy_has_the_same_order_and_more() -> None:
    errors = [abs(p.error) for p in points() if p.quantity == "energy"]
    assert max(errors) < 10


def test_time_agrees_but_for_gemms_of_fewer_tiles_than_arrays() -> None:
    late = [p.workload for p in points() if p.quantity == "time" and abs(p.error) > 0.1]
    assert late == ["GEMM: M 128 N 128 K 128", "GEMM: M 256 N 256 K 256"]
    assert all(p.machine.startswith("tpu_v4i") for p in points() if p.workload in late and abs(p.error) > 50)


@pytest.mark.parametrize("row", MEASURED, ids=_id)
def test_multipliers_take_their_energy_alone(row: dict[str, str]) -> None:
    profile = machine(MACHINES[row["arch"]])
    each = profile.energy.multiply[0].pj.nominal
    assert row_cost(row).energy["multiply"].nominal_pj == pytest.approx(int(row["macs"]) * each)


def test_dram_energy_of_nvdla_is_that_of_its_time() -> None:
    # The DRAM bounds every GEMM: its bits are time x 38.4 GB/s, at 7.03 pJ each.
    for row in (r for r in MEASURED if r["arch"] == "nvdla"):
        expected = float(row["latency_s"]) * 38.4e9 * 8 * 7.03
        assert row_cost(row).energy["dram"].nominal_pj == pytest.approx(expected, rel=1e-3)


def test_parts_are_named_largest_first() -> None:
    assert energy_by_part(MEASURED[0]).startswith("model: dram ")
