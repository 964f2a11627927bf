"""The search as numba keeps it on disk between processes.

Numba compiles anew if the file of a kept function has changed, but not for a change in the functions that it calls.
Hence their sources are a part of its key: numba tells functions apart by the values that they close over.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from pathlib import Path

import numba

from hw_models.mapping.kernel import loops
from hw_models.mapping.kernel.inputs import Candidates


def _sources() -> int:
    """A number for the sources of all that is compiled."""
    return zlib.crc32(b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py"))))


def _kept(sources: int) -> Callable:
    @numba.njit(cache=True)
    def compiled_search(gemm, machine, m_sizes, n_sizes, k_sizes, places, objective, bound, room):
        _ = sources
        tiles = Candidates(m_sizes, n_sizes, k_sizes)
        return loops.search(gemm, machine, tiles, places, objective, bound, room)

    return compiled_search


#: `loops.search` of the candidates of M, N and K.
compiled_search = _kept(_sources())
