"""What a machine can do, in the figures that architects compare: peak rates, efficiency, balance, memories, sources.

    TOPS            = 2 MACs per cycle x frequency / 10^12
    balance         = MACs per second / bytes per second of the dram: below so many MACs a byte, the dram is the bound
    TOPS/W          = 2 / (pJ of a multiply-accumulate)

The energy of a multiply-accumulate is that of a GEMM which reuses what can be reused (`large_gemm`): multiply, add,
registers and on-chip memories. The dram, the vector unit and static power are left out of it, as in published peak
figures; the cost of a step has them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from hw_models.area import array_area_mm2
from hw_models.array_gemms import array_gemms
from hw_models.cost import Cost
from hw_models.estimate import estimate
from hw_models.large_gemm import in_words, large_gemm
from hw_models.mapping.access_energy import access_pj_per_bit
from hw_models.mapping.search import MappingError
from hw_models.operands import UnsupportedOperandError
from hw_models.profile import HardwareProfile
from hw_models.schema.array import Dataflow, Mode
from hw_models.sources import numbers
from lowbit_sim.config.layer_tables import GEMM_ROLES
from lowbit_sim.trace import WorkloadTrace

#: Components of energy that no peak figure counts.
NOT_PEAK = ("dram", "vector", "random_bits", "interconnect", "static")

#: The dataflows in words.
_DATAFLOWS: dict[Dataflow, str] = {
    "ws": "weight-stationary (ws)",
    "os": "output-stationary (os)",
    "is": "input-stationary (is)",
    "rs": "row-stationary (rs)",
    "spatial": "spatial (adder trees)",
}

Range = tuple[float, float, float]


@dataclass(frozen=True, kw_only=True)
class PeakRate:
    """What the array does at best in one mode.

    Attributes:
        kind, operand_bits: The mode.
        macs_per_cycle: Multiply-accumulates of all arrays.
        tops: 10^12 operations a second, two for each of these.
        macs_per_dram_byte: The balance point.
        dram_bytes_per_mac: Its inverse: what the dram supplies for each at full rate.
        moved_bytes_per_mac: What the GEMM by which efficiency is measured reads and writes there; None where no
            GEMM fits the memories.
        pj_per_mac: Low, nominal and high energy of one, with its share of registers and on-chip memories, or None.
        tops_per_watt: From the high, the nominal and the low energy: ascending.
    """

    kind: str
    operand_bits: int
    macs_per_cycle: int
    tops: float
    macs_per_dram_byte: float
    dram_bytes_per_mac: float
    moved_bytes_per_mac: float | None
    pj_per_mac: Range | None
    tops_per_watt: Range | None


@dataclass(frozen=True, kw_only=True)
class Level:
    """A memory; energies are low, nominal and high. The dram holds everything, and names no operands."""

    name: str
    holds: tuple[str, ...]
    capacity_bytes: int | None
    banks: int
    word_bits: int | None
    double_buffered: bool
    bytes_per_cycle: float
    bytes_per_second: float
    read_pj_per_bit: Range
    write_pj_per_bit: Range


@dataclass(frozen=True, kw_only=True)
class MachineSummary:
    """A machine in figures.

    Attributes:
        name, description, validation: As the profile says.
        node_nm, voltage_v, frequency_hz: As the profile says.
        array: The arrays in words.
        large_gemm: The GEMM by which efficiency is measured, in words.
        peaks: A rate for each mode.
        levels: The memories from the array outwards, the dram last.
        numerics: The GEMMs in words by role, and the requantiser.
        vector_operations_per_second: Peak of the vector unit.
        area_mm2: Of the MAC array; None without [area].
        numbers: How many numbers the profile gives.
        assumptions: How many of them are assumptions.
    """

    name: str
    description: str
    validation: str
    node_nm: float
    voltage_v: float
    frequency_hz: int
    array: str
    large_gemm: str
    peaks: tuple[PeakRate, ...]
    levels: tuple[Level, ...]
    numerics: dict[str, str]
    vector_operations_per_second: float
    area_mm2: float | None
    numbers: int
    assumptions: int

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        return asdict(self)


def summary(profile: HardwareProfile) -> MachineSummary:
    """The figures of a machine."""
    machine, array, vector = profile.machine, profile.array, profile.vector
    given = list(numbers(profile))
    return MachineSummary(
        name=machine.name,
        description=machine.description,
        validation=machine.validation,
        node_nm=machine.node_nm,
        voltage_v=machine.voltage_v,
        frequency_hz=profile.clock.frequency_hz,
        array=array_in_words(profile),
        large_gemm=in_words(profile),
        peaks=tuple(_peak(profile, mode) for mode in array.modes),
        levels=tuple(_levels(profile)),
        numerics=_numerics(profile),
        vector_operations_per_second=vector.operations_per_cycle * profile.clock.frequency_hz,
        area_mm2=array_area_mm2(profile),
        numbers=len(given),
        assumptions=sum(number.is_assumption for number in given),
    )


def array_in_words(profile: HardwareProfile) -> str:
    """The arrays: "2 arrays of 128 x 128, weight-stationary (ws), double buffered"."""
    array = profile.array
    sizes = [array.rows, array.columns]
    if array.dataflow == "spatial":
        sizes += [size for size in (array.pixel_rows, array.pixel_columns) if size > 1]
    shape = " x ".join(map(str, sizes))
    count = f"{array.arrays} arrays of " if array.arrays > 1 else ""
    return f"{count}{shape}, {_DATAFLOWS[array.dataflow]}" + (
        ", double buffered" if array.loading == "hidden" else ""
    )


def _peak(profile: HardwareProfile, mode: Mode) -> PeakRate:
    macs = profile.array.macs_per_cycle(mode)
    per_second = macs * profile.clock.frequency_hz
    bandwidth = profile.memory.dram.bandwidth_bytes_per_second
    cost = _large_gemm(profile, mode)
    energy = None if cost is None else _pj_per_mac(cost)
    return PeakRate(
        kind=mode.kind,
        operand_bits=mode.operand_bits,
        macs_per_cycle=macs,
        tops=2 * per_second / 1e12,
        macs_per_dram_byte=per_second / bandwidth,
        dram_bytes_per_mac=bandwidth / per_second,
        moved_bytes_per_mac=None if cost is None else cost.dram_bytes / cost.macs,
        pj_per_mac=energy,
        tops_per_watt=None if energy is None or not energy[0] else tuple(2 / pj for pj in reversed(energy)),  # type: ignore[arg-type]
    )


def _large_gemm(profile: HardwareProfile, mode: Mode) -> Cost | None:
    """The cost of a GEMM in a mode that fills the array: of the machine's own where one runs in it."""
    gemm = next(gemm for gemm in array_gemms(profile) if gemm.mode == mode)
    try:
        return estimate(WorkloadTrace([large_gemm(gemm.event, profile)]), profile).total
    except (MappingError, UnsupportedOperandError):
        return None


def _pj_per_mac(cost: Cost) -> Range:
    parts = [part for name, part in cost.energy.items() if name not in NOT_PEAK]
    low, nominal, high = (
        sum(getattr(part, f"{end}_pj") for part in parts) / cost.macs for end in ("low", "nominal", "high")
    )
    return low, nominal, high


def _levels(profile: HardwareProfile) -> Iterator[Level]:
    frequency = profile.clock.frequency_hz
    for name, level in profile.memory.levels.items():
        yield Level(
            name=name,
            holds=level.holds,
            capacity_bytes=level.capacity_bytes,
            banks=level.banks,
            word_bits=level.word_bits,
            double_buffered=level.double_buffered,
            bytes_per_cycle=level.bandwidth_bytes_per_cycle,
            bytes_per_second=level.bandwidth_bytes_per_cycle * frequency,
            read_pj_per_bit=access_pj_per_bit(level, write=False),
            write_pj_per_bit=access_pj_per_bit(level, write=True),
        )
    dram = profile.memory.dram
    read, write = dram.read_pj_per_bit, dram.write_pj_per_bit
    yield Level(
        name="dram",
        holds=(),
        capacity_bytes=dram.capacity_bytes,
        banks=1,
        word_bits=None,
        double_buffered=False,
        bytes_per_cycle=dram.bandwidth_bytes_per_second / frequency,
        bytes_per_second=dram.bandwidth_bytes_per_second,
        read_pj_per_bit=(read.low, read.nominal, read.high),
        write_pj_per_bit=(write.low, write.nominal, write.high),
    )


def _numerics(profile: HardwareProfile) -> dict[str, str]:
    gemms = {role: str(profile.gemm_spec(role) or "float32, natively") for role in GEMM_ROLES}
    return {**gemms, "requantizer": profile.arithmetic.requantizer.replace("_", ", ")}
