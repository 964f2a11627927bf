"""Vector work beside the array, on machines whose vector unit works while the array does (`overlaps_array`).

Overlap reaches over a group: one GEMM on the array, and the vector work of the same layer since the GEMM before it
(after the layer's last GEMM also what follows). A layer's work is that of consecutive events of its name; what other
layers do does not overlap with it. Both units and the memories are then busy at the same time:

    cycles of a group = the longest of the GEMM's cycles, the vector unit's cycles, and all bits at each memory

The GEMM keeps its own cycles. What the group takes beyond them is shown at its vector events, in their order, each at
most with the cycles that it would take by itself; the others are hidden and take none. So parts still sum to the
total, and a group never takes longer than its events one after the other.

The GEMM's mapping is chosen for the GEMM alone. A mapping that is faster by itself may leave less bandwidth to the
vector work, so that here a faster or a larger memory can cost a group cycles: one or two percent of a
ResNet-50 step on `gemmini`, and up to a quarter of a single layer, have been seen.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby

from hw_models.cost import Cost
from hw_models.pricing import Pricing
from lowbit_sim.trace import Event

#: An event, its cost by itself, and whether it is a GEMM on the array.
Priced = tuple[Event, Cost, bool]


def overlapped(events: Sequence[Priced], pricing: Pricing) -> list[Cost]:
    """The events' costs with the cycles of vector work that the array hides taken off.

    Args:
        events: All events of a trace in order.
        pricing: The machine.
    """
    costs: list[Cost] = []
    shorter: dict[tuple[int, int], Cost] = {}  # costs live as long as `events`, so their ids tell them apart
    for group in _groups(events):
        cycles = _shown_cycles(group, pricing)
        for (_, cost, _), shown in zip(group, cycles, strict=True):
            if shown != cost.cycles:
                key = (id(cost), shown)
                cost = shorter.get(key) or shorter.setdefault(key, _with_cycles(cost, shown))
            costs.append(cost)
    return costs


def _groups(events: Sequence[Priced]) -> Iterator[list[Priced]]:
    for _, run in groupby(events, key=lambda priced: priced[0].layer):
        group: list[Priced] = []
        waiting: list[Priced] = []
        for priced in run:
            waiting.append(priced)
            if priced[2]:
                if group:
                    yield group
                group, waiting = waiting, []
        yield group + waiting


def _shown_cycles(group: Sequence[Priced], pricing: Pricing) -> list[int]:
    """The cycles that each event of a group shows."""
    if not any(on_array for _, _, on_array in group):
        return [cost.cycles for _, cost, _ in group]
    rest = group_cycles(group, pricing) - sum(cost.cycles for _, cost, on_array in group if on_array)
    shown = []
    for _, cost, on_array in group:
        part = cost.cycles if on_array else min(cost.cycles, rest)
        rest -= 0 if on_array else part
        shown.append(part)
    return shown


def group_cycles(group: Sequence[Priced], pricing: Pricing) -> int:
    """What a group takes: see the module."""
    array = sum(cost.cycles for _, cost, on_array in group if on_array)
    vector = sum(cost.compute_cycles for _, cost, on_array in group if not on_array)
    bits: dict[tuple[str, str], int] = {}
    for _, cost, _ in group:
        for key, crossed in cost.traffic.items():
            bits[key] = bits.get(key, 0) + crossed
    return max(array, vector, *pricing.memory_cycles(bits).values())


def _with_cycles(cost: Cost, cycles: int) -> Cost:
    return replace(cost, cycles=cycles, cycles_by_bound={cost.bound_by: cycles} if cycles else {})
