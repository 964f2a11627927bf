"""GEMMs of one operator whose sums are proven to fit before any of them is added: no matrix needs to be looked at.

Where both operands are integers within int8 (codes of signed formats of up to 8 bits and of unsigned ones of up to
7), the largest codes that their formats have bound
every partial sum (`arith.bounds.range_proof`). Then the result is fp32(sums) * fp32(lhs scale * rhs scale) in any
order of addition, and a layout may have a faster way to it than matrices (`Contraction.scaled_sums`). Without such a
proof, or while somebody watches the single GEMMs, `product.py` goes the general way, which gives the same bits.
"""

from __future__ import annotations

import functools

import torch

from lowbit_sim.arith.bounds import range_proof
from lowbit_sim.arith.mac import MacUnit
from lowbit_sim.arith.spec import GemmSpec
from lowbit_sim.numerics.formats import Format, IntFormat
from lowbit_sim.ops.backend import forced_backend
from lowbit_sim.ops.capture import capturing
from lowbit_sim.ops.contraction import BoundedCodes
from lowbit_sim.ops.operand import Operands
from lowbit_sim.quant.qtensor import QTensor
from lowbit_sim.trace import recording

#: Sums of magnitudes below this are exact in the int32 accumulators of a library.
_INT32_EXACT = 1 << 31


def codes_of(
    spec: GemmSpec, lhs: Operands, rhs: Operands, reduction: int
) -> tuple[BoundedCodes, BoundedCodes] | None:
    """Both operands' codes where every sum is proven to fit, or None where the general way must be gone.

    Args:
        spec: The GEMM's numerics.
        lhs: The left operand.
        rhs: The right operand.
        reduction: K.
    """
    if recording() or capturing() or forced_backend() is not None:
        return None
    if spec.samples > 1 or not (lhs.quantized and rhs.quantized):
        return None
    a, b = lhs.quantized[0], rhs.quantized[0]
    if not (_plain(a) and _plain(b) and _fits(spec.mac, a.format, b.format, reduction)):
        return None
    return (
        BoundedCodes(codes=a.integers().contiguous(), largest=_largest(a.format)),
        BoundedCodes(codes=b.integers().contiguous(), largest=_largest(b.format)),
    )


def _plain(q: QTensor) -> bool:
    """Whether a library can multiply the codes as they are."""
    if q.zero_point is not None or q.codes.device.type != "cpu" or not isinstance(q.format, IntFormat):
        return False
    return q.integers().dtype == torch.int8


def _largest(fmt: Format) -> int:
    assert isinstance(fmt, IntFormat)
    return max(-fmt.qmin, fmt.qmax)


@functools.lru_cache(maxsize=1024)
def _fits(mac: object, lhs: Format, rhs: Format, reduction: int) -> bool:
    """Whether the formats alone bound every sum within the accumulator and within int32."""
    if not (isinstance(mac, MacUnit) and isinstance(lhs, IntFormat) and isinstance(rhs, IntFormat)):
        return False
    if not mac.exact_products or mac.truncated_bits:
        return False
    a, b = _largest(lhs), _largest(rhs)
    return reduction * a * b < _INT32_EXACT and range_proof(mac, reduction, a, b) is not None
