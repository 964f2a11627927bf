"""Which mode an operand runs in, and what the machine refuses."""

import pytest

from hw_models import UnsupportedOperandError
from hw_models.operands import gemm_modes
from tests.hw_models.machines import gemm, tiny

FLOAT_MODE = (
    "[vector]",
    """[[array.modes]]
source = "assumption: round numbers"
operand_bits = 32
kind = "float"
macs_per_pe_per_cycle = 1
multiply_pj = 3.7
add_pj = 0.9

[vector]""",
)


@pytest.mark.parametrize(
    ("lhs", "rhs", "bits"),
    [
        ("int8", "int8", (8, 8, 8)),
        ("int4", "int8", (4, 8, 8)),
        ("uint3", "int2", (4, 4, 4)),
        ("int5", "int4", (8, 4, 8)),
    ],
)
def test_an_operand_runs_in_the_next_wider_mode_and_the_wider_operand_decides(lhs, rhs, bits):
    modes = gemm_modes(gemm(lhs=lhs, rhs=rhs), tiny())
    assert modes is not None
    assert tuple(m.operand_bits for m in modes) == bits


def test_an_operand_wider_than_the_machine_is_refused():
    with pytest.raises(UnsupportedOperandError) as error:
        gemm_modes(gemm(rhs="int16", layer="block.0", role="grad_input"), tiny())
    assert str(error.value) == (
        "layer 'block.0', role grad_input: rhs is int16 (16 bits), but tiny multiplies integers of at most "
        "8 bits (modes: 4, 8)"
    )


@pytest.mark.parametrize(("lhs", "rhs"), [("fp32", "fp32"), ("fp8", "fp8"), ("bf16", "fp32")])
def test_floats_run_in_no_mode_of_an_integer_array(lhs, rhs):
    assert gemm_modes(gemm(lhs=lhs, rhs=rhs), tiny()) is None


def test_floats_of_which_one_fits_no_float_mode_run_in_none():
    narrow = (FLOAT_MODE[0], FLOAT_MODE[1].replace("operand_bits = 32", "operand_bits = 16"))
    assert gemm_modes(gemm(lhs="fp16", rhs="fp32"), tiny(narrow)) is None
    assert gemm_modes(gemm(lhs="fp16", rhs="bf16"), tiny(narrow)) is not None


def test_a_float_wider_than_the_vector_unit_is_refused():
    with pytest.raises(UnsupportedOperandError) as error:
        gemm_modes(gemm(lhs="fp32", rhs="fp64", layer="head"), tiny())
    assert str(error.value) == (
        "layer 'head', role output: rhs is fp64 (64 bits), but tiny multiplies floats of at most 32 bits"
    )


def test_native_float32_runs_in_a_float_mode():
    modes = gemm_modes(gemm(lhs="fp32", rhs="fp32"), tiny(FLOAT_MODE))
    assert modes is not None
    assert {(m.kind, m.operand_bits) for m in modes} == {("float", 32)}


def test_an_integer_does_not_run_on_a_float_mode():
    with pytest.raises(UnsupportedOperandError, match="lhs is int16 .* integers of at most 8 bits"):
        gemm_modes(gemm(lhs="int16"), tiny(FLOAT_MODE))


@pytest.mark.parametrize("changes", [(), (FLOAT_MODE,)])
def test_a_float_and_an_integer_are_refused(changes):
    with pytest.raises(UnsupportedOperandError) as error:
        gemm_modes(gemm(lhs="fp32"), tiny(*changes))
    assert str(error.value) == (
        "layer 'fc', role output: lhs is fp32 and rhs is int8, but tiny multiplies two integers or two floats"
    )
