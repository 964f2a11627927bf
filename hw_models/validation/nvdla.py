"""NVDLA: the vendor's performance sheet for AlexNet, by its own conventions and by the cost model.

The sheet's rows by its conventions (`nvdla_sheet`) are exact. Its cycles without an SRAM stand against the cost model
with the `nvdla_large` profile at the sheet's bandwidth too. The model knows no Winograd transform: on 3x3 layers it
computes 2.25 times as long, and fetches 9 weights where the transformed kernels have 16.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from importlib import resources
from math import ceil

from hw_models.explore.overrides import with_overrides
from hw_models.load import load
from hw_models.validation.layers import ConvShape, convolution, engine_cycles, gemm
from hw_models.validation.nvdla_primer import as_estimated
from hw_models.validation.nvdla_sheet import (
    FULLY_CONNECTED_BATCH,
    SheetLayer,
    costs_with_sram,
    costs_without_sram,
    sheet_images,
)
from hw_models.validation.table import Point
from lowbit_sim.trace import GemmEvent

SHEET = "NVDLA performance sheet, AlexNet"


@dataclass(frozen=True, kw_only=True)
class SheetRow:
    """A row of the sheet: the layer that its attributes describe, and its cells by column number."""

    layer: SheetLayer
    cells: tuple[str, ...]

    @property
    def name(self) -> str:
        """The layer as the sheet calls it; the two groups of a grouped convolution are a row each."""
        return f"{self.cells[3]} {self.cells[2]}" if self.cells[3] == "conv" else self.cells[2]


@cache
def sheet_rows() -> tuple[SheetRow, ...]:
    """The rows of the sheet that are layers."""
    # Columns by number: the second mode repeats the first one's names.
    text = (resources.files("hw_models.validation") / "data/nvdla_alexnet_per_layer.csv").read_text("utf-8")
    rows = [tuple(r) for r in csv.reader(text.splitlines()) if r[3] in ("conv", "fc")]
    last = max(i for i, r in enumerate(rows) if r[3] == "conv")
    return tuple(
        SheetRow(layer=_layer(r, first=i == 0, last=rows[last][2] == r[2]), cells=r)
        for i, r in enumerate(rows)
    )


def _layer(cells: tuple[str, ...], *, first: bool, last: bool) -> SheetLayer:
    number = [int(c) for c in cells[4:10]]
    return SheetLayer(
        fully_connected=cells[3] == "fc",
        channels=number[0],
        height=number[1],
        width=number[2],
        kernels=number[3],
        kernel_height=number[4],
        kernel_width=number[5],
        padded=cells[10] == "True",
        stride=int(cells[11]),
        pool=(int(cells[16]), int(cells[18])) if cells[15] == "True" else None,
        reads_input=first,
        writes_output=last,
    )


def sheet_points() -> list[Point]:
    """Cycles of each row in both modes of the sheet, by the sheet's conventions."""
    rows = sheet_rows()
    images = sheet_images([row.layer for row in rows])
    points = []
    for row in rows:
        for quantity, column, costs in (
            ("cycles with SRAM", 37, costs_with_sram(row.layer, images)),
            ("cycles without SRAM", 43, costs_without_sram(row.layer)),
        ):
            points.append(
                Point(
                    source=SHEET,
                    machine="NVDLA, 2048 MACs (sheet's conventions)",
                    workload=row.name,
                    quantity=quantity,
                    published=float(row.cells[column]),
                    modelled=costs.cycles,
                    unit="cycles",
                    note=f"bound by {costs.long_pole}",
                )
            )
    return points


def sheet_event(layer: SheetLayer) -> GemmEvent:
    """A row of the sheet as a GEMM; a fully connected layer with the images that share its weights.

    The first layer as the engine takes it: a stride of s trades taps for channels, s^2 as many in kernels of 1 / s
    the side, so that its multipliers for many channels have something to do.
    """
    if layer.fully_connected:
        taps = layer.channels * layer.height * layer.width
        return gemm("fc", M=FULLY_CONNECTED_BATCH, N=layer.kernels, K=taps)
    step = layer.stride
    return convolution(
        ConvShape(
            name="conv",
            channels=layer.channels * step**2,
            size=(ceil(layer.height / step), ceil(layer.width / step)),
            filters=layer.kernels,
            kernel=(ceil(layer.kernel_height / step), ceil(layer.kernel_width / step)),
            output=(
                layer.outputs(layer.height, layer.kernel_height),
                layer.outputs(layer.width, layer.kernel_width),
            ),
        )
    )


def model_points() -> list[Point]:
    """Cycles of each row without an SRAM, by the cost model."""
    large = load("nvdla_large")
    bandwidth = {"memory.dram.bandwidth_bytes_per_second": 10_000_000_000}
    profile = with_overrides(large, {**as_estimated(large.array.columns), **bandwidth})
    points = []
    for row in sheet_rows():
        images = FULLY_CONNECTED_BATCH if row.layer.fully_connected else 1
        points.append(
            Point(
                source=SHEET,
                machine="nvdla_large at 10 GB/s",
                workload=row.name,
                quantity="cycles without SRAM, cost model",
                published=float(row.cells[43]),
                modelled=engine_cycles(sheet_event(row.layer), profile) / images,
                unit="cycles",
                note=_difference(row.layer),
            )
        )
    return points


def _difference(layer: SheetLayer) -> str:
    if layer.winograd:
        return "the sheet streams Winograd's 16 weights for 9, the model 9"
    if layer.fully_connected:
        return "the sheet's kB is 1024 bytes in sizes and 1000 in bandwidth"
    return "the sheet counts channels in steps of 16, the array takes 64 at once"


def points() -> list[Point]:
    """The sheet by its own conventions and by the cost model."""
    return [*sheet_points(), *model_points()]
