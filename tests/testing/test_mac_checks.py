import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from lowbit_sim.arith.backends import reference
from lowbit_sim.arith.float_mac import FloatMacUnit
from lowbit_sim.arith.float_reference import Adder, dot
from lowbit_sim.arith.mac import MacUnit, accumulator_range
from lowbit_sim.numerics.catalog import FP16
from lowbit_sim.numerics.rounding import Rounding
from lowbit_sim.testing import ContractError, check_mac, float_mac_units


def total(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True))


def clipped(bits, every):
    """Sums so many products exactly before it clips."""
    low, high = accumulator_range(bits)

    def fn(a, b):
        outer = 0
        for k in range(0, len(a), every):
            outer = max(low, min(high, outer + total(a[k : k + every], b[k : k + every])))
        return outer

    return fn


@pytest.mark.parametrize("bits", [20, 24, 32])
def test_wide_accumulators_overflow(bits):
    saturating, wrapping = (MacUnit(accumulator_bits=bits, overflow=rule) for rule in ("saturate", "wrap"))
    few = {"max_examples": 5}
    check_mac(clipped(bits, 1), saturating, **few)
    check_mac(lambda a, b: (total(a, b) + 2 ** (bits - 1)) % 2**bits - 2 ** (bits - 1), wrapping, **few)
    for wrong in (clipped(bits, 1 << 40), clipped(bits, 4)):
        with pytest.raises(ContractError, match="goes (above|below) its range"):
            check_mac(wrong, saturating, **few)
    with pytest.raises(ContractError, match=r"\[-128\] \* "):
        check_mac(clipped(bits, 1), wrapping, **few)


def test_the_other_side_of_the_range_is_met():
    def asymmetric(a, b):
        return reference.dot(a, b, MacUnit(accumulator_bits=32, overflow="saturate_symmetric"))[0]

    with pytest.raises(ContractError, match="below its range"):
        check_mac(asymmetric, MacUnit(accumulator_bits=32, overflow="saturate"), max_examples=5)


@pytest.mark.parametrize("length", [31, 32, 33, 63, 64, 65, 127, 128, 129])
def test_lengths_around_those_of_registers_are_met(length):
    with pytest.raises(ContractError, match="no addition overflows"):
        check_mac(lambda a, b: total(a, b) + (len(a) == length), MacUnit(accumulator_bits=48), largest=9)


@pytest.mark.parametrize(
    "mac", [MacUnit(accumulator_bits=48), MacUnit(accumulator_bits=48, chunk=1 << 40)], ids=str
)
def test_long_vectors_are_drawn_where_asked_for(mac):
    seen = set()

    def note(a, b):
        seen.add(len(a))
        return total(a, b)

    check_mac(note, mac, largest=5000, max_examples=50)
    assert max(seen) > 1000


def in_float32(a, b):
    result = 0.0
    for x, y in zip(a, b, strict=True):
        result = float(np.float32(result + x * y))
    return result


def test_float_units():
    check_mac(in_float32, FloatMacUnit(), max_examples=60)
    with pytest.raises(ContractError, match="is not fp16") as caught:
        check_mac(in_float32, FloatMacUnit(accumulator=FP16))
    assert "inner chunk 0 k <= 0: 0x0p+0 + " in str(caught.value)
    with pytest.raises(ContractError, match="is not fp32 nearest_even"):
        check_mac(lambda a, b: float(np.float32(total(a, b))), FloatMacUnit(), a_format="fp8_e5m2")
    with pytest.raises(ContractError, match="raised TypeError"):
        check_mac(lambda a, b: [1.0], FloatMacUnit())
    with pytest.raises(ValueError, match="draws random bits"):
        check_mac(in_float32, FloatMacUnit(rounding=Rounding("stochastic", "infinity", 8)))


def test_the_sign_of_a_float_zero_counts():
    with pytest.raises(ContractError, match="expected +0x0p"):
        check_mac(lambda a, b: in_float32(a, b) or -0.0, FloatMacUnit())


@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.nested_given])
@given(float_mac_units())
def test_the_float_reference_passes_for_every_kind_of_unit(mac):
    check_mac(lambda a, b: dot(a, b, mac, Adder(mac.rounding, lambda i: 0)), mac, max_examples=3)
