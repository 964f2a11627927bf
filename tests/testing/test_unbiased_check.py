import math
import random

import pytest

from lowbit_sim.numerics.catalog import FP4_E2M1, parse_format
from lowbit_sim.numerics.reference import decode_value, encode_value
from lowbit_sim.numerics.rounding import Rounding
from lowbit_sim.testing import ContractError, check_unbiased


@pytest.mark.parametrize("bits", [1, 5, 8])
def test_the_carry_is_unbiased_and_what_resembles_it_is_not(bits):
    parts = 2**bits
    check_unbiased(lambda x, r: math.floor(x + r / parts), random_bits=bits)
    for wrong in ("+ r / (parts - 1)", "+ (r + 1) / parts", "+ max(r - 1, 0) / parts"):
        with pytest.raises(ContractError, match="is biased"):
            check_unbiased(
                eval(f"lambda x, r: math.floor(x {wrong})", {"math": math, "parts": parts}), random_bits=bits
            )


def test_an_unbiased_rule_need_not_be_the_carry():
    """The random integers in another order have the same mean."""
    check_unbiased(lambda x, r: math.floor(x + (255 - r) / 256), random_bits=8)


@pytest.mark.parametrize("name", ["fp4_e2m1", "fp8_e5m2", "int4", "fixed<8,6>", "log4_radix2"])
def test_the_definition_is_unbiased_in_every_kind_of_format(name):
    fmt, rounding = parse_format(name), Rounding("stochastic", random_bits=6)
    check_unbiased(
        lambda x, r: decode_value(encode_value(x, fmt, rounding, r), fmt), random_bits=6, format=fmt
    )


def test_a_function_that_draws_its_own_bits_is_judged_by_a_z_score():
    generator = random.Random(1)
    check_unbiased(lambda x: math.floor(x + generator.random()))
    with pytest.raises(ContractError, match="z = "):
        check_unbiased(lambda x: math.floor(x + 0.95 * generator.random()))
    with pytest.raises(ContractError, match="is biased"):
        check_unbiased(lambda x: math.ceil(x - 1e-9 + generator.random() * 1e-9))


def test_results_are_neighbours_of_the_input():
    with pytest.raises(ContractError, match="not next to its input"):
        check_unbiased(lambda x, r: math.floor(x) + (2 if r else 0), random_bits=2)
    with pytest.raises(ContractError, match="not next to its input"):
        check_unbiased(lambda x, r: math.floor(x) + 0.25, random_bits=2, format=FP4_E2M1)


@pytest.mark.parametrize("options", [{"random_bits": 0}, {"random_bits": 17}, {"samples": 1}])
def test_wrong_arguments(options):
    with pytest.raises(ValueError, match="random_bits is 1 to 16|at least 2 samples"):
        check_unbiased(round, **options)
