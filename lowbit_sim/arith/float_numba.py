"""The floating-point accumulator, compiled: the twin of `float_reference` for when additions round.

Sums in sequence of products that are float32 values are computed in float32 lanes (`lanes`) wherever a first rounding
to float32 provably leaves the second one right; all else takes a kernel that adds in float64 and rounds in integers.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from lowbit_sim.arith import lanes_gemm as lanes
from lowbit_sim.arith.float_mac import FloatMacUnit
from lowbit_sim.arith.lanes_plan import MODES, Extent, Plan, extent
from lowbit_sim.arith.lanes_plan import plan as make_plan
from lowbit_sim.arith.result import GemmResult
from lowbit_sim.numerics.formats import FloatFormat
from lowbit_sim.numerics.random import Stream, draw_width
from lowbit_sim.numerics.reference import overflow_code
from lowbit_sim.numerics.rounding import Rounding

NAME = "numba_cpu"

#: Accumulators that one task holds.
BLOCK = 512

#: Products that a task holds at once for a tree, and its fewest accumulators.
_TREE_TERMS = 1 << 16
_SMALLEST_BLOCK = 16

#: Multiply-accumulates that make another thread worth starting.
_MACS_PER_THREAD = 1 << 15


def why_not(mac: FloatMacUnit, a: Tensor, b: Tensor) -> str | None:
    """None, or why the compiled accumulator can't run."""
    if a.device.type != "cpu":
        return f"runs on the CPU, the operands are on {a.device}"
    return None


def kernel_format(fmt: FloatFormat | None, rounding: Rounding) -> tuple[int, int, int, float, float, int]:
    """A format as `float_kernel` takes it; -1 mantissa bits for none."""
    if fmt is None:
        return -1, 0, 0, 0.0, 0.0, 0
    code = overflow_code(fmt, rounding)
    beyond = fmt.max_value if code == fmt.max_code else np.inf if code == fmt.infinity_code else np.nan
    below = fmt.mantissa_bits if fmt.has_subnormals else 0
    has_nan = int(fmt.nan_code is not None)
    return fmt.mantissa_bits, fmt.min_exponent, below, float(fmt.max_value), beyond, has_nan


def run(
    mac: FloatMacUnit,
    a: Tensor,
    b: Tensor,
    stream: Stream | None,
    counting: bool = True,
    extents: tuple[Extent, Extent] | None = None,
) -> GemmResult:
    """a [M, K] times b [K, N].

    Args:
        mac: The multiply-accumulate unit.
        a: float32 [M, K].
        b: float32 [K, N].
        stream: Address of the random bits.
        counting: False where nobody asks for overflows and swamped additions: the faster path does without.
        extents: Of a and b, where they are known.
    """
    known = extents or (extent(a), extent(b))
    plan = make_plan(mac, *known, a.shape[1]) if a.numel() and b.numel() else "there is nothing to add"
    if isinstance(plan, Plan):
        return lanes.run(mac, plan, a[None], b[None], stream, counting)[0]
    # a b = (b^T a^T)^T, and products commute: the long side becomes the contiguous row of accumulators.
    transposed = a.shape[0] > b.shape[1]
    left, right = (b.t(), a.t()) if transposed else (a, b)
    left, right = left.contiguous().numpy(), right.contiguous().numpy()
    out = np.zeros((left.shape[0], right.shape[1]), dtype=np.float32)
    counts = _accumulate(mac, left, right, stream, transposed, out)
    overflowed, swamped, impossible = (int(c) for c in counts[:3])
    if impossible:
        raise ValueError(f"{impossible} sums are NaN, which a format of this unit has no code for: {mac}")
    return GemmResult(
        values=torch.from_numpy(np.ascontiguousarray(out.T if transposed else out)),
        overflows=overflowed,
        swamped=swamped,
        backend=NAME,
        why=f"a rounding for each addition, in float64, as {plan}",
    )


def _threads(out: np.ndarray, reduction: int) -> None:
    from lowbit_sim.numerics.threads import match_torch_threads

    match_torch_threads(out.size * reduction // _MACS_PER_THREAD)


def _accumulate(
    mac: FloatMacUnit,
    left: np.ndarray,
    right: np.ndarray,
    stream: Stream | None,
    transposed: bool,
    out: np.ndarray,
) -> np.ndarray:
    from lowbit_sim.arith.float_kernel import accumulate

    reduction = left.shape[1]
    chunk = mac.chunk_length(reduction)
    tree = mac.order == "tree"
    block = max(_SMALLEST_BLOCK, min(BLOCK, _TREE_TERMS // min(chunk, max(reduction, 1)))) if tree else BLOCK
    counts = np.zeros((left.shape[0] * -(-right.shape[1] // block), 4), dtype=np.int64)
    if not (out.size and reduction):
        return counts.sum(0)
    per_result = mac.additions(reduction)
    # Result (m, n) draws from element (m N + n) per_result on, whichever way round the product is computed.
    strides = (1, left.shape[0]) if transposed else (right.shape[1], 1)
    offset = stream.offset if stream else 0
    _threads(out, reduction)
    accumulate(
        left,
        right,
        chunk,
        (
            kernel_format(mac.accumulator, mac.rounding),
            kernel_format(mac.result_format, mac.rounding),
            kernel_format(mac.product, mac.rounding_of_products),
        ),
        (MODES[mac.rounding.mode], MODES[mac.rounding_of_products.mode]),
        (mac.has_outer, tree, mac.kahan),
        block,
        kernel_draws(mac.rounding, stream),
        (offset, strides[0] * per_result, strides[1] * per_result),
        out,
        counts,
    )
    return counts.sum(0)


def kernel_draws(rounding: Rounding, stream: Stream | None) -> tuple[int, ...]:
    """Random bits and their address as `float_kernel` takes them; 0 bits where none are drawn."""
    bits = rounding.random_bits
    s = stream or Stream(seed=0)
    return bits, draw_width(bits), s.seed, s.operand, s.step, s.site
