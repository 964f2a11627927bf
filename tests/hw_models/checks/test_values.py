"""Numbers that can hardly be meant."""

import pytest

import hw_models
from hw_models.checks.values import check_values
from tests.hw_models.example import example


def said(*changes: tuple[str, str]) -> dict[str, str]:
    return {".".join(map(str, r.location)): r.message for r in check_values(example(*changes))}


def test_usual_numbers_give_no_remark():
    assert said() == {}


@pytest.mark.parametrize("name", hw_models.profile_names())
def test_no_machine_that_was_built_is_outside_the_limits(name):
    assert [r.message for r in check_values(hw_models.load(name)) if "? " in r.message] == []


@pytest.mark.parametrize(
    ("change", "key", "message"),
    [
        (
            ("frequency_hz = 1_000_000_000", "frequency_hz = 1_000"),
            "clock.frequency_hz",
            "1,000 is below 1,000,000: is it in MHz? frequency_hz counts Hz",
        ),
        (
            ("\nvoltage_v = 0.8", "\nvoltage_v = 800.0"),
            "machine.voltage_v",
            "800 is above 5: is it in mV? voltage_v counts V",
        ),
        (
            ("read_pj = 6.4", "read_pj = 64_000.0"),
            "memory.sram.accesses.0.read_pj",
            "64,000 is above 10,000: is it in fJ? read_pj counts pJ of one access",
        ),
        (
            ("bandwidth_bytes_per_second = 16_000_000_000", "bandwidth_bytes_per_second = 16"),
            "memory.dram.bandwidth_bytes_per_second",
            "16 is below 1,000,000: is it in GB/s? bandwidth_bytes_per_second counts bytes a second",
        ),
        (
            ("capacity_bytes = 65_536", "capacity_bytes = 16"),
            "memory.accumulator.capacity_bytes",
            "16 is below 64: is it in KiB? capacity_bytes counts bytes",
        ),
    ],
    ids=["MHz", "mV", "fJ", "GB/s", "KiB"],
)
def test_another_unit(change, key, message):
    assert said(change)[key] == message


def test_figures_of_a_far_node():
    found = said(("\nnode_nm = 22.0", "\nnode_nm = 7.0"))
    assert found["energy.node_nm"].startswith(
        "figures at 45 nm are carried to the machine's 7 nm, more than 4 times"
    )


def test_the_machines_own_node_at_another_voltage():
    found = said(("\nnode_nm = 22.0", "\nnode_nm = 45.0"), ("\nvoltage_v = 0.8", "\nvoltage_v = 0.7"))
    assert found["energy.voltage_v"] == (
        "the figures are at 0.9 V and the machine, at the same 45 nm, at 0.7 V: if they are the machine's own, both "
        "voltages are the same"
    )


def test_a_wider_mode_that_is_faster():
    mode = '[[array.modes]]\nsource = "assumption: for the test"\noperand_bits = 16\nmacs_per_pe_per_cycle = 2\n\n'
    text = ("\n[[array.modes]]\n", f"\n{mode}[[array.modes]]\n")
    found = said(text)
    assert found["array.modes.0.macs_per_pe_per_cycle"] == (
        "16-bit operands are multiplied 2 a cycle, narrower ones of 8 bits 1: a wider mode is as fast at most"
    )
