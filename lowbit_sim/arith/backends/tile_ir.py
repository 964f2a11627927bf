"""A tile of accumulators in vector registers, as LLVM instructions. Importing this module imports numba.

A tile is ROWS x VECTORS registers of 512 bits: all of them stay in registers while k runs, and each lane sees its k
in ascending order. A step of k loads VECTORS registers of B, broadcasts ROWS codes of A, and for each register

    total = accumulator + a b;   accumulator = the overflow rule of total

On lanes of 16 bits with the processor's own saturating (or wrapping) addition that is two instructions for 32
multiply-accumulates. Where the processor has narrower registers, LLVM splits the vectors: the bits are the same.

| rule     | accumulator                    | used where                                                    |
|----------|--------------------------------|---------------------------------------------------------------|
| SATURATE | saturating addition            | the accumulator's range, shifted left, is the lane's          |
| WRAP     | wrapping addition              | likewise                                                      |
| CLIP     | min(max(total, low), high)     | the lane holds the total, or is 16 bits and saturates by itself |
| FOLD     | low bits of total, sign-extended | the lane holds the total                                    |
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from lowbit_sim.arith.backends.lanes import (
    CLIP,
    DEPTH,
    FOLD,
    REGISTER_BITS,
    ROWS,
    RULES,
    SATURATE,
    VECTORS,
    WRAP,
    mode,
)

# llvmlite's IRBuilder and values, which carry no types.
Builder = Value = Any

_INT64 = ir.IntType(64)


def _vector(lane: int, wide: int | None = None) -> ir.VectorType:
    """A register of lanes of `lane` bits; with `wide` as many lanes of that width."""
    return ir.VectorType(ir.IntType(wide or lane), REGISTER_BITS // lane)


def _splat(builder: Builder, scalar: Value, count: int) -> Value:
    one = ir.VectorType(scalar.type, count)
    undefined = ir.Constant(one, ir.Undefined)
    first = builder.insert_element(undefined, scalar, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(
        first, undefined, ir.Constant(ir.VectorType(ir.IntType(32), count), [0] * count)
    )


def _splat_int64(builder: Builder, scalar: Value, kind: ir.VectorType) -> Value:
    """An int64 argument in every lane of a vector type."""
    if kind.element.width < 64:
        scalar = builder.trunc(scalar, kind.element)
    return _splat(builder, scalar, kind.count)


def _address(builder: Builder, base: Value, offset: Value | int, kind: ir.Type) -> Value:
    """A pointer to what lies `offset` bytes behind `base`."""
    if isinstance(offset, int):
        offset = ir.Constant(_INT64, offset)
    return builder.inttoptr(builder.add(base, offset), kind.as_pointer())


def _load(builder: Builder, base: Value, offset: Value | int, kind: ir.Type) -> Value:
    value = builder.load(_address(builder, base, offset, kind))
    value.align = 1  # the caller aligns; a wrong promise would be a fault
    return value


def _store(builder: Builder, value: Value, base: Value, offset: Value | int) -> None:
    builder.store(value, _address(builder, base, offset, value.type)).align = 1


def _call(builder: Builder, name: str, kind: ir.VectorType, *operands: Value) -> Value:
    """An LLVM intrinsic of equal vectors."""
    full = f"llvm.{name}.v{kind.count}i{kind.element.width}"
    signature = ir.FunctionType(kind, [kind] * len(operands))
    return builder.call(cgutils.get_or_insert_function(builder.module, signature, full), operands)


def _sum(builder: Builder, counts: Value) -> Value:
    """The sum of a vector's lanes as an int64; lanes of 16 bits are widened first."""
    kind = ir.VectorType(_INT64, counts.type.count)
    wide = counts if counts.type.element.width == 64 else builder.zext(counts, kind)
    name = f"llvm.vector.reduce.add.v{kind.count}i64"
    signature = ir.FunctionType(_INT64, [kind])
    return builder.call(cgutils.get_or_insert_function(builder.module, signature, name), [wide])


class _Rule:
    """One addition under an overflow rule, on vectors of a type, with the instructions that count overflows."""

    def __init__(self, rule: str, kind: ir.VectorType, low: Value, high: Value, shift: Value):
        self.rule, self.kind, self.low, self.high, self.shift = rule, kind, low, high, shift

    def add(
        self, builder: Builder, accumulator: Value, term: Value, counting: bool
    ) -> tuple[Value, Value | None]:
        """The new accumulator, and the lanes (0 or 1) that overflowed."""
        plain = builder.add(accumulator, term)
        if self.rule in (SATURATE, WRAP):
            saturated = _call(builder, "sadd.sat", self.kind, accumulator, term)
            kept = saturated if self.rule == SATURATE else plain
            differs = (saturated, plain)
        else:
            kept = self._bring_back(builder, plain, accumulator, term)
            differs = (kept, plain)
        if not counting:
            return kept, None
        return kept, builder.zext(builder.icmp_signed("!=", *differs), self.kind)

    def _bring_back(self, builder: Builder, total: Value, accumulator: Value, term: Value) -> Value:
        if self.rule == FOLD:
            return builder.ashr(builder.shl(total, self.shift), self.shift)
        if self.kind.element.width == 16:
            # Costs no more than a plain addition, and leaves room for totals beyond the lane.
            total = _call(builder, "sadd.sat", self.kind, accumulator, term)
        return _call(
            builder, "smin", self.kind, _call(builder, "smax", self.kind, total, self.low), self.high
        )


def _by_mode(
    builder: Builder,
    chosen: Value,
    rules: Sequence[str],
    generate: Callable[[str, bool], Value],
) -> Value:
    """The int64 of the code that `generate` writes for the rule and the counting that `lanes.mode` gave a number.

    One kernel so serves all rules: compiling another one takes longer than all these branches.
    """
    result = cgutils.alloca_once_value(builder, ir.Constant(_INT64, 0))
    done = builder.append_basic_block("done")
    switch = builder.switch(chosen, done)
    for rule, counting in itertools.product(rules, (False, True)):
        block = builder.append_basic_block(f"{rule}_{counting}")
        switch.add_case(ir.Constant(_INT64, mode(rule, counting)), block)
        builder.position_at_end(block)
        builder.store(generate(rule, counting), result)
        builder.branch(done)
    builder.position_at_end(done)
    return builder.load(result)


@intrinsic(prefer_literal=True)
def tile(context, lane, chosen, a, b, inner, steps, low, high, fold):  # noqa: ANN001, ANN201
    """`steps` products into each accumulator of a tile.

    `lane` is a constant of the caller; the others are int64, `chosen` by `lanes.mode` and the next three addresses:

        a       [ROWS, DEPTH] codes: of the lane's width, of 16-bit lanes two copies in 32 bits
        b       [DEPTH, columns] codes of the lane's width
        inner   [ROWS, columns] accumulators of the lane's width, read and written

    with 1 <= steps <= DEPTH. It returns the overflows (0 where not counting).
    """
    width = lane.literal_value

    def generate(context: Any, builder: Builder, signature: Any, arguments: Sequence[Value]):
        chosen, *rest = arguments[1:]
        return _by_mode(builder, chosen, RULES, lambda r, c: _tile(builder, width, r, c, rest))

    return types.int64(lane, *[types.int64] * 8), generate


def _tile(builder: Builder, lane: int, rule: str, counting: bool, arguments: Sequence[Value]) -> Value:
    a, b, inner, steps, low, high, fold = arguments
    kind, register = _vector(lane), REGISTER_BITS // 8
    code_bits = 32 if lane == 16 else lane
    addition = _Rule(rule, kind, *(_splat_int64(builder, x, kind) for x in (low, high, fold)))
    accumulators = [
        cgutils.alloca_once_value(builder, _load(builder, inner, i * register, kind))
        for i in range(ROWS * VECTORS)
    ]
    zero = ir.Constant(kind, [0] * kind.count)
    counts = [cgutils.alloca_once_value(builder, zero) for _ in range(VECTORS)]
    with cgutils.for_range(builder, steps) as loop:
        k = loop.index
        panel = builder.add(b, builder.mul(k, ir.Constant(_INT64, VECTORS * register)))
        codes = builder.add(a, builder.mul(k, ir.Constant(_INT64, code_bits // 8)))
        columns = [_load(builder, panel, v * register, kind) for v in range(VECTORS)]
        for r in range(ROWS):
            code = _load(builder, codes, r * DEPTH * code_bits // 8, ir.IntType(code_bits))
            row = builder.bitcast(_splat(builder, code, REGISTER_BITS // code_bits), kind)
            for v in range(VECTORS):
                place = accumulators[r * VECTORS + v]
                product = builder.mul(row, columns[v])
                kept, overflowed = addition.add(builder, builder.load(place), product, counting)
                builder.store(kept, place)
                if overflowed is not None:
                    builder.store(builder.add(builder.load(counts[v]), overflowed), counts[v])
    for i, place in enumerate(accumulators):
        _store(builder, builder.load(place), inner, i * register)
    total = ir.Constant(_INT64, 0)
    if counting:
        for place in counts:
            total = builder.add(total, _sum(builder, builder.load(place)))
    return total


@intrinsic(prefer_literal=True)
def finish(context, lane, outer_lane, chosen, inner, outer, shift, low, high, fold):  # noqa: ANN001, ANN201
    """A chunk's sums move on: outer += inner >> shift by the outer accumulator's rule, and the inner tile is zero.

    The lanes are constants of the caller; the others are int64, `chosen` by `lanes.mode` (CLIP or FOLD) and `inner`
    and `outer` addresses of [ROWS, columns] accumulators. It returns the overflows (0 where not counting).
    """
    widths = lane.literal_value, outer_lane.literal_value

    def generate(context: Any, builder: Builder, signature: Any, arguments: Sequence[Value]):
        chosen, *rest = arguments[2:]
        return _by_mode(builder, chosen, (CLIP, FOLD), lambda r, c: _finish(builder, *widths, r, c, rest))

    return types.int64(lane, outer_lane, *[types.int64] * 7), generate


def _finish(
    builder: Builder,
    lane: int,
    outer_lane: int,
    rule: str,
    counting: bool,
    arguments: Sequence[Value],
) -> Value:
    inner, outer, shift, low, high, fold = arguments
    kind, wide = _vector(lane), _vector(lane, outer_lane)
    addition = _Rule(rule, wide, *(_splat_int64(builder, x, wide) for x in (low, high, fold)))
    shifts = _splat_int64(builder, shift, kind)
    zero, no_counts = (ir.Constant(t, [0] * t.count) for t in (kind, wide))
    counts = cgutils.alloca_once_value(builder, no_counts)
    with cgutils.for_range(builder, ir.Constant(_INT64, ROWS * VECTORS)) as loop:
        at = builder.mul(loop.index, ir.Constant(_INT64, REGISTER_BITS // 8))
        outer_at = builder.mul(at, ir.Constant(_INT64, outer_lane // lane))
        moved = builder.ashr(_load(builder, inner, at, kind), shifts)
        moved = moved if outer_lane == lane else builder.sext(moved, wide)
        kept, overflowed = addition.add(builder, _load(builder, outer, outer_at, wide), moved, counting)
        _store(builder, kept, outer, outer_at)
        _store(builder, zero, inner, at)
        if overflowed is not None:
            builder.store(builder.add(builder.load(counts), overflowed), counts)
    return _sum(builder, builder.load(counts)) if counting else ir.Constant(_INT64, 0)
