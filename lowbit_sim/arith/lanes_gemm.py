"""GEMMs in float32 lanes: from tensors to the compiled loops of `lanes_kernel` and back."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from lowbit_sim.arith.float_mac import FloatMacUnit
from lowbit_sim.arith.lanes_plan import Plan, parameters
from lowbit_sim.arith.result import GemmResult
from lowbit_sim.numerics.random import Stream

NAME = "numba_cpu"

#: Tasks wanted of a GEMM, so that threads finish together; and the most rows of one.
_TASKS = 16
_MOST_ROWS = 256

#: Multiply-accumulates that make another thread worth starting.
_MACS_PER_THREAD = 1 << 18

_NO_SCALES = np.ones((1, 1, 1), dtype=np.float32)


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
    # a b = (b^T a^T)^T, and products commute: the long side becomes the row of accumulators.
    transposed = a.shape[1] > b.shape[2]
    if transposed:
        a, b = b.transpose(1, 2), a.transpose(1, 2)
        scales = None if scales is None else (scales[1].transpose(1, 2), scales[0].transpose(1, 2))
    out = torch.empty(a.shape[0], a.shape[1], b.shape[2], dtype=torch.float32)
    overflows, swamped = _launch(mac, plan, a, b, stream, counting, scales, apart, transposed, out)
    values = out.transpose(1, 2).contiguous() if transposed else out
    return [
        GemmResult(
            values=matrix,
            overflows=overflows[g] if counting else None if plan.may_overflow else 0,
            swamped=swamped[g] if counting else None,
            backend=NAME,
            why=plan.why,
        )
        for g, matrix in enumerate(values.unbind())
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
    transposed: bool,
    out: Tensor,
) -> tuple[list[int], list[int]]:
    """Fills `out`; overflows and swamped additions of each matrix."""
    from lowbit_sim.arith.lanes import COLUMNS
    from lowbit_sim.arith.lanes_kernel import accumulate
    from lowbit_sim.arith.lanes_tile import variants
    from lowbit_sim.numerics.threads import match_torch_threads

    batch, rows, reduction = a.shape
    columns = b.shape[2]
    panels = -(-columns // COLUMNS)
    slab = -(-rows // max(1, _TASKS // (batch * panels)))
    slab = min(_MOST_ROWS, -(-slab // 4) * 4)
    tasks = batch * -(-rows // slab) * panels
    checked = counting or plan.may_overflow
    one, several = variants(plan.inner, checked)
    counts = np.zeros((tasks, 2), dtype=np.int64)
    s = stream or Stream(seed=0)
    per_result = mac.additions(reduction)
    # Result (m, n) draws from element (m N + n) per_result on, whichever way round the product is computed.
    strides = (1, rows) if transposed else (columns, 1)
    match_torch_threads(out.numel() * reduction // _MACS_PER_THREAD)
    words = [parameters(fmt, mac.rounding) for fmt in (mac.accumulator, mac.result_format)]
    accumulate(
        tasks,
        a.contiguous().numpy(),
        b.contiguous().numpy(),
        mac.chunk_length(reduction),
        (one, several, variants(plan.outer, checked)[0]),
        np.array(words, dtype=np.int64).astype(np.int32),
        (mac.has_outer, scales is not None),
        (_NO_SCALES, _NO_SCALES)
        if scales is None
        else (scales[0].contiguous().numpy(), scales[1].contiguous().numpy()),
        (
            s.seed,
            s.operand,
            s.step,
            s.site,
            s.offset,
            apart,
            strides[0] * per_result,
            strides[1] * per_result,
        ),
        slab,
        out.numpy(),
        counts,
    )
    each = counts.reshape(batch, -1, 2).sum(1)
    return each[:, 0].tolist(), each[:, 1].tolist()
