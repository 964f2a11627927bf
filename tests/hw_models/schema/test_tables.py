"""What the other tables refuse, and what they count."""

import pytest

import hw_models
from hw_models.schema.vector import OPERATIONS
from lowbit_sim.trace import VECTOR_KINDS
from tests.hw_models.example import example


def refused(*changes: tuple[str, str]) -> str:
    with pytest.raises(hw_models.ProfileError) as error:
        example(*changes)
    return str(error.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            (("#pixel_rows = 1", "pixel_rows = 2"),),
            "array.pixel_rows: is for dataflow = 'spatial' (it is 'ws')",
        ),
        (
            (("#depthwise_over_columns = false", "depthwise_over_columns = true"),),
            "array.depthwise_over_columns: is for dataflow = 'spatial' (it is 'ws')",
        ),
        (
            (("#steps_padded_to = 1", "steps_padded_to = 4"),),
            "array.steps_padded_to: is for dataflow = 'spatial' (it is 'ws')",
        ),
        ((("#steps_padded_to = 1", "steps_padded_to = 0"),), "array.steps_padded_to = 0: "),
        (
            (('dataflow = "ws"', 'dataflow = "rs"'), ('#loading = "exposed"', 'loading = "hidden"')),
            "array.loading: 'hidden' is for the systolic dataflows",
        ),
        ((("\noperand_bits = 8", "\noperand_bits = 1"),), "array.modes.0.operand_bits = 1: "),
        (
            (('#kind = "integer"', 'kind = "float"'),),
            "array.modes.0: multiply_pj and add_pj missing: needed for kind = 'float'",
        ),
        (
            (("#operations = { batch_norm = 4.0 }", "operations = { batchnorm = 4.0 }"),),
            "unknown kind of vector work 'batchnorm': known are",
        ),
        (
            (("\n[[energy.add]]", "\n[[energy.add]]\nbits = 64\npj = 0.2\n[[energy.add]]"),),
            "energy.add.1.bits: add has ascending widths and energies, got 0.2 pJ at 64 bits before 0.1 pJ at 32",
        ),
        ((('name = "mine"', 'name = "Mine"'),), "machine.name = 'Mine': String should match pattern"),
    ],
    ids=[
        "pixels",
        "depthwise",
        "steps",
        "no steps",
        "loading",
        "bits",
        "float energy",
        "kind of work",
        "energies",
        "name",
    ],
)
def test_what_does_not_fit_is_refused(changes, message):
    assert message in refused(*changes)


def test_peak_of_an_array():
    profile = example(
        ('dataflow = "ws"', 'dataflow = "spatial"'),
        ("#pixel_rows = 1", "pixel_rows = 2"),
        ("\narrays = 1", "\narrays = 3"),
        ("macs_per_pe_per_cycle = 1", "macs_per_pe_per_cycle = 4"),
    )
    assert profile.array.elements == 16 * 16 * 2 * 3
    assert profile.array.macs_per_cycle(profile.array.modes[0]) == 16 * 16 * 2 * 3 * 4
    assert profile.array.widths() == [8]
    assert profile.array.widths("float") == []


def test_operations_of_an_element():
    vector = example(("#operations = { batch_norm = 4.0 }", "operations = { batch_norm = 7.5 }")).vector
    assert vector.operations_per_element("batch_norm") == 7.5
    assert vector.operations_per_element("quantize") == OPERATIONS["quantize"]
    assert vector.operations_per_cycle == 16


def test_every_kind_of_vector_work_has_a_number_of_operations():
    assert set(OPERATIONS) == set(VECTOR_KINDS)
