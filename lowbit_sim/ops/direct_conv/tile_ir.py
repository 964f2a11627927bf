"""Copies as LLVM instructions: runs of bytes, and the transpose of 8 x 8 elements. Importing it imports numba.

Of a tile eight rows are loaded; three rounds each interleave row i with row i + 4; eight columns are stored. That is
24 shuffles for 64 elements, where element by element 64 loads and stores would be due. LLVM makes of them what the
processor has.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

#: Rows and columns of a tile.
SIDE = 8

_INT64 = ir.IntType(64)


def _address(builder: ir.IRBuilder, base: ir.Value, step: ir.Value, count: int, kind: ir.Type) -> Any:
    """A pointer to what lies `count` steps of bytes behind `base`."""
    offset = builder.mul(step, ir.Constant(_INT64, count))
    return builder.inttoptr(builder.add(base, offset), kind.as_pointer())


def _interleaved(builder: ir.IRBuilder, rows: list[ir.Value], half: int) -> ir.Value:
    """Elements of two rows in turn, of their first or of their second half."""
    first = half * SIDE // 2
    order = [place + row * SIDE for place in range(first, first + SIDE // 2) for row in range(2)]
    mask: Any = ir.Constant(ir.VectorType(ir.IntType(32), SIDE), order)
    return builder.shuffle_vector(rows[0], rows[1], mask)


def _transposed(builder: ir.IRBuilder, rows: list[ir.Value]) -> list[ir.Value]:
    for _ in range(SIDE.bit_length() - 1):
        pairs = [[rows[i], rows[i + SIDE // 2]] for i in range(SIDE // 2)]
        rows = [_interleaved(builder, pair, half) for pair in pairs for half in range(2)]
    return rows


def _tile(bits: int):
    """The code generator of a transpose of elements of so many bits."""
    kind = ir.VectorType(ir.IntType(bits), SIDE)

    def generate(context, builder, signature, arguments):
        source, source_step, target, target_step, offset = arguments
        rows = []
        for i in range(SIDE):
            row = builder.load(_address(builder, source, source_step, i, kind))
            row.align = 1  # a wrong promise would be a fault
            rows.append(row)
        added = builder.trunc(offset, kind.element) if bits < 64 else offset
        each = ir.Constant(kind, ir.Undefined)
        for i in range(SIDE):
            each = builder.insert_element(each, added, ir.Constant(ir.IntType(32), i))
        for i, row in enumerate(_transposed(builder, rows)):
            store = builder.store(builder.add(row, each), _address(builder, target, target_step, i, kind))
            store.align = 1
        return context.get_dummy_value()

    return generate


_SIGNATURE = types.void(types.int64, types.int64, types.int64, types.int64, types.int64)


@intrinsic
def _transpose_bytes(typing_context, source, source_step, target, target_step, offset):
    """The columns of 8 rows of 8 bytes: addresses and steps of bytes; `offset` is added to each, modulo 256."""
    return _SIGNATURE, _tile(8)


@intrinsic
def _transpose_words(typing_context, source, source_step, target, target_step, offset):
    """The same of 8 rows of 8 words of 4 bytes."""
    return _SIGNATURE, _tile(32)


@intrinsic
def _copy_bytes(typing_context, source, target, count):
    """Copy so many bytes from one address to another; the two must not overlap."""

    def generate(context, builder, signature, arguments):
        source, target, count = arguments
        byte = ir.IntType(8).as_pointer()
        pointers = builder.inttoptr(target, byte), builder.inttoptr(source, byte)
        cgutils.raw_memcpy(builder, *pointers, count, 1)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), generate


def _piece(length: int):
    """The code generator of a copy of so many bytes through a register."""

    def generate(context, builder, signature, arguments):
        kind = ir.VectorType(ir.IntType(8), length).as_pointer()
        source, target = (builder.inttoptr(address, kind) for address in arguments)
        loaded = builder.load(source)
        loaded.align = 1
        builder.store(loaded, target).align = 1
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), generate


@intrinsic
def _copy_8(typing_context, source, target):
    """Copy 8 bytes: a call of the library's copy takes longer than so short a run."""
    return _piece(8)


@intrinsic
def _copy_16(typing_context, source, target):
    """Copy 16 bytes."""
    return _piece(16)


@intrinsic
def _copy_32(typing_context, source, target):
    """Copy 32 bytes."""
    return _piece(32)


#: numba passes the typing context itself, which a type checker can't know.
transpose_bytes: Any = _transpose_bytes
transpose_words: Any = _transpose_words
copy_bytes: Any = _copy_bytes
copy_8: Any = _copy_8
copy_16: Any = _copy_16
copy_32: Any = _copy_32
