"""Levels of any name, in stages from the array outwards."""

import pytest

import hw_models
from tests.hw_models.example import example, example_text, line_of_text

LEVEL = """
[memory.{name}]
source = "assumption: for the test"
capacity_bytes = 4194304
bandwidth_bytes_per_cycle = 64
holds = {holds}
accesses = [{{ bits = 64, read_pj = 7.0, write_pj = 7.0 }}]
"""


def with_levels(*levels: tuple[str, str]) -> tuple[str, str]:
    tables = "".join(LEVEL.format(name=name, holds=holds) for name, holds in levels)
    return ("\n[memory.dram]\n", f"{tables}\n[memory.dram]\n")


def test_levels_that_hold_different_operands_share_a_stage():
    assert example().memory.stages == (("sram", "accumulator"),)


def test_a_level_that_holds_an_operand_again_begins_the_next_stage():
    profile = example(with_levels(("shared", '["lhs", "rhs", "result"]')))
    assert profile.memory.stages == (("sram", "accumulator"), ("shared",))
    assert list(profile.memory.levels) == ["sram", "accumulator", "shared"]


def test_the_dram_may_stand_anywhere():
    text = example_text()
    start, dram = text.index("# The memory outside."), text.index("# Energy of logic")
    table = text[start:dram]
    moved = text.replace(table, "").replace("# An on-chip memory.", f"{table}# An on-chip memory.", 1)
    assert hw_models.parse(moved, "mine.toml") == example()


def test_three_stages_are_refused():
    levels = (("second", '["lhs"]'), ("third", '["lhs"]'))
    text = example_text(with_levels(*levels))
    with pytest.raises(hw_models.ProfileError) as error:
        hw_models.parse(text, "mine.toml")
    assert str(error.value) == (
        f"mine.toml:{line_of_text(text, '[memory.third]')}: memory.third: between the array and the dram lie 1 to 2 "
        "stages of memories, got 3: sram + accumulator, then second, then third; levels that hold different operands "
        "share a stage"
    )


def test_no_level_is_refused():
    text = example_text()
    without = text[: text.index("# An on-chip memory.")] + text[text.index("# The memory outside.") :]
    with pytest.raises(hw_models.ProfileError, match="1 to 2 stages of memories, got 0"):
        hw_models.parse(without, "mine.toml")


@pytest.mark.parametrize("holds", ["[]", '["lhs", "lhs"]'], ids=["none", "twice"])
def test_a_level_holds_something_once(holds):
    with pytest.raises(
        hw_models.ProfileError, match="memory.sram.holds: names one or more of lhs, rhs, result"
    ):
        example(('holds = ["lhs", "rhs"]', f"holds = {holds}"))


@pytest.mark.parametrize(
    ("accesses", "message"),
    [
        ("[]", "accesses: is empty"),
        (
            "[{ bits = 64, read_pj = 1, write_pj = 1 }, { bits = 32, read_pj = 2, write_pj = 2 }]",
            "accesses have ascending widths, got 64 before 32 bits",
        ),
        (
            "[{ bits = 32, read_pj = 2, write_pj = 2 }, { bits = 64, read_pj = 1, write_pj = 2 }]",
            "a wider access takes no less: read_pj falls from 32 to 64 bits",
        ),
    ],
    ids=["empty", "descending", "cheaper"],
)
def test_accesses_ascend(accesses, message):
    text = example_text()
    start = text.index("# Energy of an access")
    table = text[start : text.index("# An on-chip memory.", start)]
    with pytest.raises(hw_models.ProfileError, match=message):
        hw_models.parse(
            text.replace(table, "", 1).replace(
                "\n[memory.sram]\n", f"\n[memory.sram]\naccesses = {accesses}\n"
            ),
            "mine.toml",
        )


@pytest.mark.parametrize(("banks", "bits"), [(1, 1024), (4, 256), (16, 64)])
def test_a_word_is_a_banks_share_of_the_bandwidth(banks, bits):
    assert example(("#banks = 1", f"banks = {banks}")).memory.levels["sram"].word_bits == bits
