"""What is mapped: a GEMM with its operands' widths, the tensor behind an unfolded operand, the array's work, and what
else keeps the memories busy meanwhile.
"""

from __future__ import annotations

from dataclasses import dataclass

from hw_models.compute.work import ArrayWork
from lowbit_sim.trace import ConvGeometry, GemmEvent

DIMENSIONS = ("M", "N", "K")

#: The memory outside.
DRAM = "dram"

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
class Beside:
    """Work of another unit while the array works, that the memories serve too.

    Attributes:
        cycles: Cycles of that unit.
        bits: Bits that it moves at each memory, by its name ("dram" is the one outside): (name, bits).
    """

    cycles: int = 0
    bits: tuple[tuple[str, int], ...] = ()


#: No such work.
ALONE = Beside()


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One of an event's equal GEMMs.

    Attributes:
        sizes: M, N and K.
        bits: Widths of lhs, rhs and sums in memory, in units of which `units_per_bit` make a bit: scales of blocks
            give an element a share of a bit, and counts stay whole.
        finished_bits: Width, in the same units, of finished results beyond the innermost memory that holds results;
            None for that of sums.
        units_per_bit: Units in a bit.
        work: What it asks of the array, all equal GEMMs of the event.
        region: The tensor behind an unfolded operand, or None.
        padded: The operand that is fetched padded to whole folds, or "".
        time_step: Elements of the time dimension that one step of the array takes.
        beside: What else goes on while all equal GEMMs of the event run.
    """

    sizes: tuple[int, int, int]
    bits: tuple[int, int, int]
    work: ArrayWork
    finished_bits: int | None = None
    units_per_bit: int = 1
    region: Region | None = None
    padded: str = ""
    time_step: int = 1
    beside: Beside = ALONE

    def width(self, operand: str) -> int:
        """Width of an element of an operand in memory, in units; of the result, of a sum."""
        return self.bits[("lhs", "rhs", "result").index(operand)]

    @property
    def saved(self) -> int:
        """Units that the results of one GEMM lose when they are finished and leave the innermost memory for them."""
        finished = self.bits[2] if self.finished_bits is None else self.finished_bits
        return self.sizes[0] * self.sizes[1] * (self.bits[2] - finished)

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
    """The tensor behind an event's unfolded operand; None where that is the tensor itself, or for a plain GEMM."""
    found = window_region(event)
    return None if found is None or _is_the_operand(found) else found


def _is_the_operand(region: Region) -> bool:
    """Whether each pixel's window is an element of its own: a layer of 1 x 1 windows without a stride."""
    steps = (*region.step, *region.inserted, region.window)
    return set(steps) == {1} and all(s >= g for s, g in zip(region.source, region.grid, strict=True))


def window_region(event: GemmEvent) -> Region | None:
    """The tensor that an event's windows slide over, whatever their size; None for a plain GEMM."""
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
