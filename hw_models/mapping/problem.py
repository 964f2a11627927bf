"""What is mapped: a GEMM with its operands' widths, the tensor behind an unfolded operand, and the array's work."""

from __future__ import annotations

from dataclasses import dataclass

from hw_models.compute.work import ArrayWork
from lowbit_sim.trace import ConvGeometry, GemmEvent

DIMENSIONS = ("M", "N", "K")

#: The dimensions of each operand, and the one that it does not have.
OPERAND_DIMENSIONS = {"lhs": ("M", "K"), "rhs": ("K", "N"), "result": ("M", "N")}
MISSING = {"lhs": "N", "rhs": "M", "result": "K"}


@dataclass(frozen=True, kw_only=True)
class Region:
    """The tensor that a convolution's operand is unfolded from.

    A row of the unfolded matrix is one position of the window, a *pixel* of the grid that the window visits; its
    columns are the window's positions times the channels.

    Attributes:
        operand: "lhs" or "rhs".
        pixels, columns: The GEMM's dimensions along the pixels and along the unfolded window.
        grid: Height and width of the grid of pixels of an image.
        source: Height and width of the tensor.
        span: Height and width that a window covers, dilation included.
        step: Rows and columns from one pixel's window to the next one's.
        inserted: Rows and columns for each one of the tensor, with the zeros that a stride inserts.
        window: Positions of the window.
    """

    operand: str
    pixels: str
    columns: str
    grid: tuple[int, int]
    source: tuple[int, int]
    span: tuple[int, int]
    step: tuple[int, int]
    inserted: tuple[int, int]
    window: int


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One of an event's equal GEMMs.

    Attributes:
        sizes: M, N and K.
        bits: Widths of lhs, rhs and result (partial sums too) in memory.
        work: What it asks of the array, all equal GEMMs of the event.
        region: The tensor behind an unfolded operand, or None.
        padded: The operand that is fetched padded to whole folds, or "".
        time_step: Elements of the time dimension that one step of the array takes.
    """

    sizes: tuple[int, int, int]
    bits: tuple[int, int, int]
    work: ArrayWork
    region: Region | None = None
    padded: str = ""
    time_step: int = 1

    def step(self, dimension: str) -> int:
        """Elements of a dimension that one fold covers, or one step of it."""
        work = self.work
        return {
            work.time_dimension: self.time_step,
            work.column_dimension: work.column_step,
            work.row_dimension: work.row_step,
        }.get(dimension, 1)

    @property
    def padded_elements(self) -> int:
        """Elements of the stationary operand with what pads it to whole folds."""
        work = self.work
        return work.row_folds * work.row_step * work.column_folds * work.column_step


def region_of(event: GemmEvent) -> Region | None:
    """The tensor behind an event's unfolded operand; None for a plain GEMM."""
    conv = event.conv
    if conv is None or not event.macs:
        return None
    span = (
        conv.dilation[0] * (conv.kernel_height - 1) + 1,
        conv.dilation[1] * (conv.kernel_width - 1) + 1,
    )
    match event.role:
        case "output":
            return _forward(conv, span, "lhs", "M", "K")
        case "grad_weight":
            return _forward(conv, span, "rhs", "K", "N")
        case "grad_input":
            return Region(
                operand="lhs",
                pixels="M",
                columns="K",
                grid=(conv.in_height, conv.in_width),
                source=(conv.out_height, conv.out_width),
                span=span,
                step=(1, 1),
                inserted=conv.stride,
                window=conv.kernel_height * conv.kernel_width,
            )
        case _:
            return None


def _forward(conv: ConvGeometry, span: tuple[int, int], operand: str, pixels: str, columns: str) -> Region:
    """The layer's input, which the forward GEMM and grad_weight unfold alike."""
    return Region(
        operand=operand,
        pixels=pixels,
        columns=columns,
        grid=(conv.out_height, conv.out_width),
        source=(conv.in_height, conv.in_width),
        span=span,
        step=conv.stride,
        inserted=(1, 1),
        window=conv.kernel_height * conv.kernel_width,
    )
