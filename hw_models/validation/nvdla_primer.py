"""NVDLA: frames per second and energy of ResNet-50 at the seven sizes of the primer's table (nvdla.org/primer.html).

Rates: one image at a time, convolutions and classifier, with loads hidden behind the layer before, and exposed; a
schedule comes between the two. Energy: the primer's average power times the time of a frame at its own rate, against
the model's on-chip energy (the power is the engine's, without DRAM); the note has the model's low and high end.

The published figures are estimates of the vendor too (16 nm, 1 GHz). What software, precision and overlap they assume
is not published; control, clock and post-processing are in the power and not in the model.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from hw_models.explore.overrides import with_overrides
from hw_models.gemm_cost import gemm_cost
from hw_models.load import load
from hw_models.profile import HardwareProfile
from hw_models.ranges import EnergyRange, total_range
from hw_models.validation.data_files import read_rows
from hw_models.validation.layers import engine_cycles, resnet50
from hw_models.validation.table import Point

SOURCE = "NVDLA primer"
NETWORK = "ResNet-50, batch 1"
PJ_PER_MJ = 1e9


def as_estimated(columns: int) -> dict[str, object]:
    """Overrides for a vendor's estimate: no start-up, and accumulators that count 8-bit results of 32 pixels.

    Args:
        columns: Kernels that the engine works on at once.
    """
    return {"array.startup_cycles": 0, "memory.accumulator.capacity_bytes": 2 * 32 * columns}


@dataclass(frozen=True, kw_only=True)
class Size:
    """One of the primer's configurations.

    Attributes:
        rows, columns: Multipliers over channels and over kernels.
        buffer_kib, bytes_per_second, lanes: Convolution buffer, memory bandwidth, elements that leave in a cycle.
        frames_per_second, average_mw: The primer's figures.
        note: Where rows, columns and lanes are from.
    """

    rows: int
    columns: int
    buffer_kib: int
    bytes_per_second: int
    lanes: int
    frames_per_second: float
    average_mw: float
    note: str

    @property
    def profile(self) -> HardwareProfile:
        """`nvdla_small` scaled to this size."""
        return with_overrides(
            load("nvdla_small"),
            {
                **as_estimated(self.columns),
                "array.rows": self.rows,
                "array.columns": self.columns,
                "vector.lanes": self.lanes,
                "memory.accumulator.bandwidth_bytes_per_cycle": 9 * self.columns,
                "memory.weight_registers.capacity_bytes": 2 * self.rows * self.columns,
                "memory.weight_registers.bandwidth_bytes_per_cycle": 2 * self.rows,
                "memory.convolution_buffer.kib": self.buffer_kib,
                "memory.convolution_buffer.bandwidth_bytes_per_cycle": 3 * self.rows,
                "memory.dram.bandwidth_bytes_per_second": self.bytes_per_second,
            },
        )

    @property
    def workload(self) -> str:
        """What runs on it, with the multipliers that tell the sizes apart."""
        return f"{NETWORK}, {self.rows * self.columns} MACs"


@cache
def sizes() -> tuple[Size, ...]:
    """The configurations of the primer's table, the largest first."""
    return tuple(
        Size(
            rows=int(row["rows"]),
            columns=int(row["columns"]),
            buffer_kib=int(row["buffer_kib"]),
            bytes_per_second=int(row["bytes_per_second"]),
            lanes=int(row["lanes"]),
            frames_per_second=float(row["frames_per_second"]),
            average_mw=float(row["average_mw"]),
            note=row["note"],
        )
        for row in read_rows("nvdla_primer.csv")
    )


def rate_points() -> Iterator[Point]:
    """Frames per second of every size, with loads hidden and exposed."""
    for hidden in (True, False):
        for size in sizes():
            profile = with_overrides(size.profile, {"memory.convolution_buffer.double_buffered": hidden})
            cycles = sum(engine_cycles(event, profile) for event in resnet50())
            yield _point(
                size,
                quantity="frames per second" if hidden else "frames per second, loads exposed",
                published=size.frames_per_second,
                modelled=profile.clock.frequency_hz / cycles,
                unit="1/s",
                note=size.note,
            )


@cache
def frame_energy(size: Size) -> EnergyRange:
    """On-chip energy of a frame: multipliers, registers and memories, without DRAM."""
    profile = size.profile
    costs = [gemm_cost(event, profile).cost for event in resnet50()]
    return total_range(e for cost in costs for name, e in cost.energy.items() if name != "dram")


def energy_points() -> Iterator[Point]:
    """On-chip energy of a frame at every size."""
    for size in sizes():
        energy = frame_energy(size)
        low, high = energy.low_pj / PJ_PER_MJ, energy.high_pj / PJ_PER_MJ
        yield _point(
            size,
            quantity="on-chip energy per frame",
            published=size.average_mw / size.frames_per_second,
            modelled=energy.nominal_pj / PJ_PER_MJ,
            unit="mJ",
            note=f"low {low:.2g} mJ, high {high:.2g} mJ",
        )


def _point(size: Size, *, quantity: str, published: float, modelled: float, unit: str, note: str) -> Point:
    return Point(
        source=SOURCE,
        machine="nvdla_small scaled",
        workload=size.workload,
        quantity=quantity,
        published=published,
        modelled=modelled,
        unit=unit,
        note=note,
    )


def points() -> list[Point]:
    """Rates and energies of every size."""
    return [*rate_points(), *energy_points()]
