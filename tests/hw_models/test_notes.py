"""What a report remarks: every difference once, and nothing where there is none."""

from dataclasses import replace

import pytest

import hw_models
from lowbit_sim.trace import ConvGeometry, VectorEvent, WorkloadTrace
from tests.hw_models.machines import FLOAT_MODE, gemm, tiny
from tests.hw_models.test_operands import LOG_MODE, NARROW_FLOAT


def notes(*events, machine=None) -> tuple[str, ...]:
    return hw_models.estimate(WorkloadTrace(list(events)), machine or tiny()).notes


def test_numerics_that_match_the_machine_leave_no_note():
    events = [gemm(), gemm(lhs="int4", rhs="int8", role="grad_input"), gemm(lhs="int4", role="grad_weight")]
    assert notes(*events) == ()


def test_numerics_that_differ_are_noted_once():
    event = gemm(lhs="int2", rhs="int8", accumulator_bits=16, overflow="saturate", chunk=64)
    assert notes(event, event, gemm()) == (
        "output: input ran as int2; the machine has int8",
        "output: ran with a 16-bit saturating accumulator in chunks of 64 into 32 bits; the machine has a 32-bit "
        "wrapping accumulator",
        "2-bit operands run and are stored in 4 bits: the machine has no narrower mode",
    )


def test_one_sum_passed_to_an_outer_accumulator_is_not_called_a_chunk():
    assert notes(gemm(accumulator_bits=16, outer_bits=24)) == (
        "output: ran with a 16-bit wrapping accumulator whose one sum passes to an outer accumulator of 24 bits; "
        "the machine has a 32-bit wrapping accumulator",
    )


def test_a_float_accumulator_is_compared_too():
    expected = (
        "output: ran with a 16-bit floating-point accumulator; the machine has a 32-bit wrapping accumulator"
    )
    assert notes(gemm(accumulator_bits=16, outer_bits=16, overflow="float")) == (
        expected,
        "output: sums in a 16-bit floating-point accumulator run in the 8-bit integer mode: their additions are "
        "priced as integer ones of that width",
    )


FLOATS = (
    ('format = "int8"\naccumulator_bits = 32\noverflow = "wrap"', 'format = "fp16"'),
    ('grad_input = { lhs = "int4" }\ngrad_weight = { lhs = "int4" }\n', ""),
)


def test_a_machine_of_floats():
    machine = tiny(FLOAT_MODE, *FLOATS)
    own = {"lhs": "fp16", "rhs": "fp16", "overflow": "float"}
    wide = "16-bit operands run and are stored in 32 bits: the machine has no narrower mode"
    assert notes(gemm(**own), machine=machine) == (wide,)
    assert notes(gemm(**own, chunk=64), machine=machine) == (
        "output: ran with a 32-bit floating-point accumulator in chunks of 64 into 32 bits; the machine has a "
        "32-bit floating-point accumulator",
        wide,
    )


def test_other_roles_than_a_layers_gemms_have_no_numerics_of_the_machine():
    assert notes(gemm(lhs="int4", role="overhead")) == ()


@pytest.mark.parametrize(
    ("changes", "operands", "note"),
    [
        ((), {"lhs": "fp32", "rhs": "fp32"},
         "native float GEMMs run on the vector unit: the array has no float mode"),
        ((), {"lhs": "bf16", "rhs": "fp8_e4m3"},
         "GEMMs of bf16 and fp8_e4m3 run on the vector unit: the array has no float mode"),
        ((NARROW_FLOAT,), {"lhs": "fp32", "rhs": "fp32"},
         "native float GEMMs run on the vector unit: the array has no float mode of 32 bits or more"),
        ((), {"lhs": "log4_radix4", "rhs": "int4"},
         "GEMMs of log4_radix4 and int4 run on the vector unit: the array has no log mode and no float mode that "
         "holds them exactly"),
        ((), {"lhs": "fp16", "rhs": "int4"},
         "GEMMs of fp16 and int4 run on the vector unit: the array has no float mode that holds them exactly"),
        ((FLOAT_MODE,), {"lhs": "log4_radix4", "rhs": "int4"},
         "powers of two (log4_radix4) run in the 32-bit float mode"),
        ((FLOAT_MODE,), {"lhs": "log4_radix4", "rhs": "int4"}, "integers (int4) run in the 32-bit float mode"),
    ],
)  # fmt: skip
def test_where_a_gemm_does_not_run_in_a_mode_of_its_kind(changes, operands, note):
    assert note in notes(gemm(**operands, overflow="float"), machine=tiny(*changes))


def test_integers_are_at_home_in_a_log_mode():
    found = notes(gemm(lhs="log4_radix4", rhs="int4", overflow="float"), machine=tiny(LOG_MODE))
    assert not any("run in" in note for note in found)


STRIDED = ConvGeometry(
    batch=1, in_channels=4, in_height=8, in_width=8, out_channels=4, out_height=4, out_width=4,
    kernel_height=2, kernel_width=2, stride=(2, 2), dilation=(1, 1), groups=1,
)  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ((), "are multiplied too"),
        ((('dataflow = "ws"', 'dataflow = "ws"\nskips_zeros = true'),), "the array skips"),
    ],
)
def test_inserted_zeros_are_noted_either_way(changes, words):
    event = gemm(64, 4, 16, role="grad_input", lhs="int4", conv=STRIDED)
    [note] = notes(event, machine=tiny(*changes))
    assert words in note
    assert note.startswith("grad_input of strided convolutions: ")


def test_windows_that_are_quantised_one_by_one_are_noted():
    passed = VectorEvent(kind="quantize", elements=90, read_bytes=360, write_bytes=90)
    assert notes(passed) == ()
    [note] = notes(passed, replace(passed, copies=80), replace(passed, elements=9, copies=8))
    assert note.startswith("overlapping windows of convolutions are quantised one by one")


def test_an_unknown_overflow_is_named():
    with pytest.raises(
        ValueError, match="layer 'fc', role output: unknown accumulator overflow 'wrp'"
    ) as error:
        notes(gemm(overflow="wrp"))
    assert str(error.value).endswith(
        "known are float, saturate, saturate_symmetric, wrap; did you mean 'wrap'?"
    )
