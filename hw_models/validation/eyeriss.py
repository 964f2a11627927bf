"""Eyeriss: AlexNet's convolutions on the chip, against the `eyeriss` profile.

Chen et al., JSSC 2017, table V: batch 4, 200 MHz. Processing time leaves out the loading of data from the memory
outside, so that it is compared with the estimate of a machine whose memory outside is never waited for. Layers are
AlexNet's with its groups; the paper's inputs of CONV1 are 227 x 227. Accesses of the global buffer are those of
inputs and partial sums, which are stored there in 16 bits; filters pass by it in the chip.
"""

from __future__ import annotations

import re

from hw_models.compute.dispatch import array_work
from hw_models.compute.row_stationary import active_elements
from hw_models.estimate import estimate
from hw_models.explore.overrides import with_overrides
from hw_models.load import load
from hw_models.validation.data_files import silicon_rows
from hw_models.validation.layers import ConvShape, convolution
from hw_models.validation.table import Point
from lowbit_sim.trace import GemmEvent, Operand, WorkloadTrace

SOURCE = "Chen et al., JSSC 2017, table V"
BATCH = 4
NEVER_WAITED_FOR = 10**15
INT16 = Operand(format="int16", bits=16)


def _layer(
    name: str, channels: int, size: int, filters: int, kernel: int, out: int, **more: int
) -> GemmEvent:
    stride = more.get("stride", 1)
    shape = ConvShape(
        name=name,
        channels=channels,
        size=(size, size),
        filters=filters,
        kernel=(kernel, kernel),
        output=(out, out),
        stride=(stride, stride),
        groups=more.get("groups", 1),
        batch=BATCH,
    )
    return convolution(shape, sum_bits=16, result_bits=16, operand=INT16)


def layers() -> dict[str, GemmEvent]:
    """AlexNet's convolutions by name."""
    events = (
        _layer("CONV1", 3, 227, 96, 11, 55, stride=4),
        _layer("CONV2", 96, 27, 256, 5, 27, groups=2),
        _layer("CONV3", 256, 13, 384, 3, 13),
        _layer("CONV4", 384, 13, 384, 3, 13, groups=2),
        _layer("CONV5", 384, 13, 256, 3, 13, groups=2),
    )
    return {event.layer: event for event in events}


def points() -> list[Point]:
    """Active processing elements, processing time and buffer traffic of each layer."""
    profile = load("eyeriss")
    array, mode = profile.array, profile.array.modes[0]
    loaded = with_overrides(profile, {"memory.dram.bandwidth_bytes_per_second": NEVER_WAITED_FOR})
    events = layers()
    found = []
    for row in silicon_rows("Eyeriss"):
        event = events[row["layer_or_gemm"]]
        work = array_work(event, array, mode)
        milliseconds = 1e3 * estimate(WorkloadTrace([event]), loaded).seconds
        accesses = work.count * (work.lhs_reads + work.result_writes + work.partial_reads)
        for quantity, published, modelled, unit in (
            ("active processing elements", _noted(row, "active PE"), active_elements(event, array), ""),
            ("processing time", float(row["value"]), milliseconds, "ms"),
            ("global buffer accesses", _noted(row, "GLB"), 2 * accesses / 1e6, "MB"),
        ):
            found.append(
                Point(
                    source=SOURCE,
                    machine="eyeriss",
                    workload=f"AlexNet {event.layer}, batch {BATCH}",
                    quantity=quantity,
                    published=published,
                    modelled=float(modelled),
                    unit=unit,
                )
            )
    return found


def _noted(row: dict[str, str], what: str) -> float:
    """A number that stands before or behind a word in a row's note."""
    match = re.search(rf"([\d.]+) {what}|{what} ([\d.]+)", row["note"])
    assert match is not None, f"{what} is missing in {row['note']!r}"
    return float(match[1] or match[2])
