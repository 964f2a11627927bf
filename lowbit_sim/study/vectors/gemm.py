"""One captured GEMM in the words of the schema: operands, sums, scales and results of each group."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from lowbit_sim.arith.float_mac import FloatMacUnit
from lowbit_sim.arith.spec import GemmSpec
from lowbit_sim.numerics.random import Stream
from lowbit_sim.ops.capture import CapturedGemm
from lowbit_sim.ops.contraction import TENSORS, Contraction, Side
from lowbit_sim.ops.operand import ACCUMULATOR_STREAMS, CallSite, stream_at
from lowbit_sim.study.vectors import schema
from lowbit_sim.study.vectors.digits import float32s
from lowbit_sim.study.vectors.dot import Trace, Work, shown, sum_bits, sum_digits
from lowbit_sim.study.vectors.numbers import float_mac_unit, mac_unit
from lowbit_sim.study.vectors.operand import OperandMaker, address


@dataclass(frozen=True, kw_only=True)
class GemmMaker:
    """Turns captured GEMMs into their part of the file.

    Attributes:
        layout: The layer's layout.
        tensors: Its input, weight and grad_output.
        at: Where it ran.
        trace: Which accumulators are shown.
        traced: Of how many results of each group.
    """

    layout: Contraction
    tensors: dict[str, Tensor]
    at: CallSite
    trace: Trace
    traced: int

    def make(self, gemm: CapturedGemm) -> schema.Gemm:
        """The GEMM's part of the file."""
        spec = cast(GemmSpec, gemm.spec)
        rows, columns, reduction = self.layout.sizes(gemm.role)
        sides: dict[Side, OperandMaker] = {side: self._operand(gemm, spec, side) for side in ("lhs", "rhs")}
        unit = spec.across if spec.block else spec.mac
        overflows, traced = self._add_up(self._dots(gemm, spec, sides), columns)
        return schema.Gemm(
            role=cast(Any, gemm.role),
            sample=gemm.sample,
            M=rows,
            N=columns,
            K=reduction,
            groups=len(gemm.lhs),
            lhs=sides["lhs"].make(),
            rhs=sides["rhs"].make(),
            mac=mac_unit(spec.mac),
            block=spec.block,
            block_sum_bits=sum_bits(spec.mac) if spec.block else None,
            across=float_mac_unit(spec.across) if spec.block else None,
            random=[address(self._stream(gemm, i)) for i in range(len(gemm.lhs))]
            if _is_stochastic(spec)
            else [],
            sum_bits=sum_bits(unit),
            sums=[[sum_digits(v, unit) for v in s.reshape(-1).tolist()] for s in gemm.sums],
            overflows=overflows,
            scale=[float32s(s[:1] if (s == s[:1]).all() else s) for s in self._scales(gemm, sides)],
            results=[float32s(r) for r in self._by_group(gemm, gemm.result)],
            traced=traced,
        )

    def _operand(self, gemm: CapturedGemm, spec: GemmSpec, side: Side) -> OperandMaker:
        tensor = self.tensors[TENSORS[gemm.role, side]]
        return OperandMaker(gemm=gemm, spec=spec, side=side, layout=self.layout, tensor=tensor, at=self.at)

    def _stream(self, gemm: CapturedGemm, group: int) -> Stream:
        # As `ops/product.py` addresses them.
        return stream_at(self.at, ACCUMULATOR_STREAMS[gemm.role], gemm.sample, offset=group << 40)

    def _dots(
        self, gemm: CapturedGemm, spec: GemmSpec, sides: dict[Side, OperandMaker]
    ) -> Iterator[schema.Dot]:
        """Every result with all its additions."""
        columns = self.layout.sizes(gemm.role)[1]
        scales = {side: sides[side].block_scales() for side in sides}
        for g, (a, b) in enumerate(zip(gemm.lhs, gemm.rhs, strict=True)):
            work = Work(
                mac=spec.mac,
                across=spec.across,
                block=spec.block,
                results=a.shape[0] * b.shape[1],
                stream=self._stream(gemm, g),
            )
            count = -(-a.shape[1] // spec.block) if spec.block else 0
            by_row = _rows(scales["lhs"], g, a.shape[0], count)
            by_column = _rows([s.t() for s in scales["rhs"]], g, b.shape[1], count)
            right = b.t().tolist()
            for m, row in enumerate(a.tolist()):
                for n, column in enumerate(right):
                    pair = (by_row[m], by_column[n]) if spec.block else None
                    blocks, log = work.dot(row, column, m * columns + n, pair)
                    yield schema.Dot(group=g, row=m, column=n, blocks=blocks, additions=log)

    def _add_up(self, dots: Iterator[schema.Dot], columns: int) -> tuple[int, list[schema.Dot]]:
        """Overflows of all results, and those results that are shown."""
        overflows, traced = 0, []
        for dot in dots:
            overflows += sum(step.overflow for steps in _logs(dot) for step in steps)
            if self.trace != "none" and dot.row * columns + dot.column < self.traced:
                traced.append(self._shown(dot))
        return overflows, traced

    def _shown(self, dot: schema.Dot) -> schema.Dot:
        blocks = [b.model_copy(update={"additions": shown(b.additions, self.trace)}) for b in dot.blocks]
        return dot.model_copy(update={"blocks": blocks, "additions": shown(dot.additions, self.trace)})

    def _by_group(self, gemm: CapturedGemm, tensor: Tensor) -> list[Tensor]:
        """A tensor that broadcasts against the result, as the groups' matrices [M N]."""
        rows, columns, _ = self.layout.sizes(gemm.role)
        count, size = len(gemm.lhs), rows * columns
        # Where each element of a matrix ends up: lay out the numbers of the elements as if they were results.
        numbers = torch.arange(count * size).reshape(count, rows, columns)
        places = self.layout.assemble(gemm.role, list(numbers)).reshape(-1).to(torch.int64)
        matrices = torch.empty(count * size)
        matrices[places] = tensor.expand(gemm.result.shape).reshape(-1)
        return list(matrices.reshape(count, size))

    def _scales(self, gemm: CapturedGemm, sides: dict[Side, OperandMaker]) -> list[Tensor]:
        """Of each group, what its sums are times; 1 where all scales are the blocks'."""
        whole = {"lhs": gemm.lhs_scale, "rhs": gemm.rhs_scale}
        known = [s for side in sides if not sides[side].block_scales() for s in whole[side]]
        return self._by_group(gemm, math.prod(known[1:], start=known[0]) if known else torch.ones(()))


def _logs(dot: schema.Dot) -> Iterator[list[schema.Addition]]:
    yield from (block.additions for block in dot.blocks)
    yield dot.additions


def _is_stochastic(spec: GemmSpec) -> bool:
    """Whether any accumulator draws random bits."""
    units = (spec.mac, spec.across) if spec.block else (spec.mac,)
    return any(isinstance(unit, FloatMacUnit) and unit.rounding.is_stochastic for unit in units)


def _rows(scales: Sequence[Tensor], group: int, count: int, blocks: int) -> list[list[float]]:
    """The block scales of each row of a group's matrix: 1 where the matrix has none."""
    return scales[group].tolist() if scales else [[1.0] * blocks] * count
