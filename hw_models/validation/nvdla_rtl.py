"""NVDLA nv_small: cycles of the released convolution traces in simulation of the RTL, against the cost model.

A trace is one hardware layer on its own. Its name has the input (width x height x channels) and the kernel (width x
height x channels x kernels); stride, padding, dilation and output are those of the registers that the trace writes
(verif/tests/trace_tests/nv_small/*/*.cfg of github.com/nvdla/hw: CDMA.D_ZERO_PADDING_0, CSC.D_CONV_STRIDE_EXT_0,
CSC.D_DILATION_EXT_0, CSC.D_DATAOUT_SIZE_0_0; the 1x1x8 trace's lie under nv_small_256), kept in
`data/nvdla_small_traces.csv`.

The memory interface is 64 bits wide (PRIMARY_MEMIF_WIDTH_64 of nv_small.spec), 8 bytes a cycle. In a network a
layer's data are loaded while the layer before it computes; a trace has no layer before it, so its loads show. The
comparison therefore takes the convolution buffer as not double buffered, and gives the cycles with hidden loads too.

Cycles: RTL (Verilator), as published with NPUsim (github.com/yonseicasl/NPUsim, golden_rtl_full.csv). The traces with
few pixels a weight take longer than any bound here: a stripe of less than 16 pixels waits for the next weights
(nvdla.org, "Unit description", stripe operation), which the model does not know.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from hw_models.explore.overrides import with_overrides
from hw_models.load import load
from hw_models.profile import HardwareProfile
from hw_models.validation.data_files import read_rows
from hw_models.validation.layers import ConvShape, convolution, engine_cycles
from hw_models.validation.table import Point
from lowbit_sim.trace import GemmEvent

SOURCE = "NVDLA nv_small RTL, convolution traces"

#: The trace that the profile's start-up was fitted to, and so no evidence for it.
FITTED = "dc_1x1x8_1x1x8x1"


@dataclass(frozen=True, kw_only=True)
class Trace:
    """A trace: its layer, its padding (left, right, top, bottom) and its cycles in the RTL."""

    shape: ConvShape
    padding: tuple[int, int, int, int]
    cycles: int


@cache
def traces() -> tuple[Trace, ...]:
    """The traces whose registers and cycles are known: all that were published."""
    cycles = {
        row["layer_or_gemm"]: int(row["value"])
        for row in read_rows("silicon_rtl_points.csv")
        if row["workload"] == "conv trace"
    }
    return tuple(_trace(row, cycles) for row in read_rows("nvdla_small_traces.csv"))


def _trace(row: dict[str, str], cycles: dict[str, int]) -> Trace:
    number = {key: int(value) for key, value in row.items() if key != "trace"}
    shape = ConvShape(
        name=row["trace"],
        channels=number["channels"],
        size=(number["in_height"], number["in_width"]),
        filters=number["kernels"],
        kernel=(number["kernel_height"], number["kernel_width"]),
        output=(number["out_height"], number["out_width"]),
        stride=(number["stride_y"], number["stride_x"]),
        dilation=(number["dilation_y"], number["dilation_x"]),
    )
    sides = ("pad_left", "pad_right", "pad_top", "pad_bottom")
    padding = (number[sides[0]], number[sides[1]], number[sides[2]], number[sides[3]])
    return Trace(shape=shape, padding=padding, cycles=cycles[row["trace"]])


def trace_event(trace: Trace) -> GemmEvent:
    """A trace as a GEMM."""
    return convolution(trace.shape)


def trace_profile(*, hidden_loads: bool) -> HardwareProfile:
    """`nvdla_small` at the width of its memory interface."""
    small = load("nvdla_small")
    overrides: dict[str, object] = {
        "memory.dram.bandwidth_bytes_per_second": 8 * small.clock.frequency_hz,
        "memory.convolution_buffer.double_buffered": hidden_loads,
    }
    return with_overrides(small, overrides)


def points() -> list[Point]:
    """Each trace with its loads exposed, as it ran, and hidden."""
    found = []
    for hidden in (False, True):
        profile = trace_profile(hidden_loads=hidden)
        for trace in traces():
            found.append(
                Point(
                    source=SOURCE,
                    machine="nvdla_small",
                    workload=trace.shape.name,
                    quantity="cycles, loads hidden" if hidden else "cycles",
                    published=float(trace.cycles),
                    modelled=float(engine_cycles(trace_event(trace), profile)),
                    unit="cycles",
                    note="start-up is a fit to this point" if trace.shape.name == FITTED else "",
                )
            )
    return found
