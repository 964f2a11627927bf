"""One result of a GEMM, addition by addition, in the words of the schema.

The additions are those of the definitions, `arith/additions.py` and `arith/float_additions.py`; a block's scaled sum
is `arith/block_gemm.reference_term`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

from lowbit_sim.arith.additions import Addition, additions
from lowbit_sim.arith.block_gemm import reference_term
from lowbit_sim.arith.float_additions import FloatAddition, float_additions
from lowbit_sim.arith.float_mac import FloatMacUnit
from lowbit_sim.arith.mac import MacUnit
from lowbit_sim.numerics.random import Stream
from lowbit_sim.study.vectors import schema
from lowbit_sim.study.vectors.digits import code_digits, float32_digits, float_digits

Trace = Literal["additions", "chunks", "none"]

TRACES: tuple[Trace, ...] = ("additions", "chunks", "none")


@dataclass(frozen=True, kw_only=True)
class Work:
    """What all results of one group's GEMM have in common.

    Attributes:
        mac: Sums the products.
        across: Sums the terms of blocks.
        block: Products in a block; 0 without blocks.
        results: M N.
        stream: Of the accumulators' random bits.
    """

    mac: MacUnit | FloatMacUnit
    across: FloatMacUnit
    block: int
    results: int
    stream: Stream

    def dot(
        self, a: Sequence, b: Sequence, index: int, scales: tuple[Sequence[float], Sequence[float]] | None
    ) -> tuple[list[schema.BlockSum], list[schema.Addition]]:
        """Blocks and additions of one result.

        Args:
            a: Multiplicands [K].
            b: Multiplicands [K].
            index: m N + n.
            scales: Those of a's and of b's blocks; None without blocks.
        """
        if scales is None:
            return [], logged(a, b, self.mac, self.stream, index)[1]
        per_block = _draws(self.mac, self.block)
        blocks, terms = [], []
        for c, (scale_a, scale_b) in enumerate(zip(*scales, strict=True)):
            part = slice(c * self.block, (c + 1) * self.block)
            stream = _from(self.stream, c * self.results * per_block)
            value, log = logged(a[part], b[part], self.mac, stream, index)
            terms.append(reference_term(value, scale_a, scale_b))
            blocks.append(self._block(c, value, log, terms[-1]))
        stream = _from(self.stream, len(terms) * self.results * per_block)
        return blocks, logged([1.0] * len(terms), terms, self.across, stream, index)[1]

    def _block(self, c: int, value: float, log: Sequence[schema.Addition], term: float) -> schema.BlockSum:
        first = c * self.block
        placed = [step.model_copy(update={"last_k": step.last_k + first}) for step in log]
        return schema.BlockSum(
            block=c, additions=placed, sum=sum_digits(value, self.mac), term=float32_digits(term)
        )


def logged(
    a: Sequence, b: Sequence, mac: MacUnit | FloatMacUnit, stream: Stream, index: int
) -> tuple[float, list[schema.Addition]]:
    """A dot product of either unit and its additions; result `index` of its GEMM."""
    if isinstance(mac, MacUnit):
        value, log = additions(a, b, mac)
        return value, [_integer_addition(step, mac) for step in log]
    total, steps = float_additions(a, b, mac, stream=stream, first=index * mac.additions(len(a)))
    return total, [_float_addition(step, mac) for step in steps]


def _draws(mac: MacUnit | FloatMacUnit, reduction: int) -> int:
    """Random integers that one result of a GEMM takes."""
    stochastic = isinstance(mac, FloatMacUnit) and mac.rounding.is_stochastic
    return mac.additions(reduction) if stochastic else 0


def _from(stream: Stream, element: int) -> Stream:
    return dataclasses.replace(stream, offset=stream.offset + element)


def sum_bits(mac: MacUnit | FloatMacUnit) -> int:
    """Width of what leaves a unit."""
    return mac.value_bits if isinstance(mac, MacUnit) else mac.result_format.bits


def sum_digits(value: float, mac: MacUnit | FloatMacUnit) -> str:
    """What leaves a unit: an integer or a code."""
    if isinstance(mac, MacUnit):
        return code_digits(int(value), mac.value_bits)
    return float_digits(value, mac.result_format)


def _integer_addition(step: Addition, mac: MacUnit) -> schema.Addition:
    bits = mac.accumulator_bits if step.accumulator == "inner" else mac.result_bits
    return schema.Addition(
        accumulator=step.accumulator,
        chunk=step.chunk,
        last_k=step.last,
        value=code_digits(step.value, bits),
        overflow=step.overflowed,
    )


def _float_addition(step: FloatAddition, mac: FloatMacUnit) -> schema.Addition:
    fmt = mac.accumulator if step.accumulator == "inner" else mac.result_format
    return schema.Addition(
        accumulator=step.accumulator,
        part=step.part,
        chunk=step.chunk,
        last_k=step.last,
        value=float_digits(step.value, fmt),
        float32=float32_digits(step.value),
        overflow=step.overflowed,
        random=None if step.random is None else code_digits(step.random, mac.rounding.random_bits),
    )


def shown(log: Sequence[schema.Addition], trace: Trace) -> list[schema.Addition]:
    """All additions, or each chunk's last sum and the outer one after it; each then speaks for those before it."""
    if trace == "additions":
        return list(log)
    kept = []
    for _, group in groupby(log, key=lambda step: (step.accumulator, step.chunk)):
        steps = list(group)
        last = [step for step in steps if step.part == "sum"][-1]
        kept.append(last.model_copy(update={"overflow": any(step.overflow for step in steps)}))
    return kept
