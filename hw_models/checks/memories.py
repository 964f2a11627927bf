"""Memories that can't hold a tile of the array or feed it, and energies in the wrong order.

What the array asks of the memories in a cycle is taken from a GEMM that fills it: see `large_gemm`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise

from hw_models.array_gemms import ArrayGemm, array_gemms, own_gemms
from hw_models.checks.remark import Remark, in_words
from hw_models.compute.dispatch import array_work
from hw_models.compute.work import ArrayWork
from hw_models.large_gemm import in_words as gemm_in_words
from hw_models.large_gemm import large_gemm
from hw_models.mapping.access_energy import access_pj_per_bit
from hw_models.mapping.search import MappingError, best_mapping
from hw_models.profile import HardwareProfile
from hw_models.schema.memory import OPERANDS, OnChip
from lowbit_sim.trace import GemmEvent

#: Share of the peak from which on a memory is said to keep up.
NEAR_PEAK = 0.95


def check_memories(profile: HardwareProfile) -> Iterator[Remark]:
    """Inconsistencies between the array and the memories."""
    for gemm in own_gemms(profile):
        event = large_gemm(gemm.event, profile)
        tiles = list(_tiles(profile, event, array_work(event, profile.array, gemm.mode), gemm))
        yield from tiles
        if not tiles:
            yield from _balance(profile, event, gemm)
    yield from _feeding(profile)
    yield from _unheld(profile)
    yield from _levels(profile)


def _bits(event: GemmEvent, gemm: ArrayGemm) -> dict[str, int]:
    """Bits of an element of each operand as the memories hold it."""
    return {"lhs": gemm.lhs_bits, "rhs": gemm.rhs_bits, "result": event.outer_bits}


def smallest_tile(work: ArrayWork) -> dict[str, int]:
    """Elements of each operand in one step of one fold."""
    steps = {"M": 1, "N": 1, "K": 1}
    steps |= {work.row_dimension: work.row_step, work.column_dimension: work.column_step}
    m, n, k = steps["M"], steps["N"], steps["K"]
    return {"lhs": m * k, "rhs": k * n, "result": m * n}


def _tiles(profile: HardwareProfile, event: GemmEvent, work: ArrayWork, gemm: ArrayGemm) -> Iterator[Remark]:
    tile, bits = smallest_tile(work), _bits(event, gemm)
    for name, level in profile.memory.levels.items():
        needed = sum(-(-tile[operand] * bits[operand] // 8) for operand in level.holds)
        halves = 2 if level.double_buffered else 1
        if needed * halves > level.capacity_bytes:
            part = "half of it, as the other half fills," if level.double_buffered else "it"
            yield Remark(
                location=("memory", name, "capacity_bytes"),
                severity="error",
                message=f"{in_words(level.capacity_bytes)} bytes: {part} is smaller than one tile of the array, "
                f"{in_words(needed)} bytes of {' and '.join(level.holds)} in {gemm.event.role}: give it "
                f"{in_words(needed * halves)} or more",
            )


def fed_bytes_per_cycle(
    event: GemmEvent, work: ArrayWork, gemm: ArrayGemm, profile: HardwareProfile
) -> dict[str, float]:
    """Bytes of each operand that the array moves in a cycle while it runs at its own pace."""
    bits = _bits(event, gemm)
    moved = {
        "lhs": work.lhs_reads,
        "rhs": work.rhs_reads,
        "result": work.result_writes + work.partial_reads,
    }
    cycles = max(work.cycles(arrays=profile.array.arrays), 1)
    return {operand: work.count * moved[operand] * bits[operand] / 8 / cycles for operand in OPERANDS}


def _feeding(profile: HardwareProfile) -> Iterator[Remark]:
    """Levels that can't keep up with the array, each in the mode that asks for most."""
    worst: dict[str, tuple[float, Remark]] = {}
    for gemm in array_gemms(profile):
        for name, total, remark in _starving(profile, gemm):
            if total > worst.get(name, (0.0, remark))[0]:
                worst[name] = (total, remark)
    yield from (remark for _, remark in worst.values())


def _starving(profile: HardwareProfile, gemm: ArrayGemm) -> Iterator[tuple[str, float, Remark]]:
    """The levels that can't keep up with a GEMM, with the bytes that it asks for in a cycle."""
    event = large_gemm(gemm.event, profile)
    asked = fed_bytes_per_cycle(event, array_work(event, profile.array, gemm.mode), gemm, profile)
    served: set[str] = set()
    for name, level in profile.memory.levels.items():
        mine = [operand for operand in level.holds if operand not in served]
        served |= set(mine)
        total = sum(asked[operand] for operand in mine)
        has = level.bandwidth_bytes_per_cycle
        if has < NEAR_PEAK * total:
            message = (
                f"{in_words(has)} bytes a cycle can't feed the array: it moves {in_words(total)} of "
                f"{' and '.join(mine)} a cycle in {event.role} ({gemm.words}), so it stands still "
                f"{100 * (1 - has / total):.0f} % of the time; {in_words(math.ceil(total))} would feed it"
            )
            yield name, total, Remark(location=("memory", name, "bandwidth_bytes_per_cycle"), message=message)


def _balance(profile: HardwareProfile, event: GemmEvent, gemm: ArrayGemm) -> Iterator[Remark]:
    """Whether the GEMM that reuses most is bound by a memory outside the innermost stage."""
    try:
        mapping = best_mapping(event, profile, lhs_bits=gemm.lhs_bits, rhs_bits=gemm.rhs_bits, mode=gemm.mode)
    except MappingError as error:
        message = (
            f"{error} ({gemm.event.role}, {gemm.words}): make the outer levels larger or the array smaller"
        )
        yield Remark(location=("memory",), severity="error", message=message)
        return
    bound = mapping.bound_by
    outside = {"dram", *profile.memory.levels} - set(profile.memory.stages[0])
    if bound not in outside:  # the innermost stage's bandwidth is another check's
        return
    share = mapping.compute_cycles / mapping.cycles
    if share >= NEAR_PEAK:
        return
    if bound == "dram":
        moved = mapping.traffic.dram_bytes / mapping.compute_cycles
        has = profile.memory.dram.bandwidth_bytes_per_second / profile.clock.frequency_hz
        location = ("memory", "dram", "bandwidth_bytes_per_second")
        right = (
            f"{in_words(moved * profile.clock.frequency_hz)} bytes a second, or larger memories on the chip,"
        )
    else:
        moved = mapping.traffic.bits(bound) / 8 / mapping.compute_cycles
        has = profile.memory.levels[bound].bandwidth_bytes_per_cycle
        location = ("memory", bound, "bandwidth_bytes_per_cycle")
        right = f"{in_words(moved)} bytes a cycle, or a larger memory inside it,"
    yield Remark(
        location=location,
        message=f"even {gemm.event.role} of a {gemm_in_words(profile)} ({gemm.words}) moves {in_words(moved)} bytes "
        f"a cycle, and {bound} {in_words(has)}: at most {100 * share:.0f} % of the peak can be reached; {right} "
        "would feed the array",
    )


def _unheld(profile: HardwareProfile) -> Iterator[Remark]:
    held = {operand for level in profile.memory.levels.values() for operand in level.holds}
    for operand in OPERANDS:
        if operand not in held:
            yield Remark(
                location=("memory",),
                message=f"no level holds {operand}: the array's every access of it goes to the dram; name {operand} "
                "in the `holds` of a level",
            )


def _energies(level: OnChip) -> tuple[float, float]:
    """Nominal pJ to read and to write a bit at the level's word."""
    return access_pj_per_bit(level, write=False)[1], access_pj_per_bit(level, write=True)[1]


def _levels(profile: HardwareProfile) -> Iterator[Remark]:
    levels, dram = profile.memory.levels, profile.memory.dram
    for name, level in levels.items():
        if 8 * level.bandwidth_bytes_per_cycle % level.banks:
            yield Remark(
                location=("memory", name, "banks"),
                message=f"{level.bandwidth_bytes_per_cycle} bytes a cycle don't divide among {level.banks} banks: "
                f"the word of a bank is counted as {level.word_bits} bits",
            )
        outside = dram.read_pj_per_bit.nominal, dram.write_pj_per_bit.nominal
        for what, own, theirs in zip(("read", "write"), _energies(level), outside, strict=True):
            if own > theirs:
                yield Remark(
                    location=("memory", name, "accesses"),
                    message=f"a {what} takes {own:.3g} pJ a bit here and {theirs:.3g} in the dram: a memory on "
                    "the chip takes less; are the figures of one access, of so many `bits`?",
                )
    for inner, outer in pairwise(profile.memory.stages):
        small, large = (sum(levels[name].capacity_bytes for name in stage) for stage in (inner, outer))
        if large < small:
            lies, is_ = ("lies", "is") if len(outer) == 1 else ("lie", "are")
            yield Remark(
                location=("memory", outer[0], "capacity_bytes"),
                message=f"{' and '.join(outer)} ({in_words(large)} bytes) {lies} outside of {' and '.join(inner)} "
                f"({in_words(small)} bytes) and {is_} smaller: levels stand in the order from the array outwards",
            )
