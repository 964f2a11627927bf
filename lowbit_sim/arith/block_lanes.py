"""Block-scaled matrices in float32 lanes: blocks, scales and the sum over the blocks in one kernel.

It serves where a block's sums are computed in lanes without overflow (`lanes_plan`), or are integers below 2^24 that
no accumulator of the unit overflows at, and the sum over the blocks is a plain float32 one that stays finite: then a
block is a chunk whose sum is scaled before it moves on to the outer accumulator.
"""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import Tensor

from lowbit_sim.arith import lanes_gemm
from lowbit_sim.arith.bounds import dtype_magnitude, range_proof
from lowbit_sim.arith.float_mac import FP32, FloatMacUnit
from lowbit_sim.arith.lanes_plan import DIRECT, Plan, extent, growth, is_float32, plan
from lowbit_sim.arith.mac import MacUnit
from lowbit_sim.arith.result import GemmResult
from lowbit_sim.numerics.rounding import RoundingMode
from lowbit_sim.numerics.threads import refuse_flushed_subnormals

#: Sums of the terms below this are finite.
_LARGEST = 2.0**126

#: Integers below this are float32 values.
_WHOLE = 1 << 24


def run(
    a: Tensor,
    b: Tensor,
    sa: Tensor,
    sb: Tensor,
    block: int,
    mac: MacUnit | FloatMacUnit,
    across: FloatMacUnit,
    counting: bool,
) -> GemmResult | str:
    """The arguments of `run_block_gemm`; or why lanes can't compute them."""
    reason = _why_not(a, b, across)
    if reason:
        return reason
    unit = _unit(a, b, block, mac)
    if isinstance(unit, str):
        return unit
    refuse_flushed_subnormals()
    left, right = a.detach().to(torch.float32), b.detach().to(torch.float32)
    known = extent(left), extent(right)
    found = plan(unit, *known, min(block, a.shape[1]))
    if isinstance(found, str) or found.may_overflow:
        return found if isinstance(found, str) else "a block's sum may overflow"
    largest = growth(
        min(block, a.shape[1]), known[0].largest * known[1].largest, unit.accumulator, unit.rounding
    )
    largest *= sa.shape[1] * float(sa.abs().amax()) * float(sb.abs().amax())
    if not largest <= _LARGEST:
        return f"sums of up to {largest:.4g} may leave float32"
    chunked = dataclasses.replace(unit, chunk=block, outer=FP32)
    blocks = Plan(inner=found.inner, outer=DIRECT, may_overflow=False, why=found.why)
    [result] = lanes_gemm.run(
        chunked,
        blocks,
        left[None],
        right[None],
        None,
        counting,
        scales=(sa.detach()[None], sb.detach()[None]),
    )
    return dataclasses.replace(
        result, additions=_additions(a, b, block, mac, across), why=f"block: {found.why}; sum: {found.why}"
    )


def _why_not(a: Tensor, b: Tensor, across: FloatMacUnit) -> str | None:
    if a.device.type != "cpu" or b.device.type != "cpu" or not (a.numel() and b.numel()):
        return "lanes run on the CPU, where there is something to add"
    plain = not (across.has_outer or across.kahan or across.product) and across.order == "sequential"
    if not plain or not is_float32(across.accumulator) or across.rounding.mode != RoundingMode.NEAREST_EVEN:
        return "the sum over the blocks is no plain one in float32"
    return None


def _unit(a: Tensor, b: Tensor, block: int, mac: MacUnit | FloatMacUnit) -> FloatMacUnit | str:
    """The unit of floats that sums a block as `mac` does."""
    if isinstance(mac, FloatMacUnit):
        if a.dtype != torch.float32 or b.dtype != torch.float32:
            return f"no float32 values, but {a.dtype} and {b.dtype}"
        if mac.has_outer or mac.rounding.is_stochastic:
            return "a block has an outer accumulator or random bits of its own"
        return mac
    if a.dtype not in (torch.int8, torch.uint8) or b.dtype not in (torch.int8, torch.uint8):
        return f"codes of {a.dtype} and {b.dtype} may be too large"
    length, largest = min(block, a.shape[1]), (dtype_magnitude(a), dtype_magnitude(b))
    if not mac.exact_products or mac.truncated_bits or length * math.prod(largest) >= _WHOLE:
        return "a block's sums are not exact in float32"
    return FloatMacUnit() if range_proof(mac, length, *largest) else "a block's sum may overflow"


def _additions(a: Tensor, b: Tensor, block: int, mac: MacUnit | FloatMacUnit, across: FloatMacUnit) -> int:
    whole, rest = divmod(a.shape[1], block)
    inner = whole * mac.additions(block) + (mac.additions(rest) if rest else 0)
    return a.shape[0] * b.shape[1] * (inner + across.additions(whole + bool(rest)))
