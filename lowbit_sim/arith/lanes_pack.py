"""Panels of a matrix for `lanes_kernel`: some columns of some rows, in memory one after the other."""

# An intrinsic is called without its first parameter.
# pyright: reportCallIssue=false

from __future__ import annotations

from typing import Any

import numba
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from lowbit_sim.arith.lanes import FLOATS, LANES

_I32, _I64, _FLOAT_P = ir.IntType(32), ir.IntType(64), ir.FloatType().as_pointer()


def _halves(distance: int, upper: bool) -> ir.Constant:
    """Of two vectors of squares of so many lanes: every other square of both."""
    lanes = [i if i & distance == 0 else i - distance + LANES for i in range(LANES)]
    return ir.Constant(ir.VectorType(_I32, LANES), [i + distance if upper else i for i in lanes])


def _transposed(builder: Any, rows: list[Any]) -> list[Any]:
    """Sixteen vectors of sixteen lanes: squares across the diagonal change places, of 8 lanes, 4, 2 and 1."""
    distance = LANES // 2
    while distance:
        for i in range(LANES):
            if i & distance == 0:
                x, y = rows[i], rows[i + distance]
                rows[i] = builder.shuffle_vector(x, y, _halves(distance, False))
                rows[i + distance] = builder.shuffle_vector(x, y, _halves(distance, True))
        distance //= 2
    return rows


@intrinsic
def _transpose(_typing: Any, source: Any, first: Any, step: Any, target: Any, at: Any, line: Any) -> Any:
    """Sixteen runs of sixteen numbers, `step` apart, into sixteen lines across them, `line` apart."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        def vector(i: int, offset: Any, stride: Any, n: int) -> Any:
            array = context.make_array(signature.args[i])(context, builder, arguments[i])
            start = builder.gep(builder.bitcast(array.data, _FLOAT_P), [offset])
            place = builder.gep(start, [builder.mul(stride, _I64(n))])
            return builder.bitcast(place, FLOATS.as_pointer())

        _, offset, stride, _, to, apart = arguments
        rows = [builder.load(vector(0, offset, stride, i), align=4) for i in range(LANES)]
        for i, row in enumerate(_transposed(builder, rows)):
            builder.store(row, vector(3, to, apart, i), align=4)
        return context.get_dummy_value()

    n = types.int64
    return types.none(source, n, n, target, n, n), generate


@numba.njit
def pack(source, first, k_step, column_step, length, width, line, panel):
    """panel [length, line] = the `width` columns from `first` on; what is beyond them stays as it is.

    Args:
        source: float32, flat.
        first: Where the first number lies.
        k_step: Elements from one line to the next.
        column_step: Elements from one column to the next.
        length: Lines.
        width: Columns.
        line: Columns of the panel.
        panel: float32, flat, written.
    """
    done = 0
    if k_step == 1:
        done = length // LANES * LANES
        whole = width // LANES * LANES
        for j in range(0, whole, LANES):
            for k in range(0, done, LANES):
                _transpose(source, first + j * column_step + k, column_step, panel, k * line + j, line)
        for j in range(whole, width):
            for k in range(done):
                panel[k * line + j] = source[first + j * column_step + k]
    if column_step == 1:
        for k in range(done, length):
            for j in range(width):
                panel[k * line + j] = source[first + k * k_step + j]
    else:
        for k in range(done, length):
            for j in range(width):
                panel[k * line + j] = source[first + k * k_step + j * column_step]
