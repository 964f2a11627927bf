import io
from dataclasses import replace

from rich.console import Console

import hw_models
import lowbit_sim as lb
from lowbit_sim.study.cost_table import cost_table, energy_range
from lowbit_sim.study.price import gemm_trace, model_trace
from lowbit_sim.study.quantities import with_prefix

BOX = hw_models.parse(hw_models.template("box"), "box.toml")
INT8 = lb.OpSpec.uniform(lb.INT8)


def shown(report: hw_models.CostReport) -> str:
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(cost_table(report, "title [a]"))
    return console.export_text()


def step() -> hw_models.CostReport:
    trace = model_trace("mlp", batch=2, shape=(1, 8, 8), classes=10, spec=INT8)
    return hw_models.estimate(trace, BOX)


def test_a_row_for_each_role_that_ran_and_the_total():
    report = step()
    rows = {line.split("│")[1].strip(): line for line in shown(report).splitlines() if line.startswith("│")}
    assert list(rows) == ["output", "grad_input", "grad_weight", "update", "overhead", "total"]
    for role, cost in [*report.by_role.items(), ("total", report.total)]:
        assert f"{cost.cycles:,}" in rows[role]
        assert with_prefix(cost.energy_pj * 1e-12, "J") in rows[role]
        assert energy_range(cost.energy_low_pj, cost.energy_high_pj) in rows[role]
    forward = hw_models.estimate(gemm_trace(4, 4, 4, INT8), BOX)
    assert "grad_weight" not in shown(forward)


def test_the_shares_are_of_the_whole():
    report = step()
    text = " ".join(shown(report).split())
    dram = report.energy["dram"].nominal_pj / report.energy_pj
    assert f"dram {100 * dram:.3g} %" in text.split("Energy: ")[1].split("Time by")[0]
    gemm = report.by_kind["gemm"].cycles / report.cycles
    assert f"gemm {100 * gemm:.3g} %" in text.split("Time by kind of work: ")[1]
    assert f"Energy-delay product: {report.edp:.3g} J s" in text


def test_memory_area_and_devices_are_told_where_they_are_known():
    report = step()
    assert "Area" not in shown(report)
    assert "machines that train together" not in shown(report)
    more = replace(report, area_mm2=1.234, devices=4)
    assert "multiply-accumulate units: 1.23 mm^2" in shown(more)
    assert "One of 4 machines that train together" in shown(more)
    kept = shown(report).split("Memory that the step keeps: ")[1]
    assert kept.startswith(with_prefix(report.footprint.total, "B", smallest=0))


def test_notes_are_below_and_the_title_is_no_markup():
    noted = replace(step(), notes=("runs on [x]",))
    assert "Note: runs on [x]" in shown(noted)
    assert "title [a]" in shown(noted)


def test_a_range_has_its_unit_once_where_both_ends_share_it():
    assert energy_range(15.2e9, 96.4e9) == "15.2 - 96.4 mJ"
    assert energy_range(197e9, 1.31e12) == "197 mJ - 1.31 J"
    assert energy_range(0, 0) == "-"
    assert energy_range(578.1e3, 578.2e3) == "-"


def test_nothing_has_no_shares():
    nothing = hw_models.estimate(gemm_trace(0, 4, 4, INT8), BOX)
    assert "Time by kind of work: none" in shown(nothing)
