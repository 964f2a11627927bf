"""Proofs that no accumulator can overflow, so that the order of summation does not matter.

For any order, every partial sum over a set S of k obeys

    |s| <= sum_{k in S} |a_ik b_kj| <= ||a_i,S||_2 ||b_S,j||_2      (Cauchy-Schwarz)
                                    <= ||a_i,S||_1 max|b_S,j|        (Hoelder), and the same with a and b swapped
                                    <= |S| max|a| max|b|             (range)

Inner sums run inside one chunk, outer sums over the whole reduction; each must fit its own accumulator. S may be
any set, so a tree of adders is covered as well. Norms are integers or float64 square roots rounded up, so a proof is
never claimed for a sum that could overflow.

A chunk's sum s that loses t bits moves on as at most |s| / 2^t + 1, whatever the rounding mode, so C of them add up
to at most sum |a_ik b_kj| / 2^t + C. Products from a table have no norms: only |S| max|table| bounds them.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from lowbit_sim.arith.mac import MacUnit, accumulator_range

# A float64 square root errs by half a unit in the last place and a product by another; this is well above both.
_ROUND_UP = 1.0 + 2.0**-50


#: The largest magnitude of an operand: a code of 16 bits less a zero point of 16 bits.
MAX_OPERAND = (1 << 16) - 1


@dataclass(frozen=True, kw_only=True)
class Unproven:
    """The part of a result that no bound covers: every unproven element lies in rows x columns.

    Attributes:
        rows: int64 indices, ascending.
        columns: int64 indices, ascending.
        why: The proof, or what failed, in words.
    """

    rows: Tensor
    columns: Tensor
    why: str

    @property
    def empty(self) -> bool:
        """Whether the whole result is proven."""
        return not (len(self.rows) and len(self.columns))


def magnitude(x: Tensor) -> int:
    """The largest |x|; 0 of an empty tensor."""
    if not x.numel():
        return 0
    low, high = torch.aminmax(x)
    return max(-int(low), int(high))


def magnitudes(*tensors: Tensor) -> list[int]:
    """The largest |x| of each tensor, none of them empty; a device is waited for once."""
    ends = torch.stack([end.to(torch.int64) for x in tensors for end in torch.aminmax(x)]).tolist()
    return [max(-low, high) for low, high in zip(ends[::2], ends[1::2], strict=True)]


def dtype_magnitude(x: Tensor) -> int:
    """An upper bound of |x| that needs no pass over the data."""
    return _largest_of(x.dtype)


@functools.cache
def _largest_of(dtype: torch.dtype) -> int:
    info = torch.iinfo(dtype)
    return max(-info.min, info.max)


def _limits(mac: MacUnit, reduction: int) -> tuple[int, int]:
    """The largest sum of magnitudes that no inner, and that no outer accumulator overflows at."""
    outer = accumulator_range(mac.result_bits)[1]
    if mac.truncated_bits:
        outer = max(outer - mac.chunks(reduction), 0) << mac.truncated_bits
    # Where the inner sum is exact, it overflows only when it reaches the outer accumulator.
    inner = outer if mac.overflow_at == "outer" else accumulator_range(mac.accumulator_bits)[1]
    if not _has_outer(mac):
        outer = inner
    return inner, outer


def _has_outer(mac: MacUnit) -> bool:
    """Whether an outer addition can overflow that the inner accumulator's width does not rule out."""
    return bool(mac.chunk or mac.outer_bits or mac.overflow_at == "outer")


def range_proof(mac: MacUnit, reduction: int, a_max: int, b_max: int) -> str | None:
    """The range bound as a proof in words, or None where it fails."""
    inner_limit, outer_limit = _limits(mac, reduction)
    chunk = min(mac.chunk_length(reduction), reduction)
    largest, factors = a_max * b_max, f"{a_max} x {b_max}"
    if not mac.exact_products:
        largest = mac.products.largest if mac.products else 0
        factors = f"{largest} (the largest product of {mac.products})"
    if chunk * largest > inner_limit or reduction * largest > outer_limit:
        return None
    return f"range: {reduction} x {factors} <= {min(inner_limit, outer_limit)}"


@functools.lru_cache(maxsize=1024)
def dtype_proof(mac: MacUnit, reduction: int, a: torch.dtype, b: torch.dtype) -> str | None:
    """`range_proof` for any operands of these dtypes; remembered, as small GEMMs take less time than it does."""
    return range_proof(mac, reduction, _largest_of(a), _largest_of(b))


def _norms(x: Tensor, chunk: int) -> Tensor:
    """L2 (rounded up), L1 and maximum of each row, float64 [3, n], each the largest over the row's chunks."""
    if x.device.type != "cpu":
        return _norms_on_device(x, chunk)
    from lowbit_sim.arith.norms_kernel import chunk_norms

    codes = x if x.dtype == torch.int8 else x.to(torch.int32)
    return _rounded_up([torch.from_numpy(n) for n in chunk_norms(codes.numpy(), chunk)])


def _rounded_up(norms: list[Tensor]) -> Tensor:
    """Sums of squares, sums and maxima, int64 [n] each, as `_norms` returns them."""
    found = torch.stack(norms).to(torch.float64)
    found[0].sqrt_()
    found[:2] *= _ROUND_UP
    return found


#: Elements that `_norms_on_device` widens at once.
_WIDENED = 1 << 26


def _norms_on_device(x: Tensor, chunk: int) -> Tensor:
    """`_norms` by torch's reductions: integer sums, exact in any order."""
    rows = max(1, _WIDENED // max(x.shape[1], 1))
    parts = [_integer_norms(part, chunk) for part in x.split(rows)]
    return _rounded_up([torch.cat(kind) for kind in zip(*parts, strict=True)])


def _integer_norms(x: Tensor, chunk: int) -> tuple[Tensor, Tensor, Tensor]:
    """Sum of squares, sum and maximum of the magnitudes of each row, int64, each the largest over its chunks."""
    # The narrowest dtype that holds a square.
    wide = {torch.int8: torch.int16, torch.uint8: torch.int32, torch.int16: torch.int32}.get(
        x.dtype, torch.int64
    )
    whole = F.pad(x, (0, -x.shape[1] % chunk)).to(wide).abs()
    by_chunk = whole.unflatten(1, (-1, chunk))
    squares = (by_chunk * by_chunk).sum(2, dtype=torch.int64).amax(1)
    return squares, by_chunk.sum(2, dtype=torch.int64).amax(1), whole.amax(1).to(torch.int64)


def _exceeds(rows: Tensor, columns: Tensor, limit: int) -> tuple[Tensor, Tensor]:
    """Masks of the rows and of the columns that no bound proves against all of the other side.

    L2 goes with L2, L1 with the other side's maximum.
    """
    largest_row, largest_column = (norms.amax(1, keepdim=True) for norms in (rows, columns))

    def fails(own: Tensor, other: Tensor) -> Tensor:
        return (own * other[[0, 2, 1]]).amin(0) * _ROUND_UP > limit

    return fails(rows, largest_column), fails(columns, largest_row)


def _all_unproven(a: Tensor, b: Tensor, why: str) -> Unproven:
    rows, columns = (torch.arange(n, device=a.device) for n in (a.shape[0], b.shape[1]))
    return Unproven(rows=rows, columns=columns, why=why)


def find_unproven(mac: MacUnit, a: Tensor, b: Tensor) -> Unproven:
    """Which part of a @ b no bound proves free of overflow.

    Args:
        mac: The MAC unit.
        a: Integers [M, K].
        b: Integers [K, N].
    """
    reduction = a.shape[1]
    nothing = torch.empty(0, dtype=torch.int64)
    proof = dtype_proof(mac, reduction, a.dtype, b.dtype)
    if not proof and a.device.type == "cpu":
        # A device would be waited for; the L1 norm times the maximum, below, is no larger than this bound.
        proof = range_proof(mac, reduction, magnitude(a), magnitude(b))
    if proof or not (a.numel() and b.numel()):
        return Unproven(rows=nothing, columns=nothing, why=proof or "empty")
    if not mac.exact_products:
        return _all_unproven(a, b, f"products of {mac.products} have no bound but their range")
    inner_limit, outer_limit = _limits(mac, reduction)
    chunk = min(mac.chunk_length(reduction), reduction)
    bad_rows, bad_columns = _exceeds(_norms(a, chunk), _norms(b.t(), chunk), inner_limit)
    # Inner sums that are unproven everywhere leave nothing to ask of the outer ones.
    everywhere = a.is_cpu and bool(bad_rows.all()) and bool(bad_columns.all())
    if not everywhere and (chunk < reduction or outer_limit < inner_limit):
        rows, columns = _exceeds(_norms(a, reduction), _norms(b.t(), reduction), outer_limit)
        bad_rows, bad_columns = bad_rows | rows, bad_columns | columns
    found = torch.stack([bad_rows.count_nonzero(), bad_columns.count_nonzero()]).tolist()
    if found == [a.shape[0], b.shape[1]]:
        return _all_unproven(
            a, b, f"no bound covers {found[0]} of {len(a)} rows x {found[1]} of {b.shape[1]} columns"
        )
    rows, columns = bad_rows.nonzero().flatten(), bad_columns.nonzero().flatten()
    if not (len(rows) and len(columns)):
        return Unproven(rows=nothing, columns=nothing, why="Cauchy-Schwarz and L1 norms fit the accumulator")
    why = f"no bound covers {len(rows)} of {len(a)} rows x {len(columns)} of {b.shape[1]} columns"
    return Unproven(rows=rows, columns=columns, why=why)
