"""Every cell of NVDLA's sheet that follows from a layer's attributes, exactly."""

from __future__ import annotations

import csv
from importlib import resources

import pytest

from hw_models.validation.nvdla import SheetRow, sheet_rows
from hw_models.validation.nvdla_sheet import (
    MACS,
    costs_with_sram,
    costs_without_sram,
    images_in_sram,
    sheet_images,
    sizes,
)

#: The one inconsistency of the sheet: the first of conv 2's two equal rows shares its weights by 16 images, all other
#: convolutions by 18. It bounds nothing.
_INCONSISTENT = {(1, 30): 9.375, (1, 31): 938.0}

IMAGES = sheet_images([row.layer for row in sheet_rows()])


def _derived(row: SheetRow) -> dict[int, object]:
    """The sheet's columns by number, as the attributes give them."""
    layer, size = row.layer, sizes(row.layer)
    high, wide = (
        layer.outputs(layer.height, layer.kernel_height),
        layer.outputs(layer.width, layer.kernel_width),
    )
    near, far = costs_with_sram(layer, IMAGES), costs_without_sram(layer)
    return {
        13: high,
        14: wide,
        20: layer.pooled(high),
        21: layer.pooled(wide),
        22: size.calculation,
        23: size.input_kb,
        24: size.least_input_kb,
        25: size.output_kb,
        26: size.weights_kb,
        27: size.least_weights_kb,
        28: layer.winograd,
        29: images_in_sram(layer),
        30: near.dram_kb,
        31: near.dram_cycles,
        32: near.sram_read_kb,
        33: near.sram_read_cycles,
        34: near.sram_write_kb,
        35: near.sram_write_cycles,
        36: near.mac_cycles,
        37: near.cycles,
        38: near.long_pole,
        40: far.dram_kb,
        41: far.dram_cycles,
        42: far.mac_cycles,
        43: far.cycles,
        44: far.long_pole,
    }


def _cell(text: str) -> object:
    if text in ("True", "False"):
        return text == "True"
    try:
        return float(text)
    except ValueError:
        return text or None


@pytest.mark.parametrize("index", range(len(sheet_rows())))
def test_every_derived_column_is_the_sheets(index: int) -> None:
    row = sheet_rows()[index]
    expected = {column: _cell(row.cells[column]) for column in _derived(row)}
    for (at, column), value in _INCONSISTENT.items():
        if at == index:
            assert expected[column] == value
            expected[column] = _derived(sheet_rows()[index + 1])[column]
    assert _derived(row) == expected


def test_rows_are_the_eleven_of_alexnet() -> None:
    names = [row.name for row in sheet_rows()]
    assert names == [
        "conv 1",
        *["conv 2"] * 2,
        "conv 3",
        *["conv 4"] * 2,
        *["conv 5"] * 2,
        "fc1",
        "fc2",
        "fc3",
    ]


def test_images_that_share_weights_are_what_fits_beside_the_first_layer() -> None:
    assert IMAGES == 18


@pytest.mark.parametrize(("column", "derived"), [(37, costs_with_sram), (43, costs_without_sram)])
def test_totals_rates_and_efficiencies_are_the_sheets(column: int, derived: object) -> None:
    text = (resources.files("hw_models.validation") / "data/nvdla_alexnet_per_layer.csv").read_text()
    summary = {
        row[column - 1]: float(row[column])
        for row in csv.reader(text.splitlines())
        if row[3] == "" and row[column]
    }
    if derived is costs_with_sram:
        costs = [costs_with_sram(row.layer, IMAGES) for row in sheet_rows()]
    else:
        costs = [costs_without_sram(row.layer) for row in sheet_rows()]
    cycles = sum(cost.cycles for cost in costs)
    macs = sum(sizes(row.layer).calculation for row in sheet_rows())
    assert cycles == summary["Total Cycle"]
    assert cycles / 1e6 == pytest.approx(summary["Total Time"], rel=1e-15)
    assert 1e9 / cycles == pytest.approx(summary["FPS"], rel=1e-14)
    assert sum(cost.mac_cycles for cost in costs) / cycles == pytest.approx(summary["HW MAC Effi"], rel=1e-14)
    assert macs / MACS / cycles == pytest.approx(summary["Network MAC Effi"], rel=1e-14)
