"""SCALE-Sim's topology files of convolutions, one layer a line, for one image.

    Layer name, IFMAP Height, IFMAP Width, Filter Height, Filter Width, Channels, Num Filter, Strides,

The input's size includes its padding. There are one or two columns of strides (height, then width), and version 3 has
a last column of sparsity ("1:1" for dense weights). Heights and widths of the output are rounded up, as SCALE-Sim
does: ceil((input - filter + stride) / stride); the last window may reach beyond the input. Its other form, of GEMMs
(Layer, M, N, K), is a list that `gemm_list` reads. Source: SCALE-Sim v3's README and scalesim/topology_utils.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from hw_models.workloads.errors import WorkloadError
from hw_models.workloads.layer import Layer, conv_layer
from hw_models.workloads.rows import Row
from lowbit_sim.trace import ConvGeometry

#: The columns between the layer's name and the strides.
COLUMNS = ("IFMAP Height", "IFMAP Width", "Filter Height", "Filter Width", "Channels", "Num Filter")


def is_topology(header: Sequence[str]) -> bool:
    """Whether a file with this header is a list of convolutions."""
    return any("ifmap" in cell.lower() for cell in header)


def read_topology(path: Path, rows: Sequence[Row], *, batch: int) -> list[Layer]:
    """The layers of a topology file.

    Args:
        path: The file, for messages.
        rows: Its lines, the header first.
        batch: Images that run at once.

    Raises:
        WorkloadError: A line that is no convolution, or a file without one.
    """
    if len(rows) < 2:
        raise WorkloadError(f"{path}: no layer under the header")
    layers = [conv_layer(row.cells[0], _geometry(row, batch)) for row in rows[1:]]
    return [replace(layers[0], input_gradient=False), *layers[1:]]


def _geometry(row: Row, batch: int) -> ConvGeometry:
    first = 1 + len(COLUMNS)
    if len(row.cells) <= first:
        raise WorkloadError(
            f"{row.where}: a layer has a name and {', '.join(COLUMNS)}, Strides; got {len(row.cells)} cells"
        )
    sizes = [row.whole(cell, what) for cell, what in zip(row.cells[1:first], COLUMNS, strict=True)]
    height, width, kernel_height, kernel_width, channels, filters = sizes
    vertical, horizontal = _strides(row, list(row.cells[first:]))
    if kernel_height > height or kernel_width > width:
        raise WorkloadError(
            f"{row.where}: a filter of {kernel_height}x{kernel_width} does not fit into an input of {height}x{width}"
        )
    return ConvGeometry(
        batch=batch,
        in_channels=channels,
        in_height=height,
        in_width=width,
        out_channels=filters,
        out_height=-(-(height - kernel_height + vertical) // vertical),
        out_width=-(-(width - kernel_width + horizontal) // horizontal),
        kernel_height=kernel_height,
        kernel_width=kernel_width,
        stride=(vertical, horizontal),
        dilation=(1, 1),
        groups=1,
    )


def _strides(row: Row, cells: list[str]) -> tuple[int, int]:
    """The strides, after the column of sparsity was checked and taken off."""
    if ":" in cells[-1]:
        kept, _, of = cells.pop().partition(":")
        if kept != of:
            raise WorkloadError(
                f"{row.where}: sparse weights ({kept}:{of}) have no cost model here; 1:1 is dense"
            )
    if len(cells) not in (1, 2):
        raise WorkloadError(f"{row.where}: one or two strides follow {COLUMNS[-1]}, got {len(cells)} cells")
    strides = [row.whole(cell, "a stride") for cell in cells]
    return strides[0], strides[-1]
