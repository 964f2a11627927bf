"""The search as numba keeps it on disk between processes. Importing this module imports numba."""

from __future__ import annotations

from hw_models.mapping.kernel import loops
from hw_models.mapping.kernel.inputs import Candidates
from lowbit_sim.numerics.kernel_cache import cached


@cached()
def compiled_search(gemm, machine, m_sizes, n_sizes, k_sizes, places, objective, bound, room):
    """`loops.search` of the candidates of M, N and K."""
    tiles = Candidates(m_sizes, n_sizes, k_sizes)
    return loops.search(gemm, machine, tiles, places, objective, bound, room)
