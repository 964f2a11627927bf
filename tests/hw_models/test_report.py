"""The report's own figures, and its form for JSON."""

import json

import pytest

import hw_models
from hw_models.cost import Cost
from hw_models.footprint import Footprint
from hw_models.ranges import EnergyRange
from hw_models.report import CostReport
from lowbit_sim.trace import ROLES, WorkloadTrace
from tests.hw_models.machines import gemm, tiny

COST = Cost(cycles=500, energy={"dram": EnergyRange(1e12, 2e12, 4e12)})
REPORT = CostReport(
    machine="tiny",
    frequency_hz=1000,
    rows=(("update", "", "optimizer_update", COST),),
    footprint=Footprint(weights=1, gradients=2, optimizer_state=3, activations=4),
)


def test_time_and_energy_in_units():
    assert (REPORT.cycles, REPORT.seconds) == (500, 0.5)
    assert (REPORT.energy_low_pj, REPORT.energy_pj, REPORT.energy_high_pj) == (1e12, 2e12, 4e12)
    assert REPORT.edp == pytest.approx(2 * 0.5)
    assert REPORT.to_dict()["footprint_bytes"] == {
        "weights": 1, "gradients": 2, "optimizer_state": 3, "activations": 4,
    }  # fmt: skip


def test_the_report_is_json():
    report = hw_models.estimate(WorkloadTrace([gemm(), gemm(layer="b", role="grad_weight")]), tiny())
    data = json.loads(json.dumps(report.to_dict()))
    assert data["machine"] == "tiny"
    assert data["cycles"] == report.cycles
    assert [data[key] for key in ("energy_low_pj", "energy_pj", "energy_high_pj")] == [report.energy_pj] * 3
    components = data["energy_by_component"].values()
    assert sum(c["nominal_pj"] for c in components) == pytest.approx(report.energy_pj)
    assert sum(data["cycles_by_bound"].values()) == report.cycles
    assert list(data["by_role"]) == list(ROLES)
    assert data["by_layer"]["fc"]["cycles"] == report.by_layer["fc"].cycles
    assert data["by_kind"]["gemm"]["cycles"] == report.cycles
    assert data["area_mm2"] is None
