"""Vector work beside the array, on machines whose vector unit works while the array does (`overlaps_array`).

Overlap reaches over a group: one GEMM on the array, and the vector work of the same layer since the GEMM before it
(after the layer's last GEMM also what follows). A layer's work is that of consecutive events of its name; what other
layers do does not overlap with it. Both units and the memories are then busy at the same time:

    cycles of a group = the longest of the GEMM's cycles, the vector unit's cycles, and all bits at each memory

The GEMM's mapping is chosen for the cycles of the group (`beside`), so that a faster or a larger memory never makes a
group slower: a mapping that is best by itself may leave too little bandwidth to the vector work. Nor does a group
ever take longer than its events one after the other under the GEMM's own best mapping.

The GEMM shows the cycles that its mapping takes by itself. What the group takes beyond them is shown at its vector
events, in their order, each at most with the cycles that it would take by itself; the others are hidden and take
none. So parts still sum to the total.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import groupby

from hw_models.cost import Cost
from hw_models.mapping.problem import Beside
from hw_models.pricing import Pricing
from lowbit_sim.trace import Event


def groups(events: Sequence[Event], on_array: Sequence[bool]) -> Iterator[slice]:
    """The groups of a trace, together all of it in order.

    Args:
        events: The events.
        on_array: Which of them are GEMMs on the array.
    """
    first = 0
    for _, run in groupby(range(len(events)), key=lambda i: events[i].layer):
        members = list(run)
        gemms = [i for i in members if on_array[i]]
        for last in [*gemms[:-1], members[-1]]:
            yield slice(first, last + 1)
            first = last + 1


def beside(vector: Iterable[Cost]) -> Beside:
    """What the vector work of a group asks for while its GEMM runs."""
    cycles, bits = 0, dict[str, int]()
    for cost in vector:
        cycles += cost.compute_cycles
        for (level, _), crossed in cost.traffic.items():
            bits[level] = bits.get(level, 0) + crossed
    return Beside(cycles=cycles, bits=tuple(sorted(bits.items())))


def overlapped(group: Sequence[Cost], on_array: Sequence[bool], pricing: Pricing) -> list[Cost]:
    """The costs of a group's events with the cycles of vector work that the array hides taken off.

    Args:
        group: The costs, each by itself.
        on_array: Which of them are those of GEMMs on the array.
        pricing: The machine.
    """
    if not any(on_array):
        return list(group)
    array = sum(cost.cycles for cost, is_gemm in zip(group, on_array, strict=True) if is_gemm)
    rest = group_cycles(group, on_array, pricing) - array
    shown = []
    for cost, is_gemm in zip(group, on_array, strict=True):
        part = cost.cycles if is_gemm else min(cost.cycles, rest)
        rest -= 0 if is_gemm else part
        shown.append(cost if part == cost.cycles else _with_cycles(cost, part))
    return shown


def group_cycles(group: Sequence[Cost], on_array: Sequence[bool], pricing: Pricing) -> int:
    """What a group takes: see the module."""
    array = vector = 0
    bits: dict[tuple[str, str], int] = {}
    for cost, is_gemm in zip(group, on_array, strict=True):
        array += cost.cycles if is_gemm else 0
        vector += 0 if is_gemm else cost.compute_cycles
        for key, crossed in cost.traffic.items():
            bits[key] = bits.get(key, 0) + crossed
    return max(array, vector, *pricing.memory_cycles(bits).values())


def _with_cycles(cost: Cost, cycles: int) -> Cost:
    return replace(cost, cycles=cycles, cycles_by_bound={cost.bound_by: cycles} if cycles else {})
