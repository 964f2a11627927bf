"""Running counts of what a layer's GEMMs lost: additions that overflowed, operands that were clipped or vanished."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from lowbit_sim.arith.result import GemmResult
from lowbit_sim.ops.counts import OperandCounts


@dataclass
class GemmTally:
    """The counts of one GEMM of a layer, over the calls that counted.

    Attributes:
        calls: How many calls counted.
        additions: Accumulator additions.
        overflows: How many of those overflowed.
        operands: For "lhs" and "rhs" what quantising made of the elements; a side is missing that never was quantised
            for this GEMM, because it is native or reads the codes of the forward GEMM again.
    """

    calls: int = 0
    additions: int = 0
    overflows: int = 0
    operands: dict[str, OperandCounts] = field(default_factory=dict)

    def add_results(self, results: Sequence[GemmResult]) -> None:
        """Count the sums of one call, all of whose results counted their overflows."""
        self.add(sum(r.additions for r in results), sum(r.overflows or 0 for r in results))

    def add(self, additions: int, overflows: int) -> None:
        """Count the sums of one call."""
        self.calls += 1
        self.additions += additions
        self.overflows += overflows

    def add_operand(self, side: str, counts: OperandCounts) -> None:
        """Count one operand of one call."""
        before = self.operands.get(side)
        self.operands[side] = counts if before is None else before + counts


#: A layer's tallies, by role (after an operator's slot).
Tallies = dict[str, GemmTally]
