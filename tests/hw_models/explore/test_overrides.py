import pytest
from hypothesis import given
from hypothesis import strategies as st

import hw_models
from hw_models.explore.overrides import SOURCE, check_key, with_overrides

PROFILE = hw_models.parse(hw_models.template("box"), "box.toml")


def refusal(**overrides: object) -> str:
    changes = {key.replace("__", "."): value for key, value in overrides.items()}
    with pytest.raises(hw_models.ProfileError) as caught:
        with_overrides(PROFILE, changes)
    return str(caught.value)


def test_a_key_changes_and_nothing_else_does():
    changed = with_overrides(PROFILE, {"array.rows": 8})
    assert changed.array.rows == 8
    assert changed.array.columns == PROFILE.array.columns
    assert changed.memory is PROFILE.memory
    assert PROFILE.array.rows == 16


def test_without_overrides_the_profile_is_the_same():
    assert with_overrides(PROFILE, {}) == PROFILE


def test_the_source_of_a_changed_number_no_longer_cites_a_publication():
    changed = with_overrides(PROFILE, {"array.rows": 8, "array.modes.0.operand_bits": 4})
    assert changed.array.sources == {**PROFILE.array.sources, "rows": SOURCE, "modes": SOURCE}
    assert changed.array.modes[0].sources["operand_bits"] == SOURCE
    assert changed.clock.sources == PROFILE.clock.sources
    assert SOURCE.startswith("assumption")


def test_lists_are_counted_from_0():
    changed = with_overrides(PROFILE, {"array.modes.0.macs_per_pe_per_cycle": 2})
    assert [m.macs_per_pe_per_cycle for m in changed.array.modes][0] == 2
    assert changed.array.modes[1:] == PROFILE.array.modes[1:]


@pytest.mark.parametrize(
    ("unit", "value", "capacity"),
    [("kib", 256, 262_144), ("mib", 2, 2_097_152), ("kib", 0.5, 512), ("gib", 1, 1 << 30)],
)
def test_capacities_in_binary_units(unit, value, capacity):
    level = next(iter(PROFILE.memory.levels))
    changed = with_overrides(PROFILE, {f"memory.{level}.{unit}": value})
    assert changed.memory.levels[level].capacity_bytes == capacity
    assert changed.memory.levels[level].sources["capacity_bytes"] == SOURCE
    outside = with_overrides(PROFILE, {f"memory.dram.{unit}": value})
    assert outside.memory.dram.capacity_bytes == capacity


def test_memories_stay_in_their_order():
    names = list(PROFILE.memory.levels)
    for name in names:
        changed = with_overrides(PROFILE, {f"memory.{name}.banks": 2, "memory.dram.read_pj_per_bit": 1.0})
        assert list(changed.memory.levels) == names
        assert changed.memory.stages == PROFILE.memory.stages


def test_a_bare_number_in_place_of_a_figure_has_no_range():
    changed = with_overrides(PROFILE, {"memory.dram.read_pj_per_bit": 3.5, "energy.add.0.pj": 0.2})
    figure = changed.memory.dram.read_pj_per_bit
    assert (figure.low, figure.nominal, figure.high) == (3.5, 3.5, 3.5)
    assert changed.energy.add[0].pj.nominal == 0.2


def test_operations_of_a_kind_that_the_file_leaves_out():
    changed = with_overrides(PROFILE, {"vector.operations.quantize": 2.0})
    assert changed.vector.operations_per_element("quantize") == 2.0


def test_changes_that_are_valid_only_together():
    changed = with_overrides(PROFILE, {"array.dataflow": "spatial", "array.pixel_rows": 4})
    assert changed.array.pixel_rows == 4
    assert "pixel_rows" in refusal(array__pixel_rows=4)


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("arrray.rows", "'array'"),
        ("array.row", "'rows'"),
        ("memory.sram2.kib", "unknown key in memory"),
        ("memory.dram.capacity", "'capacity_bytes'"),
        ("array.modes.9.operand_bits", "array.modes is a list"),
        ("array.modes.first.operand_bits", "array.modes is a list"),
        ("array.modes.00.operand_bits", "array.modes is a list"),
        ("array.modes.-1.operand_bits", "array.modes is a list"),
        ("array.rows.0", "array.rows is 16, which has no keys"),
        ("array.kib", "unknown key in array 'kib'"),
        ("", "unknown key in a profile ''"),
    ],
)
def test_unknown_keys_name_what_is_known(key, words):
    with pytest.raises(hw_models.ProfileError) as caught:
        check_key(PROFILE, key)
    assert str(caught.value).startswith(f"{key}: ")
    assert words in str(caught.value)


def test_an_optional_table_that_is_absent():
    bare = PROFILE.model_copy(update={"interconnect": None})
    with pytest.raises(
        hw_models.ProfileError, match=r"interconnect.links_per_device: the profile has no \[interco"
    ):
        with_overrides(bare, {"interconnect.links_per_device": 4})


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("array.rows", 0, "array.rows = 0: "),
        ("array.rows", 8.0, "array.rows = 8.0: "),
        ("array.rows", "8", "array.rows = '8': "),
        ("array.dataflow", "wz", "array.dataflow = 'wz': "),
        ("array.modes.0.operand_bits", 1, "array.modes.0.operand_bits = 1: "),
        ("memory.dram.kib", "big", "a capacity is a number of kib"),
        ("memory.dram.kib", 0.3, "a whole number of bytes"),
        ("memory.dram.kib", True, "a capacity is a number of kib"),
    ],
)
def test_wrong_values_name_the_key_and_the_value(key, value, words):
    with pytest.raises(hw_models.ProfileError) as caught:
        with_overrides(PROFILE, {key: value})
    assert words in str(caught.value)
    assert "Value error" not in str(caught.value)


def test_a_key_and_one_above_it_are_refused():
    figure = "memory__dram__read_pj_per_bit"
    assert "overridden" in refusal(**{figure: 1.0, f"{figure}__low": 0.5})
    assert "overridden twice" in refusal(**{f"{figure}__low": 0.5, figure: 1.0})
    assert "overridden twice" in refusal(memory__dram__kib=1, memory__dram__capacity_bytes=4096)


@given(rows=st.integers(1, 512), columns=st.integers(1, 512), kib=st.integers(1, 4096))
def test_overrides_are_the_file_with_other_numbers(rows, columns, kib):
    """The definition: edit the text and read it again. Sources apart, both give one profile."""
    level = next(iter(PROFILE.memory.levels))
    table = PROFILE.model_dump()
    table["array"] |= {"rows": rows, "columns": columns}
    table["memory"][level] |= {"capacity_bytes": 1024 * kib}
    changed = with_overrides(
        PROFILE, {"array.rows": rows, "array.columns": columns, f"memory.{level}.kib": kib}
    ).model_dump()
    for part in (table["array"], table["memory"][level], changed["array"], changed["memory"][level]):
        del part["sources"]
    assert changed == table
