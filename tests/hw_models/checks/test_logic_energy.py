"""Energies of logic far above what was published."""

import pytest

import hw_models
from hw_models.checks.logic_energy import check_logic_energy
from tests.hw_models.example import example

MODE = """[[array.modes]]
source = "assumption: for the test"
operand_bits = 16
kind = "float"
macs_per_pe_per_cycle = 1
multiply_pj = {multiply}
add_pj = 0.2

[vector]"""


def said(*changes: tuple[str, str]) -> dict[str, str]:
    return {".".join(map(str, r.location)): r.message for r in check_logic_energy(example(*changes))}


@pytest.mark.parametrize("name", hw_models.profile_names())
def test_no_machine_that_was_built_is_told(name):
    assert list(check_logic_energy(hw_models.load(name))) == []


def test_femtojoules_of_a_multiplier():
    found = said(("\npj = 0.2", "\npj = 200.0"))
    assert found == {
        "energy.multiply.0.pj": "200 pJ at 8 bits is more than 100 times the 0.2 pJ that Horowitz (ISSCC 2014) "
        "gives, carried to this width, node and voltage: is it in fJ?"
    }


@pytest.mark.parametrize(("pj", "told"), [(19.9, False), (20.1, True)])
def test_the_limit_is_a_hundred_times(pj, told):
    assert bool(said(("\npj = 0.2", f"\npj = {pj}"))) is told


def test_the_figures_own_node_and_voltage_count():
    """At 22.5 nm and 0.45 V the published 0.2 pJ are 0.2 / 8 = 0.025 pJ."""
    small = (("\nnode_nm = 45.0", "\nnode_nm = 22.5"), ("\nvoltage_v = 0.9", "\nvoltage_v = 0.45"))
    assert "energy.multiply.0.pj" not in said(*small, ("\npj = 0.2", "\npj = 2.4"))
    assert "energy.multiply.0.pj" in said(*small, ("\npj = 0.2", "\npj = 2.6"))


@pytest.mark.parametrize(("multiply", "told"), [(1.1, False), (210.0, True)])
def test_a_float_mode_is_compared_at_the_machines_node(multiply, told):
    found = said(("[vector]", MODE.format(multiply=multiply)))
    assert ("array.modes.1.multiply_pj" in found) is told
