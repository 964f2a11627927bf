"""Run every GEMM of the operators on one named backend, to compare it with another."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from lowbit_sim.arith.gemm import BACKENDS
from lowbit_sim.numerics.suggest import unknown

_forced: list[str] = []


@contextmanager
def using_backend(name: str) -> Iterator[None]:
    """Force the backend of the GEMMs that run inside the block; the innermost block decides.

    A backend that can't run one of them raises ValueError there, with the reason.

    Raises:
        ValueError: An unknown name.
    """
    if name not in BACKENDS:
        raise ValueError(unknown("backend", name, BACKENDS))
    _forced.append(name)
    try:
        yield
    finally:
        _forced.pop()


def forced_backend() -> str | None:
    """The backend asked for, or None for the fastest that is exact."""
    return _forced[-1] if _forced else None
