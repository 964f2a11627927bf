"""Bounds of accumulators, against all sums by hand and by brute force, and random bits."""

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import lowbit_sim as lb
from hw_models.checks.numerics import (
    bits_needed,
    check_numerics,
    depth,
    product_range,
    random_bits_asked,
)
from lowbit_sim.arith.bounds import range_proof
from lowbit_sim.arith.float_gemm import run_float_gemm
from lowbit_sim.numerics.formats import FloatFormat
from tests.hw_models.example import example

BARE = ("\ngradient_rounding =", "\n#gradient_rounding =")
NO_UNIT = ("\nrandom_bits_per_cycle = 128", "\nrandom_bits_per_cycle = 0")


def said(*changes: tuple[str, str]) -> list[tuple[str, str]]:
    remarks = check_numerics(example(BARE, NO_UNIT, *changes))
    return [(".".join(map(str, r.location)), r.message) for r in remarks]


def numerics(keys: str) -> tuple[str, str]:
    return ('format = "int8"', keys)


@given(st.integers(-300, 300), st.integers(-300, 300))
def test_bits_needed_is_the_smallest_width(low, high):
    low, high = min(low, high, 0), max(low, high, 0)
    bits = bits_needed(low, high)
    assert -(1 << (bits - 1)) <= low
    assert high <= (1 << (bits - 1)) - 1
    if bits > 1:
        assert low < -(1 << (bits - 2)) or high > (1 << (bits - 2)) - 1


@pytest.mark.parametrize("name", ["int4", "int4_full", "uint4", "fixed<4,2>"])
def test_the_product_range_is_that_of_all_codes(name):
    fmt = lb.parse_format(name)
    quantizer = lb.Quantizer(fmt)
    low, high = getattr(fmt, "qmin", -7), getattr(fmt, "qmax", 7)
    spec = lb.GemmSpec(quantizer, quantizer, lb.MacUnit())
    products = [a * b for a, b in itertools.product(range(low, high + 1), repeat=2)]
    assert product_range(spec) == (min(products), max(products))


def test_an_accumulator_that_the_depth_outgrows():
    # 16 products of 127 x 127 are 258,064 and need 19 bits; 16 bits hold two of them: 32,767 // 16,129.
    assert said(numerics('format = "int8"\naccumulator_bits = 16')) == [
        (
            "arithmetic.accumulator_bits",
            "16 bits hold 2 products of int8 x int8 in the worst case, but the array's depth has 16: then the sum "
            "wraps around; 19 bits hold any such sum, up to 258,064",
        )
    ]


def test_the_bound_is_tight():
    assert said(numerics('format = "int8"\naccumulator_bits = 18')) != []
    assert said(numerics('format = "int8"\naccumulator_bits = 19')) == []


@given(st.sampled_from(["int4", "int5", "int8"]), st.integers(8, 24), st.integers(1, 300))
def test_the_warning_comes_where_the_range_bound_of_the_emulator_fails(name, bits, chunk):
    found = said(numerics(f'format = "{name}"\naccumulator_bits = {bits}\nchunk = {chunk}\nouter_bits = 64'))
    largest = int(lb.parse_format(name).max_value)
    proof = range_proof(
        lb.MacUnit(accumulator_bits=bits, chunk=chunk, outer_bits=64), chunk, largest, largest
    )
    assert (found == []) == (proof is not None)


def test_saturation_is_named_and_a_chunk_is_the_depth():
    ((key, message),) = said(
        numerics('format = "int4"\naccumulator_bits = 9\noverflow = "saturate"\nchunk = 64\nouter_bits = 32')
    )
    assert key == "arithmetic.accumulator_bits"
    assert "a chunk has 64: then the sum saturates; 13 bits hold any such sum, up to 3,136" in message


def test_an_outer_accumulator_narrower_than_a_chunk():
    ((key, message),) = said(numerics('format = "int8"\naccumulator_bits = 32\nchunk = 64\nouter_bits = 16'))
    assert key == "arithmetic.outer_bits"
    assert message.startswith(
        "the outer accumulator of 16 bits is narrower than the sum of one chunk of int8 x int8, 21"
    )


def test_the_mac_of_one_gemm_is_named():
    found = said(numerics('format = "int8"\ngrad_weight = { mac = { accumulator_bits = 12 } }'))
    assert [key for key, _ in found] == ["arithmetic.grad_weight.mac.accumulator_bits"]


def test_a_unit_shared_by_the_gemms_is_told_once():
    assert len(said(numerics('format = "int8"\naccumulator_bits = 12'))) == 1


def test_no_depth_of_the_array_where_the_reduction_is_time():
    profile = example(('dataflow = "ws"', 'dataflow = "os"'))
    spec = profile.gemm_spec("output")
    assert spec is not None
    assert depth(profile, spec) == (144, "a 3 x 3 convolution of 16 channels")


def test_a_double_pumped_array_is_deeper():
    profile = example(("macs_per_pe_per_cycle = 1", "macs_per_pe_per_cycle = 4"))
    spec = profile.gemm_spec("output")
    assert spec is not None
    assert depth(profile, spec) == (64, "the array's depth")


def test_a_float_accumulator_that_ends_below_one_product():
    ((key, message),) = said(numerics('format = "fp8_e5m2"\nmac = { accumulator = "fp16" }'))
    assert key == "arithmetic.mac.accumulator"
    assert message == (
        "fp16 ends at 65,504, below the largest product of fp8_e5m2 x fp8_e5m2, 3.288e+09: a single product becomes "
        "infinite; a wider exponent holds it"
    )


def test_a_float_accumulator_that_stops_growing():
    chunks = 'mac = { accumulator = "bf16", chunk = 512 }'
    ((key, message),) = said(numerics(f'format = "bf16"\n{chunks}'))
    assert key == "arithmetic.mac.accumulator"
    assert message.startswith(
        "bf16 stops growing after 256 equal products, and a chunk has 512: chunks of at most 256"
    )


@pytest.mark.parametrize("accumulator", ["bf16", "fp16"])
def test_a_float_accumulator_stops_growing_where_the_emulator_says(accumulator):
    fmt = lb.parse_format(accumulator)
    assert isinstance(fmt, FloatFormat)
    limit = 2 ** (fmt.mantissa_bits + 1)
    ones = torch.ones(1, limit + 8)
    total = run_float_gemm(ones, ones.t().contiguous(), lb.FloatMacUnit(accumulator=fmt)).values
    assert total.item() == limit


@pytest.mark.parametrize(
    "more", ['rounding = { mode = "stochastic", random_bits = 8 }', "kahan = true", 'order = "tree"']
)
def test_what_keeps_a_float_accumulator_growing(more):
    text = f'format = "bf16"\nmac = {{ accumulator = "bf16", chunk = 512, {more} }}'
    assert [key for key, _ in said(numerics(text)) if key != "vector.random_bits_per_cycle"] == []


def test_random_bits_that_nobody_draws():
    remarks = list(check_numerics(example(BARE)))
    assert [r.location for r in remarks] == [("vector", "random_bits_per_cycle")]
    assert remarks[0].message.startswith("has no effect: nothing in [arithmetic] rounds stochastically")


def test_stochastic_rounding_without_a_unit_for_random_bits():
    (remark,) = check_numerics(example(NO_UNIT))
    assert remark.location == ("vector", "random_bits_per_cycle")
    assert remark.message.startswith(
        "0 although [arithmetic] rounds stochastically: the vector unit computes the random bits, in 6 operations"
    )
    given = ("#operations_per_random_word = 6", "operations_per_random_word = 6")
    assert list(check_numerics(example(NO_UNIT, given))) == []


def test_more_random_bits_than_the_unit_draws():
    # 16 lanes quantise 16 / 3 elements a cycle, of 8 random bits each.
    profile = example(("\nrandom_bits_per_cycle = 128", "\nrandom_bits_per_cycle = 42"))
    assert random_bits_asked(profile) == pytest.approx(16 / 3 * 8)
    (remark,) = check_numerics(profile)
    assert remark.message == (
        "the unit draws 42 random bits a cycle, but rounding at the vector unit's and the array's full rate asks for "
        "42.67: 42.67 would keep up"
    )
    assert (
        list(check_numerics(example(("\nrandom_bits_per_cycle = 128", "\nrandom_bits_per_cycle = 43")))) == []
    )


def test_stochastic_accumulators_ask_for_bits_of_every_addition():
    mac = 'mac = { accumulator = "fp16", rounding = { mode = "stochastic", random_bits = 10 } }'
    profile = example(BARE, numerics(f'format = "fp8_e4m3fn"\n{mac}'))
    assert random_bits_asked(profile) == 256 * 10


def test_a_requantiser_of_float_sums_has_no_effect():
    mac = 'mac = { accumulator = "fp32" }\nrequantizer = "integer_double"'
    assert ("arithmetic.requantizer" in dict(said(numerics(f'format = "int8"\n{mac}')))) is True
    assert said(numerics('format = "int8"\nrequantizer = "integer_double"')) == []
