import pytest

from lowbit_sim.arith.mac import MacUnit, accumulator_range


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"accumulator_bits": 7}, "accumulator_bits=7"),
        ({"accumulator_bits": 65}, "accumulator_bits=65"),
        ({"outer_bits": 7}, "outer_bits=7"),
        ({"outer_bits": 65}, "outer_bits=65"),
        ({"overflow": "saturated"}, "did you mean 'saturate'"),
        ({"chunk": -1}, "chunk=-1"),
    ],
)
def test_impossible_units_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        MacUnit(**fields)


def test_result_has_the_outer_width():
    assert MacUnit(accumulator_bits=16).result_bits == 16
    assert MacUnit(accumulator_bits=16, outer_bits=24).result_bits == 24


@pytest.mark.parametrize(
    ("mac", "reduction", "additions"),
    [
        (MacUnit(), 10, 10),
        (MacUnit(), 0, 0),
        (MacUnit(chunk=4), 10, 13),
        (MacUnit(chunk=4), 8, 10),
        (MacUnit(chunk=16), 10, 11),
        (MacUnit(outer_bits=48), 10, 11),
        (MacUnit(chunk=4), 0, 0),
    ],
)
def test_additions_are_those_of_a_product_and_of_a_chunk(mac, reduction, additions):
    assert mac.additions(reduction) == additions


def test_ranges():
    assert accumulator_range(8) == (-128, 127)
    assert accumulator_range(64) == (-(2**63), 2**63 - 1)


def test_names_say_what_the_unit_does():
    assert str(MacUnit()) == "32-bit wrap"
    assert str(MacUnit(outer_bits=48)) == "32-bit wrap into 48-bit"
    mac = MacUnit(accumulator_bits=16, overflow="saturate", chunk=32, outer_bits=24)
    assert str(mac) == "16-bit saturate in chunks of 32 into 24-bit"
