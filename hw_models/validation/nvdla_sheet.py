"""The conventions of NVIDIA's NVDLA performance sheet, one layer a row.

For an engine of 2048 multipliers at 1 GHz with 10 bytes a cycle to the memory outside and 25 to an SRAM beside it,
where a kB of traffic takes 100 and 40 cycles (1000 bytes), though sizes are in kB of 1024 bytes:

    MAC cycles = C' P' Q' K R S / 2048              C' = C sh sw rounded up to 16, with R / sh and S / sw taps: a
                                                    strided first layer trades taps for channels
    3x3 stride 1: over 2.25 (Winograd, 16 weights kept for 9)
    cycles     = max(DRAM, SRAM read, SRAM write, MAC)        and "long pole" names the greatest

P' = floor((H - R) / sh) + 1 without padding and ceil(H / sh) with it; the sheet's own column P rounds up. Weights of
a convolution are shared by as many images as fit beside them in 4 MB of SRAM (the least such number of the network),
those of a fully connected layer by 16. This is a convention kept so that the sheet can be reproduced; the cost model
uses none of it (`hw_models.validation.nvdla` shows by how much the two differ).

Source: NVDLA_OpenSource_Performance.xlsx of the NVDLA release (nvdla.org), sheet "AlexNet", int8, 2048 MACs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor

MACS = 2048
DRAM_CYCLES_PER_KB = 100
SRAM_CYCLES_PER_KB = 40
SRAM_KB = 4096
FULLY_CONNECTED_BATCH = 16
WINOGRAD_SPEEDUP = 2.25
CHANNEL_STEP = 16
KERNELS_AT_ONCE = 32


@dataclass(frozen=True, kw_only=True)
class SheetLayer:
    """A layer by the sheet's attribute columns; sizes in elements of one byte.

    Attributes:
        fully_connected: Whether the row's kind is "fc".
        pool: Side and stride of the pooling behind it, or None.
        reads_input: Whether its input comes from outside: the first layer.
        writes_output: Whether its output goes outside: the last convolution.
    """

    fully_connected: bool
    channels: int
    height: int
    width: int
    kernels: int
    kernel_height: int
    kernel_width: int
    padded: bool
    stride: int
    pool: tuple[int, int] | None
    reads_input: bool
    writes_output: bool

    @property
    def winograd(self) -> bool:
        """Whether it runs as Winograd F(2x2, 3x3)."""
        return (self.kernel_height, self.kernel_width, self.stride) == (3, 3, 1)

    def outputs(self, side: int, kernel: int, *, partial: bool = True) -> int:
        """Outputs along a side, before pooling; `partial` counts a last window that reaches over the edge."""
        if self.padded:
            return ceil(side / self.stride)
        steps = (side - kernel) / self.stride
        return (ceil(steps) if partial else floor(steps)) + 1

    def pooled(self, side: int) -> int:
        """Outputs along a side that has so many before pooling."""
        return side if self.pool is None else (side - self.pool[0]) // self.pool[1] + 1


def _rounded(channels: int) -> int:
    return ceil(channels / CHANNEL_STEP) * CHANNEL_STEP


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """A layer's multiply-accumulates, and its sizes in kB of 1024 bytes."""

    calculation: int
    input_kb: float
    least_input_kb: float
    output_kb: float
    weights_kb: float
    least_weights_kb: float


def sizes(layer: SheetLayer) -> Sizes:
    """The sheet's size columns."""
    rows = layer.outputs(layer.height, layer.kernel_height)
    columns = layer.outputs(layer.width, layer.kernel_width)
    taps = layer.kernel_height * layer.kernel_width * layer.channels
    extended = _rounded(layer.channels * layer.stride**2)
    extended *= ceil(layer.kernel_height / layer.stride) * ceil(layer.kernel_width / layer.stride)
    kept = extended * 16 / 9 if layer.winograd else extended
    least_rows = min(layer.height, (layer.kernel_height + 1) * layer.stride)
    outputs = layer.pooled(rows) * layer.pooled(columns)
    return Sizes(
        calculation=taps * layer.kernels * rows * columns,
        input_kb=layer.channels * layer.height * layer.width / 1024,
        least_input_kb=layer.channels * least_rows * layer.width / 1024,
        output_kb=_rounded(layer.kernels) * outputs / 1024,
        weights_kb=kept * layer.kernels / 1024,
        least_weights_kb=extended * KERNELS_AT_ONCE / 1024,
    )


def images_in_sram(layer: SheetLayer) -> int | None:
    """Images whose input and output fit beside the weights in the SRAM; None for a fully connected layer."""
    if layer.fully_connected:
        return None
    size = sizes(layer)
    return floor((SRAM_KB - size.weights_kb) / (size.input_kb + size.output_kb))


def mac_cycles(layer: SheetLayer) -> float:
    """Cycles of the multipliers; the sheet does not round them up."""
    pixels = layer.outputs(layer.height, layer.kernel_height, partial=False)
    pixels *= layer.outputs(layer.width, layer.kernel_width, partial=False)
    channels = _rounded(layer.channels * layer.stride**2)
    taps = layer.kernel_height * layer.kernel_width / layer.stride**2
    cycles = channels * pixels * layer.kernels * taps / MACS
    return cycles / WINOGRAD_SPEEDUP if layer.winograd else cycles


@dataclass(frozen=True, kw_only=True)
class Costs:
    """The cost columns of one mode of the sheet. Traffic in kB; without an SRAM its cycles are 0."""

    dram_kb: float
    dram_cycles: int
    sram_read_kb: float
    sram_read_cycles: int
    sram_write_kb: float
    sram_write_cycles: int
    mac_cycles: float

    @property
    def cycles(self) -> float:
        """Cycles of the layer: the greatest of the four."""
        return max(self.dram_cycles, self.sram_read_cycles, self.sram_write_cycles, self.mac_cycles)

    @property
    def long_pole(self) -> str:
        """What takes longest: "MAC" or "DRAM" in all rows of the sheet."""
        return "MAC" if self.mac_cycles == self.cycles else "DRAM"


def _costs(layer: SheetLayer, *, dram_kb: float, read_kb: float, write_kb: float) -> Costs:
    return Costs(
        dram_kb=dram_kb,
        dram_cycles=ceil(dram_kb * DRAM_CYCLES_PER_KB),
        sram_read_kb=read_kb,
        sram_read_cycles=ceil(read_kb * SRAM_CYCLES_PER_KB),
        sram_write_kb=write_kb,
        sram_write_cycles=ceil(write_kb * SRAM_CYCLES_PER_KB),
        mac_cycles=mac_cycles(layer),
    )


def costs_with_sram(layer: SheetLayer, images: int) -> Costs:
    """The columns of the first mode: activations stay in an SRAM beside the engine.

    Args:
        layer: The layer.
        images: Images that share the weights of a convolution: the least `images_in_sram` of the network.
    """
    size = sizes(layer)
    shared = FULLY_CONNECTED_BATCH if layer.fully_connected else images
    dram = size.weights_kb / shared
    dram += size.input_kb if layer.reads_input or layer.fully_connected else 0
    dram += size.output_kb if layer.writes_output else 0
    read = 0.0 if layer.reads_input else size.input_kb
    return _costs(layer, dram_kb=dram, read_kb=read, write_kb=size.output_kb)


def costs_without_sram(layer: SheetLayer) -> Costs:
    """The columns of the second mode: every operand crosses the DRAM's port, convolutions one image at a time."""
    size = sizes(layer)
    shared = FULLY_CONNECTED_BATCH if layer.fully_connected else 1
    dram = size.input_kb + size.output_kb + size.weights_kb / shared
    return _costs(layer, dram_kb=dram, read_kb=0.0, write_kb=0.0)


def sheet_images(layers: Sequence[SheetLayer]) -> int:
    """Images that share a convolution's weights: what fits for the layer that takes most room."""
    return min(images for layer in layers if (images := images_in_sram(layer)) is not None)
