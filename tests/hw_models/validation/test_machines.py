"""The machines behind the comparisons: they load, and have the published peaks."""

from __future__ import annotations

from importlib import resources

import pytest

from hw_models.load import load
from hw_models.schema.array import Mode
from hw_models.validation.peers import machine

PEERS = sorted(
    file.name.removesuffix(".toml")
    for file in (resources.files("hw_models.validation") / "machines").iterdir()
    if file.name.endswith(".toml")
)


@pytest.mark.parametrize("name", PEERS)
def test_a_peers_machine_loads_under_its_own_name(name: str) -> None:
    profile = machine(name)
    assert profile.machine.name == name
    assert "a model" in profile.machine.validation


def _tops(profile: str, mode: Mode) -> float:
    loaded = load(profile)
    return 2 * loaded.array.macs_per_cycle(mode) * loaded.clock.frequency_hz / 1e12


@pytest.mark.parametrize(
    ("kind", "bits", "published"),
    [("integer", 8, 1979), ("float", 8, 1979), ("float", 16, 989.4), ("float", 19, 494.7)],
)
def test_h200_has_the_data_sheets_peaks(kind: str, bits: int, published: float) -> None:
    mode = next(m for m in load("h200").array.modes if (m.kind, m.operand_bits) == (kind, bits))
    assert _tops("h200", mode) == pytest.approx(published, rel=1e-3)


def test_h200_links_carry_900_gb_a_second_both_ways() -> None:
    links = load("h200").interconnect
    assert links is not None
    assert 2 * links.links_per_device * links.link_bandwidth_bytes_per_second == 900_000_000_000


@pytest.mark.parametrize(("name", "macs"), [("nvdla_small", 64), ("nvdla_large", 2048), ("ethos_u55", 128)])
def test_engines_have_their_published_multipliers(name: str, macs: int) -> None:
    array = load(name).array
    assert array.macs_per_cycle(array.modes[0]) == macs


@pytest.mark.parametrize("name", ["nvdla_small", "nvdla_large", "ethos_u55", "h200"])
def test_energies_of_logic_and_memory_are_ranges(name: str) -> None:
    profile = load(name)
    figures = [profile.energy.multiply[0].pj, profile.energy.add[-1].pj, profile.memory.dram.read_pj_per_bit]
    figures += [access.read_pj for level in profile.memory.levels.values() for access in level.accesses]
    assert all(figure.low < figure.high for figure in figures)
