"""Keep what every GEMM was given and what came out, to compare runs and to check them against the reference."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from torch import Tensor

from lowbit_sim.arith.spec import GemmSpec
from lowbit_sim.trace import Role


@dataclass(frozen=True, kw_only=True)
class CapturedGemm:
    """One role of one call of an operator: its GEMMs, one for each group or matrix of a batch.

    Attributes:
        layer: Module path.
        role: Which of the operator's GEMMs.
        spec: Its numerics; None if it ran natively, in float32.
        sample: Which of several independent quantisations of the left operand.
        lhs: Left operands [M, K]: whole numbers for a `MacUnit`, float32 values for a `FloatMacUnit`; of a native
            GEMM the one real tensor in its own layout.
        rhs: Right operands [K, N], likewise.
        lhs_scale: What the left operand's values are times: block scales [M, blocks], or broadcasting against
            the result; None for none.
        rhs_scale: The right operand's, with blocks [blocks, N].
        sums: What left the accumulators, [M, N] each; empty for a native GEMM.
        result: The result tensor, float32.
    """

    layer: str
    role: Role
    spec: GemmSpec | None
    sample: int = 0
    lhs: tuple[Tensor, ...]
    rhs: tuple[Tensor, ...]
    lhs_scale: tuple[Tensor, ...] = ()
    rhs_scale: tuple[Tensor, ...] = ()
    sums: tuple[Tensor, ...] = ()
    result: Tensor


@dataclass
class Capture:
    """The GEMMs of a stretch of execution, in the order in which they ran."""

    gemms: list[CapturedGemm] = field(default_factory=list)


_active: list[Capture] = []


@contextmanager
def capture() -> Iterator[Capture]:
    """Keep every emulated operator's GEMMs that run inside the block, backward passes included.

    The tensors are kept as they are, so memory grows with every GEMM. Captures nest, as `trace.record` does.
    """
    kept = Capture()
    _active.append(kept)
    try:
        yield kept
    finally:
        _active[:] = [c for c in _active if c is not kept]


def capturing() -> bool:
    """Whether any capture is active."""
    return bool(_active)


def keep(gemm: CapturedGemm) -> None:
    """Add a GEMM to every active capture."""
    for kept in _active:
        kept.gemms.append(gemm)


def present(tensors: Sequence[Tensor | None]) -> tuple[Tensor, ...]:
    """The tensors that are there."""
    return tuple(t for t in tensors if t is not None)
