"""Keys that change nothing."""

import pytest

from hw_models.checks.effects import check_effects
from tests.hw_models.example import example, example_text


def said(*changes: tuple[str, str]) -> dict[str, str]:
    return {".".join(map(str, r.location)): r.message for r in check_effects(example(*changes))}


def test_keys_with_effect():
    assert said() == {}
    assert said(("#padded_loads = false", "padded_loads = true")) == {}
    assert said(('#loading = "exposed"', 'loading = "hidden"')) == {}


def test_operations_for_random_bits_beside_a_unit():
    given = ("#operations_per_random_word = 6", "operations_per_random_word = 6")
    assert said(given)["vector.operations_per_random_word"] == (
        "has no effect: random_bits_per_cycle = 128 says that a unit of its own draws random bits; leave one of the "
        "two out"
    )
    assert said(given, ("\nrandom_bits_per_cycle = 128", "\nrandom_bits_per_cycle = 0")) == {}


def test_codes_as_wide_as_the_sums():
    assert said(("#result_bits = 8", "result_bits = 8")) == {}
    assert said(("#result_bits = 8", "result_bits = 32")) == {
        "arithmetic.result_bits": "has no effect: the sums of the output GEMM have 32 bits; give the width of a "
        "code, or leave it out"
    }


@pytest.mark.parametrize("bits", [4, 16])
def test_codes_of_another_width_than_the_next_operand(bits):
    assert said(("#result_bits = 8", f"result_bits = {bits}")) == {
        "arithmetic.result_bits": f"codes of {bits} bits, where the output GEMM reads 8: each result is converted "
        "by a pass of its own before the next GEMM; give 8"
    }


def test_codes_are_compared_with_what_the_memories_hold():
    """A machine without a mode of 4 bits holds operands of 4 bits in 8."""
    assert said(('format = "int8"', 'format = "int4"'), ("#result_bits = 8", "result_bits = 8")) == {}


@pytest.mark.parametrize("dataflow", ["rs", "spatial"])
def test_loading_of_a_dataflow_that_shows_none(dataflow):
    changes = (
        ('dataflow = "ws"', f'dataflow = "{dataflow}"'),
        ('#loading = "exposed"', 'loading = "exposed"'),
    )
    assert (
        said(*changes)["array.loading"]
        == f"has no effect: dataflow = '{dataflow}' shows no loading; leave it out"
    )


@pytest.mark.parametrize("dataflow", ["os", "rs", "spatial"])
def test_padded_loads_without_an_operand_that_stays(dataflow):
    changes = (
        ('dataflow = "ws"', f'dataflow = "{dataflow}"'),
        ("#padded_loads = false", "padded_loads = true"),
    )
    assert said(*changes)["array.padded_loads"].startswith(
        f"has no effect: dataflow = '{dataflow}' loads no operand"
    )


@pytest.mark.parametrize("side", ["rows", "columns"])
def test_a_depthwise_mode_of_an_array_with_one_row_or_column(side):
    changes = (
        ('dataflow = "ws"', 'dataflow = "spatial"'),
        ("#depthwise_over_columns = false", "depthwise_over_columns = true"),
    )
    assert "array.depthwise_over_columns" not in said(*changes)
    assert said(*changes, (f"\n{side} = 16", f"\n{side} = 1"))["array.depthwise_over_columns"] == (
        f"has no effect: with {side} = 1 no two groups lie side by side; leave it out"
    )


@pytest.mark.parametrize(
    ("keys", "remarks"),
    [
        ("accumulator_bits = 32\nouter_bits = 32", 1),
        ("accumulator_bits = 24\nouter_bits = 32", 0),
        ("accumulator_bits = 32\nouter_bits = 32\nchunk = 64", 0),
    ],
    ids=["same", "wider", "chunks"],
)
def test_an_outer_accumulator_that_takes_one_sum_as_it_is(keys, remarks):
    found = said(('format = "int8"', f'format = "int8"\n{keys}'))
    assert len(found) == remarks
    if remarks:
        assert found["arithmetic.outer_bits"].startswith(
            "has no effect: without a chunk the one sum of 32 bits"
        )


@pytest.mark.parametrize(
    ("keys", "key"),
    [
        ("outer_bits = 32", "arithmetic.outer_bits"),
        ("mac = { accumulator_bits = 24, outer_bits = 24 }", "arithmetic.mac.outer_bits"),
        (
            "grad_weight = { mac = { accumulator_bits = 24, outer_bits = 24 } }",
            "arithmetic.grad_weight.mac.outer_bits",
        ),
    ],
    ids=["beside the usual accumulator", "in a table", "of one GEMM"],
)
def test_an_outer_accumulator_without_effect_is_told_once_where_it_stands(keys, key):
    assert list(said(('format = "int8"', f'format = "int8"\n{keys}'))) == [key]


@pytest.mark.parametrize(("links", "remarks"), [(2, 0), (4, 1)])
def test_more_links_than_a_ring_has(links, remarks):
    lines = example_text().partition("#[interconnect]")[2]
    table = f"[interconnect]{lines}".replace("\n#", "\n").replace("\n ", "\n# ")
    table = table.replace("links_per_device = 2", f"links_per_device = {links}")
    assert len(said(("#[interconnect]" + lines, table))) == remarks
