"""A fitted machine as a profile, in TOML: what was measured names the device, and what was not says so."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from hw_models.calibration.fit import Fit
from hw_models.calibration.modes import TimedMode
from lowbit_sim.config.toml_text import toml_value

#: Side of a square array, a tile of sums in registers: small, as kernels choose their tiles to fit a GEMM.
SIDE = 4


@dataclass(frozen=True, kw_only=True)
class Device:
    """What is known of the device.

    Attributes:
        name: Its name.
        units: Its multiprocessors, or threads.
        cache_bytes: Capacity of its last cache.
        measured_with: Date and versions, in words.
    """

    name: str
    units: int
    cache_bytes: int
    measured_with: str


def profile_name(device: Device) -> str:
    """The machine's name: "measured" and the words of the device's name."""
    words = re.findall("[a-z0-9]+", device.name.lower())
    return "_".join(["measured", *(word for word in words if word not in ("r", "tm"))])


def profile_text(device: Device, fit: Fit, modes: Sequence[TimedMode]) -> str:
    """The profile; `hw_models.parse` reads it.

    Args:
        device: The device.
        fit: Its numbers.
        modes: The modes that were timed.
    """
    elements = SIDE * SIDE * device.units
    by = f"measured on {device.name}, {device.measured_with}"
    clock = fit.clock(elements)
    integer = any(mode.kind == "integer" for mode in modes)
    power = fit.power_w or 0.0
    tables = [
        _table(
            "machine",
            source=by,
            sources={"node_nm": _UNKNOWN, "voltage_v": _UNKNOWN},
            name=profile_name(device),
            description=f"{device.name} as a fit to measured GEMMs: cycles are units of the fit",
            node_nm=5.0,
            voltage_v=0.75,
            validation="fitted, not validated: predicted times of other GEMMs beside measured ones are in its record",
        ),
        _table(
            "clock",
            source=f"a fit to GEMMs {by}: the slowest mode's rate is {fit.slowest_macs} products a cycle and element",
            frequency_hz=clock,
        ),
        _table(
            "array",
            source=f"{device.units} multiprocessors or threads, {by}",
            sources={
                "rows": "assumption: a tile of sums in registers",
                "columns": "assumption: as rows",
                "dataflow": "assumption: tiles of sums stay in registers",
                "loading": "assumption: the next operands come while the current ones are multiplied",
                "startup_cycles": f"the smallest GEMM, {fit.startup_s:.3g} s, {by}",
            },
            rows=SIDE,
            columns=SIDE,
            arrays=device.units,
            dataflow="os",
            loading="hidden",
            startup_cycles=round(fit.startup_s * clock),
        ),
        *(_mode(mode, fit, by) for mode in modes),
        _table(
            "vector",
            source="assumption: the float32 rate of GEMMs; not measured. Its work waits for the memory mostly",
            lanes=elements * fit.macs_per_element("fp32"),
            operations_per_lane_per_cycle=1,
            random_bits_per_cycle=0,
            operations_per_random_word=15,
            overlaps_array=False,
            fuses=False,
        ),
        _table(
            "arithmetic",
            source="assumption: int8 where the device multiplies it; a study sets others",
            format="int8" if integer else "bf16",
        ),
        *_memories(device, fit, by, elements),
        *_energies(power, by if fit.power_w is not None else _NO_ENERGY),
    ]
    header = f"# {device.name}: a fit to GEMMs and a copy, {device.measured_with}.\n"
    return header + "\n" + "\n".join(tables)


_UNKNOWN = "assumption: not known, and without effect, as no energy is scaled"
_NO_ENERGY = "assumption: energy was not measured: zero stands for what is not known"
_POWER_ALONE = "assumption: not measured by kind of work, so that all of it is in static_power_w"


def _mode(mode: TimedMode, fit: Fit, by: str) -> str:
    energy = {} if mode.kind == "integer" else {"multiply_pj": 0.0, "add_pj": 0.0}
    return _table(
        "[array.modes]",
        source=f"{mode.name}: a sustained {fit.macs_per_second[mode.name]:.4g} multiply-accumulates a second, {by}",
        sources=dict.fromkeys(energy, _POWER_ALONE),
        operand_bits=mode.operand_bits,
        kind=mode.kind,
        macs_per_pe_per_cycle=fit.macs_per_element(mode.name),
        **energy,
    )


def _memories(device: Device, fit: Fit, by: str, elements: int) -> list[str]:
    widest = max(fit.macs_per_element(mode) for mode in fit.macs_per_second)
    return [
        _table(
            "memory.cache",
            source=f"capacity of the last cache, {by}",
            sources={
                "bandwidth_bytes_per_cycle": "assumption: never the limit: what a cache holds back is in the rates",
                "accesses": _POWER_ALONE,
            },
            capacity_bytes=device.cache_bytes,
            bandwidth_bytes_per_cycle=16 * widest * elements,
            holds=["lhs", "rhs", "result"],
        ),
        _table("[memory.cache.accesses]", bits=64, read_pj=0.0, write_pj=0.0),
        _table(
            "memory.dram",
            source=f"a copy, read and written, {by}",
            sources={"read_pj_per_bit": _POWER_ALONE, "write_pj_per_bit": _POWER_ALONE},
            bandwidth_bytes_per_second=round(fit.bytes_per_second),
            read_pj_per_bit=0.0,
            write_pj_per_bit=0.0,
        ),
    ]


def _energies(power_w: float, source: str) -> list[str]:
    return [
        _table(
            "energy",
            source=source,
            sources={
                "node_nm": _UNKNOWN,
                "voltage_v": _UNKNOWN,
                "register_pj_per_bit": _POWER_ALONE,
                "vector_operation_pj": _POWER_ALONE,
                "random_bit_pj": _POWER_ALONE,
            },
            node_nm=5.0,
            voltage_v=0.75,
            register_pj_per_bit=0.0,
            vector_operation_pj=0.0,
            random_bit_pj=0.0,
            static_power_w=round(power_w, 1),
        ),
        _table("[energy.multiply]", bits=8, pj=0.0),
        _table("[energy.add]", bits=32, pj=0.0),
    ]


def _table(name: str, /, *, sources: dict[str, str] | None = None, **values: object) -> str:
    lines = [f"[{name}]"]
    if "source" in values:
        lines.append(f"source = {toml_value(values.pop('source'))}")
    lines += [f"sources.{key} = {toml_value(text)}" for key, text in (sources or {}).items()]
    lines += [f"{key} = {toml_value(value)}" for key, value in values.items()]
    return "\n".join(lines) + "\n"
