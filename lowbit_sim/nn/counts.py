"""What low precision loses, layer by layer: overflowed additions, clipped and vanished operands.

Emulated layers count by themselves while they train, in every `COUNT_EVERY`-th step and in every step that is
recorded. Counting changes no result; it costs a pass over each operand. A wrapping accumulator that may overflow
would lose its fast path too, so its additions are counted in every 256th step only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from lowbit_sim.nn.emulation import COUNT_EVERY as COUNT_EVERY
from lowbit_sim.nn.emulation import EmulatedLayer
from lowbit_sim.ops.counts import OperandCounts
from lowbit_sim.ops.tally import GemmTally


@dataclass(frozen=True, kw_only=True)
class GemmCounts:
    """The counts of one GEMM of a layer, over the steps that counted.

    Attributes:
        layer: Module path.
        gemm: Its role, after the operator's name where a layer has several ("q_proj.output").
        calls: How many calls counted.
        additions: Accumulator additions.
        overflows: How many of those overflowed.
        lhs: What quantising made of the left operand; None where it was not quantised for this GEMM.
        rhs: The right operand; None too where the codes of the forward GEMM were read again.
    """

    layer: str
    gemm: str
    calls: int
    additions: int
    overflows: int
    lhs: OperandCounts | None
    rhs: OperandCounts | None

    @property
    def overflow_share(self) -> float:
        """Share of the additions that overflowed; 0 without additions."""
        return self.overflows / self.additions if self.additions else 0.0


def gemm_counts(model: nn.Module) -> list[GemmCounts]:
    """What each GEMM of each emulated layer lost since the model was converted or `reset_counts` was called."""
    return [
        _counts(path, gemm, tally)
        for path, layer in model.named_modules()
        if isinstance(layer, EmulatedLayer)
        for gemm, tally in layer.tallies.items()
    ]


def _counts(path: str, gemm: str, tally: GemmTally) -> GemmCounts:
    return GemmCounts(
        layer=path,
        gemm=gemm,
        calls=tally.calls,
        additions=tally.additions,
        overflows=tally.overflows,
        lhs=tally.operands.get("lhs"),
        rhs=tally.operands.get("rhs"),
    )


def operand_counts(counts: Sequence[GemmCounts]) -> OperandCounts:
    """What quantising lost over all operands."""
    sides = [side for c in counts for side in (c.lhs, c.rhs) if side is not None]
    return sum(sides, start=OperandCounts(elements=0))


def reset_counts(model: nn.Module) -> None:
    """Start counting anew."""
    for layer in model.modules():
        if isinstance(layer, EmulatedLayer):
            layer.tallies.clear()


def counts_table(counts: Sequence[GemmCounts]) -> str:
    """The counts as aligned text: a line for each GEMM, shares in per cent, a dash for what was not counted."""
    head = ("layer", "gemm", "overflow %", "lhs clipped %", "lhs to zero %", "rhs clipped %", "rhs to zero %")
    lines = [head, *(_line(c) for c in counts)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i < 2 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def _line(counts: GemmCounts) -> tuple[str, ...]:
    return (
        counts.layer,
        counts.gemm,
        f"{100 * counts.overflow_share:.3g}" if counts.additions else "-",
        *(cell for operand in (counts.lhs, counts.rhs) for cell in _shares(operand)),
    )


def _shares(operand: OperandCounts | None) -> tuple[str, str]:
    if operand is None or not operand.elements:
        return "-", "-"
    return tuple(f"{100 * n / operand.elements:.3g}" for n in (operand.clipped, operand.underflowed))  # type: ignore[return-value]
