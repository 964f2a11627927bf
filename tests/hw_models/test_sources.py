"""Every number of a profile with the source that holds for it."""

from hw_models.schema.base import Figure
from hw_models.sources import numbers
from tests.hw_models.example import example


def sources(*changes: tuple[str, str]) -> dict[str, str]:
    return {".".join(map(str, n.location)): n.source for n in numbers(example(*changes))}


def test_the_tables_source_holds_for_its_numbers():
    found = sources(("\nfrequency_hz", '\nsources.frequency_hz = "data sheet, table 2"\nfrequency_hz'))
    assert found["clock.frequency_hz"] == "data sheet, table 2"
    assert found["array.rows"].startswith("assumption: example figures")


def test_the_source_of_a_key_holds_for_the_tables_in_it():
    found = sources(('holds = ["result"]', 'holds = ["result"]\nsources.accesses = "CACTI 7"'))
    assert found["memory.accumulator.accesses.0.read_pj"] == "CACTI 7"
    assert found["memory.sram.accesses.0.read_pj"].startswith("assumption")


def test_a_figure_has_a_source_of_its_own():
    figure = '{ low = 0.003, nominal = 0.003, high = 0.003, nominal_source = "Horowitz, ISSCC 2014" }'
    profile = example(("register_pj_per_bit = 0.003", f"register_pj_per_bit = {figure}"))
    (number,) = [n for n in numbers(profile) if n.location == ("energy", "register_pj_per_bit")]
    assert number.source == "Horowitz, ISSCC 2014"
    assert isinstance(number.value, Figure)
    assert not number.is_assumption


def test_all_numbers_that_are_given_and_only_these():
    found = sources()
    assert len(found) == 35
    assert "array.pixel_rows" not in found
    assert "array.pixel_rows" in sources(("\n#startup_cycles = 0", "\npixel_rows = 1"))
    assert "machine.name" not in found
    assert found["arithmetic.gradient_rounding.random_bits"].startswith("assumption")


def test_keys_of_a_table_of_any_names_are_numbers():
    found = sources(("#operations = { batch_norm = 4.0 }", "operations = { batch_norm = 5.0 }"))
    assert "vector.operations.batch_norm" in found


def test_a_boolean_is_no_number():
    assert "vector.overlaps_array" not in sources(("#overlaps_array = false", "overlaps_array = true"))
