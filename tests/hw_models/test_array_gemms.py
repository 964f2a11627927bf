"""The GEMMs by which an array is looked at."""

from hw_models.array_gemms import array_gemms, own_gemms
from tests.hw_models.example import example

INT4 = '[[array.modes]]\nsource = "assumption: for the test"\noperand_bits = 4\nmacs_per_pe_per_cycle = 2\n\n'


def test_alike_gemms_are_one():
    (gemm,) = own_gemms(example())
    assert (gemm.event.role, gemm.words) == ("output", "int8 x int8")
    assert (gemm.lhs_bits, gemm.rhs_bits, gemm.mode.operand_bits) == (8, 8, 8)


def test_a_gemm_of_other_formats_is_another():
    found = own_gemms(example(('format = "int8"', 'format = "int8"\ngrad_weight = { lhs = "int4" }')))
    assert [(gemm.event.role, gemm.words) for gemm in found] == [
        ("output", "int8 x int8"),
        ("grad_weight", "int4 x int8"),
    ]


def test_what_the_array_does_not_run_is_left_out():
    assert list(own_gemms(example(('format = "int8"', 'format = "bf16"')))) == []
    assert list(own_gemms(example(('format = "int8"', 'format = "int16"')))) == []


def test_a_mode_that_no_own_gemm_runs_in_has_one_too():
    found = list(array_gemms(example(("\n[[array.modes]]\n", f"\n{INT4}[[array.modes]]\n"))))
    assert [(gemm.words, gemm.mode.operand_bits) for gemm in found] == [
        ("int8 x int8", 8),
        ("4-bit integer mode", 4),
    ]
    assert found[1].event.lhs.bits == found[1].lhs_bits == 4
