"""Random words of many accumulators at once, as vector instructions, for stochastic additions.

A stream's draws lie one after the other in its blocks of 128 bits (see `numerics.random`), each accumulator's from a
place of its own. `philox_lanes` makes a block for each accumulator, `align_lanes` shifts two
successive blocks so that the wanted draws start at bit 0 of word 0: about 8 operations of sixteen lanes for each
sixteen draws of 8 bits, 2 more for the shifts.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from lowbit_sim.arith.lanes import INTS, LANES, Lanes
from lowbit_sim.numerics.random import _MULTIPLIER_0, _MULTIPLIER_1, _WEYL_0, _WEYL_1

_LOW = 0xFFFFFFFF
_WIDE_LANES = 8
_I64 = ir.IntType(64)
_WIDE = ir.VectorType(_I64, _WIDE_LANES)
_NARROW = ir.VectorType(ir.IntType(32), _WIDE_LANES)


def _wide(value: int) -> ir.Constant:
    return ir.Constant(_WIDE, [value] * _WIDE_LANES)


def _data(context: Any, builder: Any, kind: Any, value: Any, target: Any) -> Any:
    array = context.make_array(kind)(context, builder, value)
    return builder.bitcast(array.data, target.as_pointer())


def _groups(context: Any, builder: Any, kind: Any, value: Any, lanes: int) -> Any:
    """How many vectors of so many lanes an array has."""
    array = context.make_array(kind)(context, builder, value)
    return builder.udiv(array.nitems, _I64(lanes))


@intrinsic
def philox_lanes(_typing: Any, blocks: Any, address: Any, words: Any) -> Any:
    """Philox 4x32-10 for each of n block numbers, n a multiple of 16.

    Args:
        blocks: int64 [n].
        address: int64 (seed, operand, step, site).
        words: uint32 [4, n], written.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        b = builder
        numbers = _data(context, b, signature.args[0], arguments[0], _WIDE)
        out = _data(context, b, signature.args[2], arguments[2], _NARROW)
        low = _wide(_LOW)
        scalars = cgutils.unpack_tuple(b, arguments[1])
        seed, operand, step, site = (Lanes.spread(b, s, _WIDE) for s in scalars)
        groups = _groups(context, b, signature.args[0], arguments[0], _WIDE_LANES)
        with cgutils.for_range(b, groups) as loop:
            number = b.load(b.gep(numbers, [loop.index]), align=4)
            c0, c1, c2, c3 = number, b.lshr(number, _wide(32)), step, site
            k0, k1 = seed, operand
            for _ in range(10):
                # The upper halves hold rubbish, which a multiplication of the lower ones ignores.
                p0 = b.mul(b.and_(c0, low), _wide(_MULTIPLIER_0))
                p1 = b.mul(b.and_(c2, low), _wide(_MULTIPLIER_1))
                c0 = b.xor(b.xor(b.lshr(p1, _wide(32)), c1), k0)
                c2 = b.xor(b.xor(b.lshr(p0, _wide(32)), c3), k1)
                c1, c3 = p1, p0
                k0, k1 = b.add(k0, _wide(_WEYL_0)), b.add(k1, _wide(_WEYL_1))
            for i, word in enumerate((c0, c1, c2, c3)):
                place = b.gep(out, [b.add(loop.index, b.mul(groups, _I64(i)))])
                b.store(b.trunc(word, _NARROW), place, align=4)
        return context.get_dummy_value()

    return types.none(blocks, types.UniTuple(types.int64, 4), words), generate


@intrinsic
def align_lanes(_typing: Any, old: Any, new: Any, skip: Any, shift: Any, words: Any) -> Any:
    """Four words from bit 32 skip + shift of two blocks on.

    Args:
        old: uint32 [4, n], the first blocks; n is a multiple of 16.
        new: uint32 [4, n], the next ones.
        skip: int32 [n], 0 to 3.
        shift: int32 [n], 0 to 31.
        words: uint32 [4, n], written.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        b = builder
        lanes = Lanes(builder=b, rounded_additions=False, fused=False)
        first, then, skips, shifts, out = (
            _data(context, b, kind, value, INTS)
            for kind, value in zip(signature.args, arguments, strict=True)
        )
        step = _groups(context, b, signature.args[2], arguments[2], LANES)
        with cgutils.for_range(b, step) as loop:

            def load(base: Any, row: int = 0) -> Any:
                return b.load(b.gep(base, [b.add(loop.index, b.mul(step, _I64(row)))]), align=4)

            places, by = load(skips), load(shifts)
            both = [load(first, i) for i in range(4)] + [load(then, i) for i in range(4)]
            two = b.icmp_signed("!=", b.and_(places, lanes.ints(2)), lanes.ints(0))
            one = b.icmp_signed("!=", b.and_(places, lanes.ints(1)), lanes.ints(0))
            both = [b.select(two, both[i + 2], both[i]) for i in range(6)]
            both = [b.select(one, both[i + 1], both[i]) for i in range(5)]
            for i in range(4):
                word = lanes.call("llvm.fshr.v16i32", INTS, both[i + 1], both[i], by)
                b.store(word, b.gep(out, [b.add(loop.index, b.mul(step, _I64(i)))]), align=4)
        return context.get_dummy_value()

    return types.none(old, new, skip, shift, words), generate
