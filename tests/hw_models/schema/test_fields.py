"""What the schema tells about a key."""

from hw_models.profile import HardwareProfile
from hw_models.schema.array import Array, Mode
from hw_models.schema.base import Figure
from hw_models.schema.energy import Energy
from hw_models.schema.fields import is_repeated, nested_table, table_at, values_of
from hw_models.schema.machine import Machine
from hw_models.schema.memory import Access, Memory, OffChip, OnChip


def test_the_table_that_a_key_holds():
    assert nested_table(HardwareProfile.model_fields["array"]) is Array
    assert nested_table(HardwareProfile.model_fields["memory"]) is Memory
    assert nested_table(Array.model_fields["modes"]) is Mode
    assert nested_table(Array.model_fields["rows"]) is None
    assert nested_table(Energy.model_fields["random_bit_pj"]) is Figure


def test_repeated_tables():
    assert is_repeated(Array.model_fields["modes"])
    assert is_repeated(OnChip.model_fields["accesses"])
    assert not is_repeated(OnChip.model_fields["holds"])
    assert not is_repeated(HardwareProfile.model_fields["array"])


def test_the_table_that_a_place_lies_in():
    assert table_at(HardwareProfile, ()) is HardwareProfile
    assert table_at(HardwareProfile, ("array", "modes", 1)) is Mode
    assert table_at(HardwareProfile, ("memory", "dram")) is OffChip
    assert table_at(HardwareProfile, ("memory", "anything")) is OnChip
    assert table_at(HardwareProfile, ("memory", "anything", "accesses", 0)) is Access


def test_values_in_words():
    assert values_of(Array.model_fields["rows"]) == "integer > 0"
    assert values_of(Array.model_fields["startup_cycles"]) == "integer >= 0"
    assert values_of(Array.model_fields["loading"]) == '"exposed" or "hidden"'
    assert values_of(Array.model_fields["padded_loads"]) == "true or false"
    assert values_of(Mode.model_fields["operand_bits"]) == "integer >= 2 and <= 64"
    assert values_of(Mode.model_fields["multiply_pj"]) == "number >= 0, or a figure"
    assert values_of(Machine.model_fields["name"]) == "text"
    assert values_of(Machine.model_fields["node_nm"]) == "number > 0"
    assert values_of(OffChip.model_fields["capacity_bytes"]) == "integer > 0"
    assert values_of(OnChip.model_fields["holds"]) == 'list of "lhs", "rhs", "result"'
