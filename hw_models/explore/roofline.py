"""The roofline of a machine and the GEMMs of a trace under it (Williams, Waterman and Patterson, CACM 52(4), 2009).

    attainable MAC/s at a memory = min(peak MAC/s of the mode, intensity x bandwidth of the memory)
    intensity                    = multiply-accumulates / bytes that cross the memory's port

One roof for each operand width that the array multiplies, one slope for each memory. The attained rate of a GEMM is
its multiply-accumulates over the time that the cost model gives it, so every point lies on or under every slope, at
its intensity for that memory, and under its mode's roof.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass

from hw_models.estimate import estimate
from hw_models.gemm_cost import GemmCost
from hw_models.mapping.search import Objective
from hw_models.profile import HardwareProfile
from hw_models.schema.array import Mode
from lowbit_sim.trace import GemmEvent, WorkloadTrace

DRAM = "dram"
VECTOR_UNIT = "vector unit"


@dataclass(frozen=True, kw_only=True)
class Roof:
    """The peak rate of a mode of the array, or of the vector unit."""

    mode: str
    macs_per_second: float


@dataclass(frozen=True, kw_only=True)
class Slope:
    """The bandwidth of a memory, all its ports and banks together."""

    level: str
    bytes_per_second: float


@dataclass(frozen=True, kw_only=True)
class GemmPoint:
    """A GEMM event under the roofline.

    Attributes:
        event: What ran.
        mode: The mode that it ran in, one of the roofs'.
        seconds: Time of the event.
        macs: Its multiply-accumulates.
        intensity: MACs per byte at each memory that it uses.
        bound_by: What it waited for: "compute" or a memory's name.
    """

    event: GemmEvent
    mode: str
    seconds: float
    macs: int
    intensity: dict[str, float]
    bound_by: str

    @property
    def macs_per_second(self) -> float:
        """The attained rate."""
        return self.macs / self.seconds


@dataclass(frozen=True, kw_only=True)
class Roofline:
    """A machine's roofs and slopes, and the GEMMs of a trace."""

    machine: str
    roofs: tuple[Roof, ...]
    slopes: tuple[Slope, ...]
    points: tuple[GemmPoint, ...]

    def balance(self, roof: Roof, slope: Slope) -> float:
        """The intensity in MAC/byte at which a slope meets a roof."""
        return roof.macs_per_second / slope.bytes_per_second


def roofline(trace: WorkloadTrace, profile: HardwareProfile, *, objective: Objective = "cycles") -> Roofline:
    """The roofline of a machine with every GEMM event that does something.

    Raises:
        UnsupportedOperandError: A GEMM whose operands the machine can't multiply.
    """
    gemms = estimate(trace, profile, objective=objective).gemms
    points = tuple(_point(event, priced, profile) for event, priced in gemms if priced.cost.macs)
    return Roofline(
        machine=profile.machine.name,
        roofs=_roofs(profile, {point.mode for point in points}),
        slopes=_slopes(profile),
        points=points,
    )


def _name(mode: Mode | None) -> str:
    return VECTOR_UNIT if mode is None else f"{mode.operand_bits}-bit {mode.kind}"


def _roofs(profile: HardwareProfile, used: Iterable[str]) -> tuple[Roof, ...]:
    hertz = profile.clock.frequency_hz
    roofs = [
        Roof(mode=_name(m), macs_per_second=profile.array.macs_per_cycle(m) * hertz)
        for m in profile.array.modes
    ]
    if VECTOR_UNIT in used:
        roofs.append(Roof(mode=VECTOR_UNIT, macs_per_second=profile.vector.operations_per_cycle * hertz))
    return tuple(roofs)


def _slopes(profile: HardwareProfile) -> tuple[Slope, ...]:
    hertz = profile.clock.frequency_hz
    memory = profile.memory
    on_chip = [
        Slope(level=name, bytes_per_second=level.bandwidth_bytes_per_cycle * hertz)
        for name, level in memory.levels.items()
    ]
    return (*on_chip, Slope(level=DRAM, bytes_per_second=memory.dram.bandwidth_bytes_per_second))


def _point(event: GemmEvent, priced: GemmCost, profile: HardwareProfile) -> GemmPoint:
    cost = priced.cost
    bits = {level: cost.level_bits(level) for level, _ in cost.traffic}
    return GemmPoint(
        event=event,
        mode=_name(priced.mode),
        seconds=cost.cycles / profile.clock.frequency_hz,
        macs=cost.macs,
        intensity={level: 8 * cost.macs / crossed for level, crossed in bits.items() if crossed},
        bound_by=cost.bound_by,
    )


def roofline_csv(line: Roofline) -> str:
    """The points as CSV, one line an event, with the intensity at each memory."""
    levels = [slope.level for slope in line.slopes]
    peaks = {roof.mode: roof.macs_per_second for roof in line.roofs}
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        ["layer", "role", "M", "N", "K", "count", "lhs", "rhs", "mode", "macs", "seconds"]
        + ["macs_per_second", "share_of_peak", "bound_by"]
        + [f"macs_per_{level}_byte" for level in levels]
    )
    for p in line.points:
        e = p.event
        writer.writerow(
            [e.layer, e.role, e.M, e.N, e.K, e.count, e.lhs.format, e.rhs.format, p.mode, p.macs, p.seconds]
            + [p.macs_per_second, p.macs_per_second / peaks[p.mode], p.bound_by]
            + [p.intensity.get(level, "") for level in levels]
        )
    return text.getvalue()
