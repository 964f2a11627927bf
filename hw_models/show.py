"""A machine's summary as tables for a terminal."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from hw_models.profile import HardwareProfile
from hw_models.summary import Level, MachineSummary, PeakRate, Range

#: Significant digits of the figures.
_DIGITS = 3


_BINARY = ((40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB"), (0, "B"))


def list_table(profiles: Iterable[HardwareProfile]) -> RenderableType:
    """Name, array, description, and whether the machine was compared with published figures."""
    table = Table(header_style="bold")
    table.add_column("profile", no_wrap=True)
    table.add_column("machine")
    table.add_column("validated", no_wrap=True)
    for profile in profiles:
        machine = profile.machine
        table.add_row(
            machine.name, machine.description, "no" if is_unvalidated(machine.validation) else "yes"
        )
    return Group(table, Text("What each was compared with: profiles show NAME; how it came out: validate."))


def is_unvalidated(validation: str) -> bool:
    """Whether a profile says that it was compared with nothing."""
    return validation.startswith("not validated")


def machine_tables(machine: MachineSummary) -> RenderableType:
    """All that a summary says."""
    return Group(
        _head(machine),
        _peaks(machine.peaks),
        _note(
            "MACs/B: the balance point, MACs at peak for each byte that the dram moves; B/MAC: its inverse. GEMM "
            f"B/MAC: the bytes that a {machine.large_gemm} reads from the dram and writes there for each of its MACs."
        ),
        _efficiency(machine.peaks),
        _note(
            f"Each figure is given as nominal (low..high), for a {machine.large_gemm}. It counts multiplies, "
            "additions, registers and on-chip memories, and leaves out the dram, the vector unit and static power."
        ),
        _levels(machine.levels),
        _access_energies(machine.levels),
        _numerics(machine),
        _sources(machine),
    )


def _note(text: str) -> RenderableType:
    return Text(text, style="dim")


def _head(machine: MachineSummary) -> RenderableType:
    table = Table(title=machine.name, show_header=False)
    table.add_column("", no_wrap=True)
    table.add_column("")
    table.add_row("machine", machine.description)
    table.add_row(
        "technology",
        f"{machine.node_nm:g} nm, {machine.voltage_v:g} V, {machine.frequency_hz / 1e6:,.6g} MHz",
    )
    table.add_row("array", machine.array)
    table.add_row("vector unit", f"{_short(machine.vector_operations_per_second / 1e9)} G operations/s")
    if machine.area_mm2 is not None:
        table.add_row("area of the MACs", f"{machine.area_mm2:.3g} mm²")
    return table


def _peaks(peaks: Iterable[PeakRate]) -> RenderableType:
    table = _figures("Peak by mode", "mode", "MACs/cycle", "TOPS", "MACs/B", "B/MAC", "GEMM B/MAC")
    for peak in peaks:
        table.add_row(
            _mode(peak),
            f"{peak.macs_per_cycle:,}",
            _short(peak.tops),
            _short(peak.macs_per_dram_byte),
            _short(peak.dram_bytes_per_mac),
            "-" if peak.moved_bytes_per_mac is None else _short(peak.moved_bytes_per_mac),
        )
    return table


def _efficiency(peaks: Iterable[PeakRate]) -> RenderableType:
    table = _figures("Efficiency by mode", "mode", "pJ/MAC", "TOPS/W")
    for peak in peaks:
        table.add_row(_mode(peak), _range(peak.pj_per_mac), _range(peak.tops_per_watt))
    return table


def _mode(peak: PeakRate) -> str:
    return f"{peak.kind}, {peak.operand_bits} bits"


def _levels(levels: Iterable[Level]) -> RenderableType:
    table = _figures("Memories, from the array outwards", "level", "size", "GB/s", "B/cycle", "words")
    table.add_column("holds")
    for level in levels:
        table.add_row(
            level.name,
            _size(level),
            _short(level.bytes_per_second / 1e9),
            _short(level.bytes_per_cycle),
            "" if level.word_bits is None else f"{level.banks} x {level.word_bits} bits",
            ", ".join(level.holds) or "everything",
        )
    return table


def _access_energies(levels: Iterable[Level]) -> RenderableType:
    table = _figures("Energy of memories at their words", "level", "pJ/bit read", "pJ/bit written")
    for level in levels:
        table.add_row(level.name, _range(level.read_pj_per_bit), _range(level.write_pj_per_bit))
    return table


def _figures(title: str, first: str, *headings: str) -> Table:
    """A table of numbers with a name in front."""
    table = Table(title=title, header_style="bold")
    table.add_column(first, no_wrap=True)
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def _numerics(machine: MachineSummary) -> RenderableType:
    table = Table(title="Numerics", show_header=False)
    table.add_column("", no_wrap=True)
    table.add_column("")
    for what, words in machine.numerics.items():
        table.add_row(what, words)
    return table


def _sources(machine: MachineSummary) -> RenderableType:
    return Text(
        f"{machine.assumptions} of {machine.numbers} numbers are assumptions.\nValidation: {machine.validation}"
    )


def _size(level: Level) -> str:
    """A capacity, as two halves where one fills while the other is used."""
    if level.capacity_bytes is None:
        return ""
    halves, size = ("2 x ", level.capacity_bytes / 2) if level.double_buffered else ("", level.capacity_bytes)
    power, unit = next(((p, u) for p, u in _BINARY if size >= 1 << p), _BINARY[-1])
    return f"{halves}{size / (1 << power):.4g} {unit}"


def _short(value: float) -> str:
    """Three significant digits: 0.0123, 4.56, 789, 12,300."""
    if not value:
        return "0"
    return f"{value:,.0f}" if abs(value) >= 10 ** (_DIGITS - 1) else f"{value:.{_DIGITS}g}"


def _range(values: Range | None) -> str:
    """The nominal value, and low and high where they differ."""
    if values is None:
        return "-"
    low, nominal, high = map(_short, values)
    return nominal if low == high else f"{nominal} ({low}..{high})"
