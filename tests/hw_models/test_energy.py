"""Energy of single actions by width, against the published figures."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

import hw_models
from hw_models.energy import (
    add_energy,
    by_width,
    multiply_energy,
    register_bits,
    technology_scale,
    unit_energies,
)
from hw_models.ranges import EnergyRange, exactly
from hw_models.schema.array import Mode
from hw_models.schema.energy import ByWidth
from tests.hw_models.machines import FLOAT_MODE, tiny


def _mode(profile: hw_models.HardwareProfile, bits: int) -> Mode:
    return next(m for m in profile.array.modes if m.operand_bits == bits)


def mac_pj(profile: hw_models.HardwareProfile, bits: int, accumulator_bits: int) -> float:
    mode = _mode(profile, bits)
    both = multiply_energy(profile, mode) + add_energy(profile, mode, accumulator_bits)
    return both.nominal_pj


@pytest.mark.parametrize(
    ("bits", "accumulator_bits", "pj"), [(8, 32, 0.30), (4, 32, 0.15), (4, 16, 0.10), (8, 16, 0.25)]
)
def test_mac_with_horowitz_figures(bits, accumulator_bits, pj):
    assert mac_pj(tiny(), bits, accumulator_bits) == pytest.approx(pj, rel=1e-15)


def test_int4_saves_a_factor_of_two_with_a_wide_accumulator_and_three_with_a_narrow_one():
    int8 = mac_pj(tiny(), 8, 32)
    assert int8 / mac_pj(tiny(), 4, 32) == pytest.approx(2)
    assert int8 / mac_pj(tiny(), 4, 16) == pytest.approx(3)


def table(*entries: tuple[int, float]) -> tuple[ByWidth, ...]:
    return tuple(ByWidth(bits=bits, pj=pj) for bits, pj in entries)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("bits", "power", "pj"),
    [
        (4, 2, 0.05), (8, 2, 0.2), (32, 2, 3.2), (64, 2, 12.8),  # Horowitz' 0.2 pJ at 8 bits and 3.1 at 32
        (16, 2, 0.8),  # the geometric mean of the neighbours, half way in log(bits)
        (4, 1, 0.1), (64, 1, 6.4),
    ],
)  # fmt: skip
def test_given_widths_between_them_and_beyond_the_ends(bits, power, pj):
    assert by_width(table((8, 0.2), (32, 3.2)), bits, power=power).nominal_pj == pytest.approx(pj)


def test_an_operation_that_takes_nothing_takes_nothing_up_to_the_next_width():
    figures = table((8, 0.0), (16, 1.0))
    assert [by_width(figures, bits, power=2).nominal_pj for bits in (4, 12, 16, 32)] == [0, 0, 1, 4]


widths = st.lists(st.integers(2, 64), min_size=1, max_size=4, unique=True).map(sorted)


@given(widths, st.data(), st.sampled_from([1, 2]))
def test_a_narrower_operation_never_takes_more(bits, data, power):
    energies = sorted(data.draw(st.floats(0, 50)) for _ in bits)
    figures = table(*zip(bits, energies, strict=True))
    found = [by_width(figures, b, power=power).nominal_pj for b in range(2, 70)]
    assert all(a <= b * (1 + 1e-12) for a, b in zip(found, found[1:], strict=False))


def test_each_end_of_a_range_has_its_own_curve():
    figures = (
        ByWidth(bits=8, pj={"low": 0.1, "nominal": 0.2, "high": 0.9, "low_source": "a", "high_source": "b"}),  # type: ignore[arg-type]
    )
    assert by_width(figures, 16, power=2) == EnergyRange(0.4, 0.8, 3.6)


def test_logic_scales_with_node_and_voltage_squared():
    profile = tiny(('description = "a 4 x 4 array"\nnode_nm = 45.0\nvoltage_v = 0.9',
                    'description = "small"\nnode_nm = 22.5\nvoltage_v = 0.45'))  # fmt: skip
    assert technology_scale(profile) == 0.125
    assert mac_pj(profile, 8, 32) == pytest.approx(0.3 / 8)
    energies = unit_energies(profile)
    assert energies.vector_operation == exactly(2.3 * 0.125)
    # Memories' figures are the machine's own.
    assert energies.dram_read == exactly(10.0)
    assert energies.read == {"sram": exactly(1.0), "accumulator": exactly(0.5)}
    assert energies.write == {"sram": exactly(2.0), "accumulator": exactly(0.25)}


def test_a_float_mode_brings_its_own_figures():
    profile = tiny(
        FLOAT_MODE,
        ("node_nm = 45.0\nvoltage_v = 0.9\nvalidation", "node_nm = 7.0\nvoltage_v = 0.9\nvalidation"),
    )
    assert mac_pj(profile, 32, 32) == pytest.approx(3.7 + 0.9)


def test_static_power_in_a_cycle():
    # 1 nW at 1000 cycles a second is 1 pJ each.
    assert unit_energies(
        tiny(("static_power_w = 0.0", "static_power_w = 1e-9"))
    ).static.nominal_pj == pytest.approx(1)


@pytest.mark.parametrize(
    ("dataflow", "bits"),
    [("ws", 8 + 32), ("is", 8 + 32), ("os", 16 + 32), ("rs", 16 + 32), ("spatial", 8 + 32 / 4)],
)
def test_bits_that_registers_take_over(dataflow, bits):
    profile = tiny(('dataflow = "ws"', f'dataflow = "{dataflow}"'))
    assert register_bits(profile.array, _mode(profile, 8), 32) == bits


def test_two_products_in_one_element_share_the_sum():
    profile = tiny()
    assert register_bits(profile.array, _mode(profile, 4), 32) == 4 + 32 / 2
