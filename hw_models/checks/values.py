"""Numbers that can hardly be meant: another unit, another node, an order that no machine has.

The limits are wide: what lies outside is a factor of a thousand away from any machine that was published.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from hw_models.checks.remark import Remark, in_words
from hw_models.profile import HardwareProfile
from hw_models.schema.base import Figure

#: Smallest and largest value that is not suspicious, and what it may have been taken for, by the end of a key.
LIMITS: dict[str, tuple[float, float, str]] = {
    "frequency_hz": (1e6, 1e10, "is it in MHz? frequency_hz counts Hz"),
    "node_nm": (1, 1000, "is it in um or in angstroms? node_nm counts nm"),
    "voltage_v": (0.2, 5, "is it in mV? voltage_v counts V"),
    "read_pj": (0, 1e4, "is it in fJ? read_pj counts pJ of one access"),
    "write_pj": (0, 1e4, "is it in fJ? write_pj counts pJ of one access"),
    "pj": (0, 1e4, "is it in fJ? pj counts pJ of one operation"),
    "multiply_pj": (0, 1e4, "is it in fJ? multiply_pj counts pJ"),
    "add_pj": (0, 1e4, "is it in fJ? add_pj counts pJ"),
    "vector_operation_pj": (0, 1e4, "is it in fJ? vector_operation_pj counts pJ"),
    "register_pj_per_bit": (0, 10, "is it of a whole word? register_pj_per_bit counts pJ of a bit"),
    "random_bit_pj": (0, 100, "is it of a whole word? random_bit_pj counts pJ of a bit"),
    "read_pj_per_bit": (0.01, 1000, "is it of a byte or a burst? read_pj_per_bit counts pJ of a bit"),
    "write_pj_per_bit": (0.01, 1000, "is it of a byte or a burst? write_pj_per_bit counts pJ of a bit"),
    "pj_per_bit": (0.001, 1e4, "is it of a byte? pj_per_bit counts pJ of a bit"),
    "static_power_w": (0, 1e4, "is it in mW? static_power_w counts W"),
    "bandwidth_bytes_per_second": (
        1e6,
        1e14,
        "is it in GB/s? bandwidth_bytes_per_second counts bytes a second",
    ),
    "link_bandwidth_bytes_per_second": (1e6, 1e13, "is it in GB/s? it counts bytes a second"),
    "latency_s": (0, 1, "is it in microseconds? latency_s counts seconds"),
    "capacity_bytes": (64, 1e13, "is it in KiB? capacity_bytes counts bytes"),
    "bandwidth_bytes_per_cycle": (1, 1e7, "is it a second's? it counts bytes of a cycle"),
}

#: Classical scaling of logic energy over more than this factor of nodes is far from any measured pair of nodes.
NODES_APART = 4.0


def check_values(profile: HardwareProfile) -> Iterator[Remark]:
    """Suspicious numbers."""
    yield from _outside_limits(profile, ())
    yield from _technology(profile)
    yield from _modes(profile)


def _outside_limits(table: BaseModel, path: tuple[str | int, ...]) -> Iterator[Remark]:
    for key, value in table:
        if key in LIMITS and isinstance(value, int | float | Figure):
            yield from _outside(key, value, (*path, key))
        for inner, at in _tables(value, (*path, key)):
            yield from _outside_limits(inner, at)


def _tables(value: Any, path: tuple[str | int, ...]) -> Iterator[tuple[BaseModel, tuple[str | int, ...]]]:
    if isinstance(value, BaseModel) and not isinstance(value, Figure):
        yield value, path
    elif isinstance(value, tuple):
        yield from ((item, (*path, i)) for i, item in enumerate(value) if isinstance(item, BaseModel))


def _outside(key: str, value: float | Figure, location: tuple[str | int, ...]) -> Iterator[Remark]:
    low, high, hint = LIMITS[key]
    number = value.nominal if isinstance(value, Figure) else value
    if not low <= number <= high and number:
        side = f"below {in_words(low)}" if number < low else f"above {in_words(high)}"
        yield Remark(location=location, message=f"{in_words(number)} is {side}: {hint}")


def _technology(profile: HardwareProfile) -> Iterator[Remark]:
    machine, energy = profile.machine, profile.energy
    location = ("energy", "node_nm")
    if energy.node_nm > NODES_APART * machine.node_nm or energy.node_nm * NODES_APART < machine.node_nm:
        yield Remark(
            location=location,
            message=f"figures at {energy.node_nm:g} nm are carried to the machine's {machine.node_nm:g} nm, more "
            f"than {NODES_APART:g} times apart, where classical scaling does not hold: give figures of a nearer node",
        )
    if energy.node_nm == machine.node_nm and abs(energy.voltage_v / machine.voltage_v - 1) > 0.2:
        yield Remark(
            location=("energy", "voltage_v"),
            message=f"the figures are at {energy.voltage_v:g} V and the machine, at the same {machine.node_nm:g} nm, "
            f"at {machine.voltage_v:g} V: if they are the machine's own, both voltages are the same",
        )


def _modes(profile: HardwareProfile) -> Iterator[Remark]:
    for kind in ("integer", "float", "log"):
        modes = sorted(
            (m.operand_bits, m.macs_per_pe_per_cycle, i)
            for i, m in enumerate(profile.array.modes)
            if m.kind == kind
        )
        for (bits, macs, _), (wider, more, index) in zip(modes, modes[1:], strict=False):
            if more > macs:
                yield Remark(
                    location=("array", "modes", index, "macs_per_pe_per_cycle"),
                    message=f"{wider}-bit operands are multiplied {more} a cycle, narrower ones of {bits} bits "
                    f"{macs}: a wider mode is as fast at most",
                )
