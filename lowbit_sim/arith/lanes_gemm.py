"""GEMMs in float32 lanes: from tensors to the compiled loops of `lanes_kernel` and back."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lowbit_sim.arith.float_mac import FloatMacUnit
from lowbit_sim.arith.lanes_plan import COUNTS, NOTHING, OVERFLOWS, Plan, parameters
from lowbit_sim.arith.result import GemmResult
from lowbit_sim.numerics.memory import empty
from lowbit_sim.numerics.random import Stream

NAME = "numba_cpu"

#: Tasks wanted of a GEMM, so that threads finish together; and the most rows of one.
_TASKS = 16
_MOST_ROWS = 256

#: Multiply-accumulates that make another thread worth starting.
_MACS_PER_THREAD = 1 << 18

#: Multiply-accumulates of lanes that take as long as copying a number to a panel.
_MACS_PER_COPY = 16

_NO_SCALES = np.ones((1, 1, 1), dtype=np.float32)


@dataclass(frozen=True, kw_only=True)
class _Tiling:
    """How the results are cut up.

    Attributes:
        transposed: Whether the product is computed as (b^T a^T)^T.
        rows: Rows of a tile.
        vectors: Vectors of a tile's row.
        slab: Rows of a task.
        panels: Tiles side by side.
    """

    transposed: bool
    rows: int
    vectors: int
    slab: int
    panels: int


def run(
    mac: FloatMacUnit,
    plan: Plan,
    a: Tensor,
    b: Tensor,
    stream: Stream | None,
    counting: bool,
    *,
    scales: tuple[Tensor, Tensor] | None = None,
    apart: int = 0,
) -> list[GemmResult]:
    """The products of matrices a [G, M, K] and b [G, K, N].

    Args:
        mac: The multiply-accumulate unit.
        plan: That the lanes have its bits; the operands are not empty.
        a: float32.
        b: float32.
        stream: Address of the random bits.
        counting: Whether overflows and swamped additions are counted.
        scales: Factors of the chunks' sums, float32 [G, M, chunks] and [G, chunks, N]: each sum is multiplied with
            their product before it moves on.
        apart: Elements of the stream from one matrix to the next.

    Returns:
        A result for each matrix.
    """
    out = empty((a.shape[0], a.shape[1], b.shape[2]), torch.float32)
    overflows, swamped = _launch(mac, plan, a, b, stream, counting, scales, apart, out)
    return [
        GemmResult(
            values=matrix,
            overflows=overflows[g] if counting else None if plan.may_overflow else 0,
            swamped=swamped[g] if counting else None,
            backend=NAME,
            why=plan.why,
        )
        for g, matrix in enumerate(out.unbind())
    ]


def _launch(
    mac: FloatMacUnit,
    plan: Plan,
    a: Tensor,
    b: Tensor,
    stream: Stream | None,
    counting: bool,
    scales: tuple[Tensor, Tensor] | None,
    apart: int,
    out: Tensor,
) -> tuple[list[int], list[int]]:
    """Fills `out`; overflows and swamped additions of each matrix."""
    from lowbit_sim.arith.lanes import LANES
    from lowbit_sim.arith.lanes_call import function
    from lowbit_sim.arith.lanes_kernel import accumulate
    from lowbit_sim.numerics.threads import match_torch_threads

    checks = COUNTS if counting else OVERFLOWS if plan.may_overflow else NOTHING
    tiling = _tiling(out.shape, plan.inner, checks)
    batch, reduction = a.shape[0], a.shape[2]
    per_result = mac.additions(reduction)
    s = stream or Stream(seed=0)
    # Result (m, n) draws from element (m N + n) per_result on, whichever way round the product is computed.
    draws = (s.seed, s.operand, s.step, s.site, s.offset, apart, out.shape[2] * per_result, per_result)
    result = out
    if tiling.transposed:
        # a b = (b^T a^T)^T, and products commute.
        a, b, result = b.transpose(1, 2), a.transpose(1, 2), out.transpose(1, 2)
        scales = None if scales is None else (scales[1].transpose(1, 2), scales[0].transpose(1, 2))
        draws = (*draws[:6], draws[7], draws[6])
    left, right = _dense(a), _dense(b)
    rows, columns = result.shape[1:]
    tasks = batch * -(-rows // tiling.slab) * tiling.panels
    counts = np.zeros(2 * tasks, dtype=np.int64)
    words = [parameters(fmt, mac.rounding) for fmt in (mac.accumulator, mac.result_format)]
    match_torch_threads(out.numel() * reduction // _MACS_PER_THREAD)
    unit = (
        mac.chunk_length(reduction),
        (
            function(plan.inner, checks, tiling.rows, tiling.vectors)[1],
            function(plan.outer, checks, 1, tiling.rows * tiling.vectors)[1] if mac.has_outer else 0,
        ),
        np.array(words, dtype=np.int64).astype(np.int32),
        (mac.has_outer, scales is not None, mac.rounding.is_stochastic),
        tuple(x.contiguous().numpy() for x in scales) if scales else (_NO_SCALES, _NO_SCALES),
        draws,
    )
    accumulate(
        tasks,
        (_flat(left), _flat(right)),
        (rows, reduction, columns, tiling.slab),
        (*left.stride(), *right.stride(), *result.stride()),
        (tiling.rows, tiling.vectors * LANES),
        unit,
        _memory(tiling, mac),
        _flat(out),
        counts,
    )
    each = counts.reshape(batch, -1, 2).sum(1)
    return each[:, 0].tolist(), each[:, 1].tolist()


def _tiling(shape: torch.Size, kind: int, checks: int) -> _Tiling:
    """The cheaper of both ways round; the result's shape is [G, M, N]."""
    batch, m, n = shape
    (straight, cost), (across, other) = (_one_way(batch, *sides, kind, checks) for sides in ((m, n), (n, m)))
    return straight if cost <= other else dataclasses.replace(across, transposed=True)


def _one_way(batch: int, rows: int, columns: int, kind: int, checks: int) -> tuple[_Tiling, int]:
    """A tiling, and what it costs for each k: multiply-accumulates of padded tiles, and the panels' copies."""
    from lowbit_sim.arith.lanes import LANES
    from lowbit_sim.arith.lanes_tile import MOST_VECTORS, shape

    wanted = -(-columns // LANES)
    panels = -(-wanted // MOST_VECTORS)
    vectors = -(-wanted // panels)
    tile_rows = shape(kind, checks, vectors)
    slab = min(_MOST_ROWS, -(-rows // max(1, _TASKS // (batch * panels))))
    slab = -(-slab // tile_rows) * tile_rows
    slabs = -(-rows // slab)
    padded = -(-rows // tile_rows) * tile_rows * panels * vectors * LANES
    cost = padded + _MACS_PER_COPY * slabs * columns
    return _Tiling(transposed=False, rows=tile_rows, vectors=vectors, slab=slab, panels=panels), cost


def _memory(tiling: _Tiling, mac: FloatMacUnit) -> tuple[np.ndarray, ...]:
    """What the threads of `accumulate` work in."""
    import numba

    from lowbit_sim.arith.lanes import LANES
    from lowbit_sim.arith.lanes_kernel import PIECE

    threads, width = numba.get_num_threads(), tiling.vectors * LANES
    size = (PIECE + (2 if mac.has_outer else 1) * tiling.slab) * width
    accumulators = tiling.rows * width if mac.rounding.is_stochastic else 0
    # Vectors that begin on cache lines.
    floats = np.empty(threads * size + LANES, dtype=np.float32)
    skipped = -(floats.ctypes.data // floats.itemsize) % LANES
    return (
        floats[skipped : skipped + threads * size].reshape(threads, size),
        np.empty((threads, 12 * accumulators), dtype=np.uint32),
        np.empty((threads, 2 * accumulators), dtype=np.int32),
        np.empty((threads, accumulators + 1), dtype=np.int64),
        np.ones(1, dtype=np.float32),
    )


def _dense(x: Tensor) -> Tensor:
    """Matrices one after the other, each of them contiguous or its transpose so."""
    return x if x.is_contiguous() or x.transpose(1, 2).is_contiguous() else x.contiguous()


def _flat(x: Tensor) -> np.ndarray:
    """The memory of dense matrices."""
    return x.as_strided((x.numel(),), (1,)).numpy()
