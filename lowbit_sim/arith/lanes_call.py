"""Functions that add to tiles, each compiled when it is first needed, and how kernels call them.

Every kind of addition and shape of tile is a function of its own, called by its address: a kernel is compiled once
for them all, in seconds, and a function in less than a tenth of one. Importing this module imports numba.
"""

from __future__ import annotations

import functools
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from lowbit_sim.arith.lanes_tile import SIGNATURE, Tile
from lowbit_sim.numerics.kernel_cache import cached

_I64 = ir.IntType(64)
_FLOAT_P, _I32_P, _I64_P = (t.as_pointer() for t in (ir.FloatType(), ir.IntType(32), _I64))


@functools.cache
def function(kind: int, checks: int, rows: int, vectors: int) -> tuple[Any, int]:
    """The compiled function that adds products to a tile, for `add_tile`.

    Args:
        kind: Of addition.
        checks: `NOTHING`, `OVERFLOWS` or `COUNTS`.
        rows: Of the tile.
        vectors: Of a row.

    Returns:
        What keeps the machine code in memory, and its address.
    """

    @cached(signature="int64()")
    def address():
        return _address(kind, checks, rows, vectors)  # pyright: ignore[reportCallIssue]

    return address, address()


@intrinsic(prefer_literal=True)
def _address(_typing: Any, kind: Any, checks: Any, rows: Any, vectors: Any) -> Any:
    """The address of a tile's function."""
    facts = [t.literal_value for t in (kind, checks, rows, vectors)]

    def generate(context: Any, builder: Any, _signature: Any, _arguments: Any) -> Any:
        emitted = ir.Function(builder.module, SIGNATURE, "lowbit_sim_tile")
        emitted.linkage = "internal"
        emitted.attributes.add("noinline")
        Tile(emitted, context.codegen()._tm_features, *facts)
        return builder.ptrtoint(emitted, _I64)

    return types.int64(kind, checks, rows, vectors), generate


@intrinsic
def add_tile(
    _typing: Any, address: Any, sums: Any, left: Any, panel: Any, parameters: Any, words: Any, counts: Any
) -> Any:
    """Add products to a tile; see the module. Arrays are flat.

    Args:
        address: Of `function`.
        sums: float32, the tile's rows one after the other, and where they begin.
        left: float32; where the first row's product 0 is, elements from row to row and product to product, and the
            last row that there is: rows of the tile beyond it hold nothing of use.
        panel: float32 [K, columns of the tile], the first product and past the last one.
        parameters: int32 [`PARAMETERS`].
        words: uint32 [4, rows and columns of the tile], the random words, and the first addition's draw in them.
        counts: int64, overflows and swamped additions are added to two of them, and the place of these.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        def data(kind: Any, value: Any, target: Any) -> Any:
            return builder.bitcast(context.make_array(kind)(context, builder, value).data, target)

        def parts(i: int, target: Any) -> list[Any]:
            first, *numbers = cgutils.unpack_tuple(builder, arguments[i])
            return [data(signature.args[i][0], first, target), *numbers]

        sums, at = parts(1, _FLOAT_P)
        left, base, row_step, k_step, last_row = parts(2, _FLOAT_P)
        panel, start, stop = parts(3, _FLOAT_P)
        words, number = parts(5, _I32_P)
        counts, counted = parts(6, _I64_P)
        values = [
            builder.gep(sums, [at]),
            builder.gep(left, [base]),
            *(row_step, k_step, last_row, panel, start, stop),
            data(signature.args[4], arguments[4], _I32_P),
            *(words, number),
            builder.gep(counts, [counted]),
        ]
        builder.call(builder.inttoptr(arguments[0], SIGNATURE.as_pointer()), values)
        return context.get_dummy_value()

    def behind(kind: Any, count: int) -> Any:
        return types.Tuple((kind[0], *(types.int64,) * count))

    return types.none(
        types.int64,
        behind(sums, 1),
        behind(left, 4),
        behind(panel, 2),
        parameters,
        behind(words, 1),
        behind(counts, 1),
    ), generate
