"""Every GEMM of a workload with the mapping that was chosen for it, as a table and as CSV.

A layer's GEMMs have a row each; one more holds the layer's other work, which is vector work and static power. The
rows sum to the report's total.
"""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass, replace

from rich.table import Table
from rich.text import Text

import hw_models
from hw_models.gemm_cost import GemmCost
from lowbit_sim.study.quantities import with_prefix
from lowbit_sim.trace import GemmEvent

OTHER = "other work"
WHOLE_MODEL = "(whole model)"


@dataclass(frozen=True, kw_only=True)
class LayerRow:
    """A GEMM of a layer, or the layer's other work.

    Attributes:
        layer: Module path; "" is work of the whole model.
        role: The GEMM's, or `OTHER`.
        gemm: The GEMM, if it is one.
        cycles, energy_low_pj, energy_pj, energy_high_pj, dram_bytes, macs: Its share.
        utilization: Useful share of the array's peak, 0 to 1.
        bound_by: What most of its time went to.
        tiles: (m, n, k) of each stage of memories, from the array outwards; empty where nothing is mapped.
        orders: Order of the loops over the tiles of each stage, outermost first.
        mapping_efficiency: Share of the array that holds work, 0 to 1.
    """

    layer: str
    role: str
    gemm: GemmEvent | None = None
    cycles: int
    energy_low_pj: float
    energy_pj: float
    energy_high_pj: float
    dram_bytes: int
    macs: int
    utilization: float = 0.0
    bound_by: str = ""
    tiles: tuple[tuple[int, int, int], ...] = ()
    orders: tuple[str, ...] = ()
    mapping_efficiency: float = 0.0


def layer_rows(report: hw_models.CostReport) -> list[LayerRow]:
    """The rows of a report, layers in the order in which they first ran."""
    gemms: dict[str, list[LayerRow]] = {layer: [] for layer in report.by_layer}
    for event, priced in report.gemms:
        gemms[event.layer].append(_gemm_row(event, priced))
    rows: list[LayerRow] = []
    for layer, cost in report.by_layer.items():
        other = _other_work(layer, cost, gemms[layer])
        rows += gemms[layer]
        if other.cycles or other.energy_high_pj > 0 or other.dram_bytes:
            rows.append(other)
    return rows


def _gemm_row(event: GemmEvent, priced: GemmCost) -> LayerRow:
    cost, mapping = priced.cost, priced.mapping
    row = LayerRow(
        layer=event.layer,
        role=event.role,
        gemm=event,
        cycles=cost.cycles,
        energy_low_pj=cost.energy_low_pj,
        energy_pj=cost.energy_pj,
        energy_high_pj=cost.energy_high_pj,
        dram_bytes=cost.dram_bytes,
        macs=cost.macs,
        utilization=cost.utilization,
        bound_by=cost.bound_by,
    )
    if mapping is None:
        return row
    return replace(
        row, tiles=mapping.tiles, orders=mapping.orders, mapping_efficiency=mapping.mapping_efficiency
    )


def _other_work(layer: str, cost: hw_models.Cost, gemms: list[LayerRow]) -> LayerRow:
    """What a layer costs beside its GEMMs. Energies are sums of floats, so none is a little below zero."""
    return LayerRow(
        layer=layer,
        role=OTHER,
        cycles=cost.cycles - sum(row.cycles for row in gemms),
        energy_low_pj=max(0.0, cost.energy_low_pj - sum(row.energy_low_pj for row in gemms)),
        energy_pj=max(0.0, cost.energy_pj - sum(row.energy_pj for row in gemms)),
        energy_high_pj=max(0.0, cost.energy_high_pj - sum(row.energy_high_pj for row in gemms)),
        dram_bytes=cost.dram_bytes - sum(row.dram_bytes for row in gemms),
        macs=0,
    )


def layer_table(report: hw_models.CostReport) -> Table:
    """The rows at 100 columns."""
    table = Table(title="Layers", header_style="bold", caption_justify="left", padding=(0, 0))
    table.add_column("layer", overflow="fold", ratio=1)
    table.add_column("role", no_wrap=True)
    for heading in ("M,N,K", "cycles", "energy", "use", "bound by", "tile m,n,k", "loops"):
        table.add_column(heading, justify="right", overflow="fold")
    previous = None
    for row in layer_rows(report):
        label = "" if row.layer == previous else row.layer or WHOLE_MODEL
        table.add_row(*map(Text, [label, row.role, *_cells(row)]))
        previous = row.layer
    table.caption = (
        "Energy is nominal. Tiles and loop orders (outermost first) of each stage of memories, from the array "
        f"outwards. {OTHER.capitalize()} of a layer: vector work and static power."
    )
    return table


def _cells(row: LayerRow) -> list[str]:
    figures = [with_prefix(row.cycles, smallest=0), with_prefix(row.energy_pj * 1e-12, "J")]
    if row.gemm is None:
        return ["", *figures, "", "", "", ""]
    gemm = row.gemm
    times = f"{gemm.count} x " if gemm.count > 1 else ""
    tiles = "\n".join(",".join(map(str, tile)) for tile in row.tiles)
    return [
        f"{times}{gemm.M},{gemm.N},{gemm.K}",
        *figures,
        f"{100 * row.utilization:.3g} %",
        row.bound_by,
        tiles,
        "\n".join(row.orders),
    ]


_GEMM_COLUMNS = ("M", "N", "K", "count", "lhs_format", "rhs_format")
_FIGURES = ("cycles", "energy_low_pj", "energy_pj", "energy_high_pj", "dram_bytes", "macs")
_MAPPING = ("utilization", "mapping_efficiency", "bound_by", "tiles", "loop_order")


def layer_csv(report: hw_models.CostReport) -> str:
    """The rows as CSV; stages of memories are divided by a space, from the array outwards."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["layer", "role", *_GEMM_COLUMNS, *_FIGURES, *_MAPPING])
    for row in layer_rows(report):
        writer.writerow(
            [row.layer, row.role, *_gemm_cells(row.gemm), *(getattr(row, name) for name in _FIGURES)]
            + _mapping_cells(row)
        )
    return text.getvalue()


def _gemm_cells(gemm: GemmEvent | None) -> list[object]:
    if gemm is None:
        return [""] * len(_GEMM_COLUMNS)
    return [gemm.M, gemm.N, gemm.K, gemm.count, gemm.lhs.format, gemm.rhs.format]


def _mapping_cells(row: LayerRow) -> list[object]:
    if row.gemm is None:
        return [""] * len(_MAPPING)
    tiles = " ".join("x".join(map(str, tile)) for tile in row.tiles)
    return [row.utilization, row.mapping_efficiency, row.bound_by, tiles, " ".join(row.orders)]
