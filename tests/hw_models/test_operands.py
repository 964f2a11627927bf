"""Which mode an operand runs in, and what the machine refuses."""

import pytest

from hw_models import UnsupportedOperandError
from hw_models.operands import gemm_modes, operand_kind
from lowbit_sim.numerics.catalog import CATALOG
from tests.hw_models.machines import FLOAT_MODE, gemm, tiny

NARROW_FLOAT = (FLOAT_MODE[0], FLOAT_MODE[1].replace("operand_bits = 32", "operand_bits = 16"))
LOG_MODE = (
    "[vector]",
    FLOAT_MODE[1].replace("operand_bits = 32", "operand_bits = 4").replace('"float"', '"log"'),
)


def modes(*changes, **operands) -> list[tuple[str, int]] | None:
    found = gemm_modes(gemm(**operands), tiny(*changes))
    return None if found is None else [(m.kind, m.operand_bits) for m in found]


@pytest.mark.parametrize(
    ("lhs", "rhs", "bits"),
    [
        ("int8", "int8", (8, 8, 8)),
        ("int4", "int8", (4, 8, 8)),
        ("uint3", "int2", (4, 4, 4)),
        ("int5", "int4", (8, 4, 8)),
        ("mxint8", "fixed<4,2>", (8, 4, 8)),
    ],
)
def test_an_operand_runs_in_the_next_wider_mode_and_the_wider_operand_decides(lhs, rhs, bits):
    assert modes(lhs=lhs, rhs=rhs) == [("integer", b) for b in bits]


def test_an_operand_wider_than_the_machine_is_refused():
    with pytest.raises(UnsupportedOperandError) as error:
        gemm_modes(gemm(rhs="int16", layer="block.0", role="grad_input"), tiny())
    assert str(error.value) == (
        "layer 'block.0', role grad_input: rhs is int16 (16 bits), but tiny multiplies integers of at most "
        "8 bits (modes: 4, 8)"
    )


@pytest.mark.parametrize(
    ("lhs", "rhs"), [("fp32", "fp32"), ("fp8", "fp8"), ("bf16", "fp32"), ("nvfp4", "posit8")]
)
def test_floats_run_in_no_mode_of_an_integer_array(lhs, rhs):
    assert modes(lhs=lhs, rhs=rhs) is None


def test_floats_of_which_one_fits_no_float_mode_run_in_none():
    assert modes(NARROW_FLOAT, lhs="fp16", rhs="fp32") is None
    assert modes(NARROW_FLOAT, lhs="fp16", rhs="bf16") == [("float", 16)] * 3


def test_a_float_wider_than_the_vector_unit_is_refused():
    with pytest.raises(UnsupportedOperandError) as error:
        gemm_modes(gemm(lhs="fp32", rhs="fp64", layer="head"), tiny())
    assert str(error.value) == (
        "layer 'head', role output: rhs is fp64 (64 bits), but tiny multiplies floats of at most 32 bits"
    )


def test_native_float32_runs_in_a_float_mode():
    assert modes(FLOAT_MODE, lhs="fp32", rhs="fp32") == [("float", 32)] * 3


def test_two_integers_do_not_run_on_a_float_mode():
    with pytest.raises(UnsupportedOperandError, match="lhs is int16 .* integers of at most 8 bits"):
        modes(FLOAT_MODE, lhs="int16")


def test_a_machine_of_floats_has_no_integers():
    start = '[[array.modes]]\nsource = "assumption: round numbers"\noperand_bits = 8\nmacs_per_pe_per_cycle = 1\n\n'
    other = start.replace("= 8", "= 4").replace("= 1", "= 2")
    with pytest.raises(UnsupportedOperandError, match="multiplies no integers$"):
        modes((start, ""), (other, ""), FLOAT_MODE)


@pytest.mark.parametrize(
    ("changes", "lhs", "rhs", "expected"),
    [
        ((), "fp32", "int8", None),
        ((FLOAT_MODE,), "fp32", "int8", [("float", 32), ("integer", 8), ("float", 32)]),
        # An int8 has 7 bits of magnitude: half of a mode's width or less.
        ((NARROW_FLOAT,), "bf16", "int8", [("float", 16), ("integer", 8), ("float", 16)]),
        ((NARROW_FLOAT,), "bf16", "int9", None),
    ],
)
def test_an_integer_with_a_float_runs_where_both_are_exact(changes, lhs, rhs, expected):
    assert modes(*changes, lhs=lhs, rhs=rhs) == expected


@pytest.mark.parametrize(
    ("changes", "lhs", "rhs", "expected"),
    [
        ((LOG_MODE,), "log4_radix4", "int4", [("log", 4), ("integer", 4), ("log", 4)]),
        ((LOG_MODE,), "log4_radix2", "log4_radix2", [("log", 4)] * 3),
        ((NARROW_FLOAT,), "log4_radix4", "int4", [("float", 16), ("integer", 4), ("float", 16)]),
        ((LOG_MODE, NARROW_FLOAT), "log4_radix4", "int8", [("log", 4), ("integer", 8), ("float", 16)]),
        ((LOG_MODE,), "log4_radix4", "int8", None),
        ((), "log4_radix4", "int4", None),
    ],
)
def test_a_power_of_two_runs_in_a_log_mode_then_as_a_float(changes, lhs, rhs, expected):
    assert modes(*changes, lhs=lhs, rhs=rhs) == expected


def test_every_named_format_has_a_kind():
    kinds = {name: operand_kind(name) for name in CATALOG}
    assert kinds["mxint8"] == kinds["uint7"] == "integer"
    assert kinds["e8m0"] == kinds["log4_radix2"] == "log"
    assert kinds["nvfp4"] == kinds["posit16"] == kinds["tf32"] == "float"
    assert set(kinds.values()) == {"integer", "log", "float"}


def test_formats_of_somebody_elses_trace():
    kinds = [operand_kind(name) for name in ("int8x", "fp12_mine", "luq4", "dorefa3")]
    assert kinds == ["integer", "float", "log", "float"]
