import csv
import io

import pytest
from rich.console import Console

import hw_models
import lowbit_sim as lb
from lowbit_sim.study.layer_table import OTHER, layer_csv, layer_rows, layer_table
from lowbit_sim.study.price import gemm_trace, model_trace

BOX = hw_models.parse(hw_models.template("box"), "box.toml")


@pytest.fixture(scope="module")
def report() -> hw_models.CostReport:
    trace = model_trace("small_cnn", batch=2, shape=(1, 8, 8), classes=10, spec=lb.OpSpec.uniform(lb.INT8))
    return hw_models.estimate(trace, BOX)


def test_the_rows_sum_to_the_total_and_to_each_layer(report):
    rows = layer_rows(report)
    for layer, cost in [*report.by_layer.items(), (None, report.total)]:
        own = [row for row in rows if layer in (None, row.layer)]
        assert sum(row.cycles for row in own) == cost.cycles
        assert sum(row.macs for row in own) == cost.macs
        assert sum(row.dram_bytes for row in own) == cost.dram_bytes
        for end in ("low_", "", "high_"):
            energy = sum(getattr(row, f"energy_{end}pj") for row in own)
            assert energy == pytest.approx(getattr(cost, f"energy_{end}pj"))


def test_every_gemm_has_its_row_with_its_mapping(report):
    rows = [row for row in layer_rows(report) if row.gemm is not None]
    assert sorted(map(id, (row.gemm for row in rows))) == sorted(
        map(id, (event for event, _ in report.gemms))
    )
    mapped = {id(event): priced for event, priced in report.gemms}
    for row in rows:
        mapping = mapped[id(row.gemm)].mapping
        assert mapping is not None
        assert (row.tiles, row.orders, row.bound_by) == (mapping.tiles, mapping.orders, mapping.bound_by)
        assert 0 < row.utilization <= row.mapping_efficiency <= 1


def test_layers_come_in_the_order_in_which_they_ran(report):
    layers = list(dict.fromkeys(row.layer for row in layer_rows(report)))
    assert layers == list(report.by_layer)


def test_static_power_is_other_work():
    warm = hw_models.parse(
        hw_models.template("box").replace("static_power_w = 0.0", "static_power_w = 1.0"), "box.toml"
    )
    rows = layer_rows(hw_models.estimate(gemm_trace(64, 64, 64, lb.OpSpec.uniform(lb.INT8)), warm))
    gemm, other = rows
    assert (other.role, other.cycles) == (OTHER, 0)
    assert other.energy_pj == pytest.approx(1e12 * gemm.cycles / warm.clock.frequency_hz)


def test_a_gemm_on_the_vector_unit_has_no_mapping():
    report = hw_models.estimate(gemm_trace(4, 4, 4, None), BOX)
    [row] = layer_rows(report)
    assert row.tiles == row.orders == ()
    [written] = csv.DictReader(io.StringIO(layer_csv(report)))
    assert (written["M"], written["tiles"], written["loop_order"]) == ("4", "", "")


def test_the_csv_has_every_row(report):
    written = list(csv.DictReader(io.StringIO(layer_csv(report))))
    rows = layer_rows(report)
    assert [(r["layer"], r["role"], int(r["cycles"])) for r in written] == [
        (row.layer, row.role, row.cycles) for row in rows
    ]
    assert [float(r["energy_high_pj"]) for r in written] == [row.energy_high_pj for row in rows]
    first = next(row for row in rows if row.gemm)
    assert written[rows.index(first)]["tiles"] == " ".join("x".join(map(str, tile)) for tile in first.tiles)


def test_the_table_names_a_layer_once_and_shows_its_mapping(report):
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(layer_table(report))
    text = console.export_text()
    assert all(len(line) <= 100 for line in text.splitlines())
    names = [layer for layer in report.by_layer if layer]
    for name in names:
        assert sum(name in line.split("│")[1] for line in text.splitlines() if line.startswith("│")) == 1
    assert "(whole model)" in text
    row = next(row for row in layer_rows(report) if row.gemm)
    assert row.orders[0] in text
    assert ",".join(map(str, row.tiles[0])) in text
