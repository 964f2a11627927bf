"""Formats that no mode of the array multiplies."""

from hw_models.checks.modes import check_modes
from tests.hw_models.example import example


def said(*changes: tuple[str, str]) -> list[tuple[str, str, str]]:
    remarks = check_modes(example(*changes))
    return [(r.severity, ".".join(map(str, r.location)), r.message) for r in remarks]


def test_formats_that_the_array_multiplies():
    assert said() == []


def test_a_format_without_a_mode_of_its_width_is_told_once():
    ((severity, key, message),) = said(('format = "int8"', 'format = "int4"'))
    assert (severity, key) == ("warning", "arithmetic.format")
    assert message == (
        "int4 has no mode of its 4 bits: it is stored and multiplied in 8 bits; the array's modes are integer 8 "
        "bits: add an [[array.modes]] of 4 bits if the machine has one, or choose a format of 8 bits"
    )


def test_a_float_accumulator_of_an_integer_mode():
    ((severity, key, message),) = said(('#mac = { accumulator = "fp32" }', 'mac = { accumulator = "fp32" }'))
    assert (severity, key) == ("warning", "arithmetic.mac.accumulator")
    assert message.startswith(
        "a 32-bit floating-point accumulator adds up the products of the 8-bit integer mode, whose adder is an "
        "integer one, and is priced as such: give an integer accumulator (accumulator_bits), or "
    )


def test_an_integer_wider_than_every_mode_is_an_error_for_each_gemm():
    found = said(('format = "int8"', 'format = "int12"'))
    assert [(severity, key) for severity, key, _ in found] == [("error", "arithmetic.format")] * 3
    assert found[0][2] == (
        "the array multiplies no int12 x int12 (output); its modes are integer 8 bits: add an [[array.modes]] that "
        "holds both operands, or choose another format"
    )


def test_the_table_of_one_gemm_is_named():
    ((severity, key, _),) = said(('format = "int8"', 'format = "int8"\ngrad_weight = { lhs = "int16" }'))
    assert (severity, key) == ("error", "arithmetic.grad_weight")


def test_floats_without_a_mode_run_on_the_vector_unit():
    found = said(('format = "int8"', 'format = "bf16"'))
    assert {severity for severity, _, _ in found} == {"warning"}
    assert found[0][2].startswith(
        "no mode of the array holds bf16 x bf16 (output), so that it runs on the vector unit, at 16 multiply-"
    )


def test_a_native_gemm_is_a_choice():
    assert said(('format = "int8"', 'format = "int8"\ngrad_input = { native = true }')) == []
