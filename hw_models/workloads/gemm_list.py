"""Lists of GEMMs [M, K] x [K, N], as a comma-separated file with a header or as TOML.

    M, N, K, count, role, lhs, rhs, layer        [[gemm]]
    512, 64, 768, 12, output, int8, int4, q      M = 512
                                                 N = 64
                                                 K = 768

Columns come in any order; all but M, N and K may be left out, and SCALE-Sim's "Layer, M, N, K" is such a list.
`count` is how many equal GEMMs there are, `role` which GEMM of a layer it is, `lhs` and `rhs` name formats in the
place of the numerics' own. A GEMM without a `layer` is called by its place: "line 3", or "[[gemm]] 2".
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hw_models.workloads.errors import WorkloadError
from hw_models.workloads.layer import Layer, gemm_events
from hw_models.workloads.rows import Row
from hw_models.workloads.step import step_trace
from hw_models.workloads.stored import Stored, between_layers
from lowbit_sim.arith.spec import GemmSpec, OpSpec
from lowbit_sim.config.elementwise_config import ElementwiseSpec
from lowbit_sim.numerics.catalog import parse_format
from lowbit_sim.numerics.suggest import unknown
from lowbit_sim.quant.quantizer import Quantizer
from lowbit_sim.trace import ROLES, Role, WorkloadTrace

SIZES = ("M", "N", "K")
COLUMNS = (*SIZES, "count", "role", "lhs", "rhs", "layer")

#: The roles that a GEMM can have.
GEMM_ROLES: tuple[Role, ...] = ROLES[:3]


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One line of a list.

    Attributes:
        where: File and line (or table), for messages.
        layer: The GEMM by its sizes and name.
        role: Which GEMM of a layer it is; None where the list does not say.
        formats: The formats of the operands by side, where given.
    """

    where: str
    layer: Layer
    role: Role | None
    formats: dict[str, str]


def is_gemm_list(header: Sequence[str]) -> bool:
    """Whether a file with this header is a list of GEMMs."""
    return {name.lower() for name in SIZES} <= {cell.lower() for cell in header}


def from_rows(path: Path, rows: Sequence[Row]) -> list[Entry]:
    """The entries of a comma-separated list.

    Raises:
        WorkloadError: An unknown column, or a cell that is not what its column takes.
    """
    names = [_column(rows[0], cell) for cell in rows[0].cells]
    if len(rows) < 2:
        raise WorkloadError(f"{path}: no GEMM under the header")
    return [_from_row(row, names) for row in rows[1:]]


def _column(header: Row, cell: str) -> str:
    by_name = {name.lower(): name for name in COLUMNS} | {"layer name": "layer"}
    if cell.lower() not in by_name:
        raise WorkloadError(f"{header.where}: {unknown('column', cell, COLUMNS)}")
    return by_name[cell.lower()]


def _from_row(row: Row, names: Sequence[str]) -> Entry:
    if len(row.cells) > len(names):
        raise WorkloadError(f"{row.where}: {len(row.cells)} cells under {len(names)} columns")
    cells = {name: cell for name, cell in zip(names, row.cells, strict=False) if cell}
    numbers = {name: row.whole(cells[name], name) for name in (*SIZES, "count") if name in cells}
    return _entry(row.where, {**cells, **numbers})


def from_toml(path: Path) -> list[Entry]:
    """The entries of a TOML list.

    Raises:
        WorkloadError: Not TOML, no `[[gemm]]`, or a key that a GEMM does not have.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise WorkloadError(f"{path}: {error}") from None
    for key in table:
        if key != "gemm":
            raise WorkloadError(f"{path}: {unknown('key', key, ['gemm'])}")
    gemms = table.get("gemm")
    if not isinstance(gemms, list) or not gemms or not all(isinstance(g, dict) for g in gemms):
        raise WorkloadError(f"{path}: a list of GEMMs has tables [[gemm]] with M, N and K")
    return [_entry(f"{path}, [[gemm]] {number}", gemm) for number, gemm in enumerate(gemms, 1)]


def _entry(where: str, values: dict[str, Any]) -> Entry:
    for key in values:
        if key not in COLUMNS:
            raise WorkloadError(f"{where}: {unknown('key', key, COLUMNS)}")
    for name in SIZES:
        if name not in values:
            raise WorkloadError(f"{where}: {name} is missing")
    for name in (*SIZES, "count"):
        value = values.get(name, 1)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise WorkloadError(f"{where}: {name} is a whole number of at least 1, got {value!r}")
    for name in ("role", "lhs", "rhs", "layer"):
        if not isinstance(values.get(name, ""), str):
            raise WorkloadError(f"{where}: {name} is a name, got {values[name]!r}")
    role = values.get("role")
    if role is not None and role not in GEMM_ROLES:
        raise WorkloadError(f"{where}: {unknown('role', role, GEMM_ROLES)}")
    layer = Layer(
        name=values.get("layer") or where.rpartition(", ")[2],
        **{name: values[name] for name in SIZES},
        count=values.get("count", 1),
    )
    formats = {side: values[side] for side in ("lhs", "rhs") if side in values}
    return Entry(where=where, layer=layer, role=role, formats=formats)


def gemm_list_trace(
    entries: Sequence[Entry],
    spec: OpSpec | None,
    *,
    training: bool,
    activations: ElementwiseSpec | None = None,
) -> WorkloadTrace:
    """The GEMMs of a list with the work around them.

    Args:
        entries: The list.
        spec: The numerics; None for native float32.
        training: Whether each GEMM is a layer's forward one, from which its training step is derived, with the
            gradients of input and weight. Without, each is one GEMM of its own role.
        activations: The formats of the tensors between layers; None for float32.

    Raises:
        WorkloadError: Roles or formats of single GEMMs in a list that is trained, or formats that can't be.
    """
    if training:
        for entry in entries:
            if entry.role not in (None, "output") or entry.formats:
                raise WorkloadError(
                    f"{entry.where}: a training step is derived from forward GEMMs in the machine's numerics: leave "
                    "out role, lhs and rhs, or price the GEMMs as they are, without training (--forward-only)"
                )
        return step_trace([entry.layer for entry in entries], spec, training=True, activations=activations)
    trace = WorkloadTrace()
    for entry in entries:
        role = entry.role or "output"
        gemm: GemmSpec | None = getattr(spec, role) if spec is not None else None
        layer = _stored(entry.layer, role, activations)
        trace.events += gemm_events(layer, role, _with_formats(gemm, entry))
    return trace


def _stored(layer: Layer, role: Role, activations: ElementwiseSpec | None) -> Layer:
    """A layer that is one GEMM of a role, with its factors and its result in their formats."""
    around = between_layers(activations, image=False)
    match role:
        case "output":
            return replace(layer, stored=Stored(x=around.x, y=around.y))
        case "grad_input":
            return replace(layer, stored=Stored(x=around.g, y=around.dx))
        case _:  # g times x: both are activations, the result is a parameter's gradient
            return replace(layer, stored=Stored(x=around.g), weights=False)


def _with_formats(gemm: GemmSpec | None, entry: Entry) -> GemmSpec | None:
    """The numerics with the formats that a list gives; its accumulator where it can add their products."""
    if not entry.formats:
        return gemm
    try:
        parsed = {side: Quantizer(parse_format(name)) for side, name in entry.formats.items()}
        if gemm is None:
            if len(parsed) < 2:
                raise ValueError("without a machine's numerics both lhs and rhs are needed")
            wider = max(parsed.values(), key=lambda q: (q.element_format.unit is None, q.element_format.bits))
            uniform = OpSpec.uniform(wider.format).output
            assert uniform is not None
            gemm = uniform
        return replace(gemm, **parsed)
    except (ValueError, TypeError) as error:
        raise WorkloadError(f"{entry.where}: {error}") from None
