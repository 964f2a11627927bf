"""Memories against the array: sizes of tiles and bytes a cycle, by hand."""

import pytest

from hw_models.array_gemms import own_gemms
from hw_models.checks.memories import check_memories, fed_bytes_per_cycle, smallest_tile
from hw_models.compute.dispatch import array_work
from hw_models.large_gemm import SIZE, large_gemm
from hw_models.mapping.search import MappingError, best_mapping
from tests.hw_models.example import example


def said(*changes: tuple[str, str]) -> dict[str, str]:
    return {".".join(map(str, r.location)): r.message for r in check_memories(example(*changes))}


def test_a_balanced_machine_gives_no_remark():
    assert said() == {}


@pytest.mark.parametrize(
    ("dataflow", "tile"),
    [
        ("ws", {"lhs": 16, "rhs": 256, "result": 16}),
        ("os", {"lhs": 16, "rhs": 16, "result": 256}),
        ("is", {"lhs": 256, "rhs": 16, "result": 16}),
    ],
)
def test_the_smallest_tile_fills_the_array_for_one_step(dataflow, tile):
    profile = example(('dataflow = "ws"', f'dataflow = "{dataflow}"'))
    (gemm,) = own_gemms(profile)
    assert smallest_tile(array_work(large_gemm(gemm.event, profile), profile.array, gemm.mode)) == tile


def test_a_level_smaller_than_a_tile():
    # A tile of weights and inputs is 256 + 16 bytes; the other half holds the next one.
    found = said(("capacity_bytes = 262_144", "capacity_bytes = 543"))
    assert found["memory.sram.capacity_bytes"] == (
        "543 bytes: half of it, as the other half fills, is smaller than one tile of the array, 272 bytes of lhs and "
        "rhs in output: give it 544 or more"
    )


@pytest.mark.parametrize(("size", "fits"), [(544, True), (543, False)])
def test_the_tile_is_the_one_that_the_mapping_needs(size, fits):
    profile = example(("capacity_bytes = 262_144", f"capacity_bytes = {size}"))
    (gemm,) = own_gemms(profile)
    event = large_gemm(gemm.event, profile)
    bits = {"lhs_bits": gemm.lhs_bits, "rhs_bits": gemm.rhs_bits}
    assert (
        "memory.sram.capacity_bytes" not in said(("capacity_bytes = 262_144", f"capacity_bytes = {size}"))
    ) == fits
    if fits:
        assert best_mapping(event, profile, mode=gemm.mode, **bits).evaluated > 0
    else:
        with pytest.raises(MappingError):
            best_mapping(event, profile, mode=gemm.mode, **bits)


def test_without_halves_the_whole_level_holds_the_tile():
    whole = ("#double_buffered = true", "double_buffered = false")
    assert "memory.sram.capacity_bytes" not in said(
        ("capacity_bytes = 262_144", "capacity_bytes = 543"), whole
    )
    found = said(("capacity_bytes = 262_144", "capacity_bytes = 271"), whole)
    assert found["memory.sram.capacity_bytes"].startswith("271 bytes: it is smaller than one tile")


def test_bytes_of_a_cycle_in_a_large_gemm():
    """Weights stay: a fold of 16 x 16 weights takes M + 2R + C - 2 cycles for M rows of 16 inputs and 16 sums."""
    profile = example()
    (gemm,) = own_gemms(profile)
    event = large_gemm(gemm.event, profile)
    asked = fed_bytes_per_cycle(event, array_work(event, profile.array, gemm.mode), gemm, profile)
    fold = SIZE + 2 * 16 + 16 - 2
    folds = (SIZE // 16) ** 2
    assert asked["lhs"] == pytest.approx(16 * SIZE / fold)
    assert asked["rhs"] == pytest.approx(256 / fold)
    # Sums of 4 bytes are written for every one of the 256 folds of the reduction, and read for all but the first.
    writes = reads = 4 * 16 * SIZE / fold
    assert asked["result"] == pytest.approx(writes + reads * (SIZE // 16 - 1) / (SIZE // 16))
    assert folds == 65_536


def test_bandwidth_that_cant_feed_the_array():
    found = said(("bandwidth_bytes_per_cycle = 128\n# Operands", "bandwidth_bytes_per_cycle = 8\n# Operands"))
    message = found["memory.sram.bandwidth_bytes_per_cycle"]
    assert message.startswith("8 bytes a cycle can't feed the array: it moves 15.")
    assert (
        "of lhs and rhs a cycle in output (int8 x int8), so it stands still 50 % of the time; 16 would feed it"
        in message
    )


def test_a_dram_that_cant_feed_the_array():
    found = said(("bandwidth_bytes_per_second = 16_000_000_000", "bandwidth_bytes_per_second = 100_000_000"))
    message = found["memory.dram.bandwidth_bytes_per_second"]
    assert message.startswith(f"even output of a GEMM of {SIZE} x {SIZE} x {SIZE} (int8 x int8) moves ")
    assert "bytes a cycle, and dram 0.1: at most " in message
    assert "bytes a second, or larger memories on the chip, would feed the array" in message


def test_an_operand_that_no_level_holds():
    assert "no level holds rhs" in said(('holds = ["lhs", "rhs"]', 'holds = ["lhs"]'))["memory"]


def test_banks_that_dont_divide_the_bandwidth():
    found = said(("#banks = 1", "banks = 3"))
    assert found["memory.sram.banks"].startswith("128 bytes a cycle don't divide among 3 banks: ")


def test_a_memory_on_the_chip_that_takes_more_than_the_dram():
    found = said(("read_pj = 6.4", "read_pj = 640.0"), ("write_pj = 6.4", "write_pj = 641.0"))
    assert found["memory.sram.accesses"].startswith("a write takes 10 pJ a bit here and 8 in the dram")


def test_levels_in_the_wrong_order():
    outer = """
[memory.outer]
source = "assumption: for the test"
capacity_bytes = 4096
bandwidth_bytes_per_cycle = 512
holds = ["lhs", "rhs", "result"]
accesses = [{ bits = 64, read_pj = 7.0, write_pj = 7.0 }]

[memory.dram]
"""
    found = said(("\n[memory.dram]\n", outer))
    assert found["memory.outer.capacity_bytes"] == (
        "outer (4,096 bytes) lies outside of sram and accumulator (327,680 bytes) and is smaller: levels stand in "
        "the order from the array outwards"
    )


def test_the_mode_that_asks_for_most_is_told():
    mode = '[[array.modes]]\nsource = "assumption: for the test"\noperand_bits = 4\nmacs_per_pe_per_cycle = 32\n\n'
    found = said(("\n[[array.modes]]\n", f"\n{mode}[[array.modes]]\n"))
    message = found["memory.sram.bandwidth_bytes_per_cycle"]
    assert "a cycle in output (4-bit integer mode), so it stands still" in message
    assert message.startswith("128 bytes a cycle can't feed the array: it moves 25")


@pytest.mark.parametrize(("bandwidth", "told"), [(60, False), (58, True)])
def test_a_memory_that_keeps_up_to_a_few_percent_is_no_remark(bandwidth, told):
    """64 rows ask for 62.1 bytes a cycle, of which 60 are 96.6 % and 58 are 93.4 %."""
    change = (
        "bandwidth_bytes_per_cycle = 128\n# Operands",
        f"bandwidth_bytes_per_cycle = {bandwidth}\n# Operands",
    )
    found = said(change, ("\nrows = 16", "\nrows = 64"))
    assert ("memory.sram.bandwidth_bytes_per_cycle" in found) == told
