"""Codes to values by table, in one pass. Importing this module imports numba."""

from __future__ import annotations

import numba
import numpy as np

from lowbit_sim.numerics.kernel_cache import cached
from lowbit_sim.numerics.threads import match_torch_threads, prepare_numba

prepare_numba()

#: Elements that one thread takes at a time.
_PIECE = 1 << 14


@cached(parallel=True)
def _look_up(codes, table, values):
    for piece in numba.prange((codes.size + _PIECE - 1) // _PIECE):
        part = codes[piece * _PIECE : (piece + 1) * _PIECE]
        out = values[piece * _PIECE : (piece + 1) * _PIECE]
        for i in range(part.size):
            out[i] = table[part[i]]


def look_up(codes: np.ndarray, table: np.ndarray, values: np.ndarray) -> None:
    """values[i] = table[codes[i]].

    Args:
        codes: Integer [n], at least 0 and below the table's size.
        table: float32.
        values: float32 [n], written.
    """
    match_torch_threads(codes.size // _PIECE)
    _look_up(codes, table, values)
