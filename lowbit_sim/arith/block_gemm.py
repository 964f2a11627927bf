"""The matrix product of block-scaled operands: a GEMM for each block of the reduction, then a scaled sum of them.

With blocks of B along the reduction, scales sa [M, C] and sb [C, N] and the sum s_c[m, n] of block c's products in
the MAC unit,

    term_c[m, n] = fp32(fp32(s_c[m, n]) fp32(sa[m, c] sb[c, n]))
    result[m, n] = the sum of the terms over c, in a floating-point unit of its own

as the dot product of OCP Microscaling Formats 1.0, section 6.2, where the sum's internal precision is left to the
implementation: here it is `mac` inside a block and `across` between blocks.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from lowbit_sim.arith import block_lanes
from lowbit_sim.arith.float_gemm import run_float_gemm
from lowbit_sim.arith.float_mac import FP32, FloatMacUnit
from lowbit_sim.arith.float_reference import rounded
from lowbit_sim.arith.gemm import run_gemm
from lowbit_sim.arith.mac import MacUnit
from lowbit_sim.arith.result import GemmResult
from lowbit_sim.numerics.random import Stream
from lowbit_sim.numerics.reference import float32
from lowbit_sim.numerics.rounding import Rounding
from lowbit_sim.numerics.whole import is_whole

#: The backend that sums the terms, by device.
_ROUNDING = {"cpu": "numba_cpu", "cuda": "triton_gpu"}

#: Terms that are held at once: rows of the result are taken in groups.
_TERMS = 1 << 24


def run_block_gemm(
    a: Tensor,
    b: Tensor,
    a_scale: Tensor | None,
    b_scale: Tensor | None,
    block: int,
    mac: MacUnit | FloatMacUnit,
    across: FloatMacUnit = FloatMacUnit(),
    *,
    stream: Stream | None = None,
    backend: str | None = None,
    count_overflows: bool = True,
) -> GemmResult:
    """Multiply block-scaled matrices.

    Args:
        a: Multiplicands [M, K]: integers for a `MacUnit`, float32 for a `FloatMacUnit`.
        b: Multiplicands [K, N], likewise.
        a_scale: float32 [M, ceil(K / block)], or None for factors of 1.
        b_scale: float32 [ceil(K / block), N], or None.
        block: Elements of the reduction that share a scale; the last block may be shorter.
        mac: The unit that sums the products of a block.
        across: The unit that sums the terms as if they were its products, over the blocks in order.
        stream: Address of the random bits, for stochastic rounding. With A and X the additions of a whole block in
            `mac` (0 where it draws nothing) and of the C blocks in `across`: block c draws from element c M N A on,
            as `run_float_gemm` does; the sum of result (m, n) draws elements C M N A + (m N + n) X and on.
        backend: "reference" for the definition, a backend's name to have it multiply the blocks, or None for
            the fastest that is exact.
        count_overflows: Whether overflows must be counted; see `run_gemm`.

    Returns:
        The result with float32 values [M, N] and with the counts of blocks and sum added up.

    Raises:
        TypeError: Multiplicands of the wrong kind, or scales that are not float32.
        ValueError: Shapes that don't fit, and what the two units' GEMMs raise.
    """
    _check(a, b, a_scale, b_scale, block)
    sa, sb = _scales(a, b, a_scale, b_scale, block)
    job = _Job(a, b, sa, sb, block, mac, across, stream, backend, count_overflows)
    return job.reference() if backend == "reference" else job.fast()


def _check(a: Tensor, b: Tensor, a_scale: Tensor | None, b_scale: Tensor | None, block: int) -> None:
    if not is_whole(block, 1, 1 << 62):
        raise ValueError(f"a block has 1 or more elements, got block={block}")
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[0]:
        raise ValueError(f"gemm takes [M, K] and [K, N], got {list(a.shape)} and {list(b.shape)}")
    blocks = -(-a.shape[1] // block)
    for name, scale, shape in (
        ("a_scale", a_scale, [a.shape[0], blocks]),
        ("b_scale", b_scale, [blocks, b.shape[1]]),
    ):
        if scale is None:
            continue
        if scale.dtype != torch.float32:
            raise TypeError(f"{name} takes float32, got {scale.dtype}")
        if list(scale.shape) != shape:
            raise ValueError(f"{name} takes {shape} for blocks of {block}, got {list(scale.shape)}")


def _scales(
    a: Tensor, b: Tensor, a_scale: Tensor | None, b_scale: Tensor | None, block: int
) -> tuple[Tensor, Tensor]:
    blocks = -(-a.shape[1] // block)
    one = torch.ones((), dtype=torch.float32, device=a.device)
    return (
        one.expand(a.shape[0], blocks) if a_scale is None else a_scale,
        one.expand(blocks, b.shape[1]) if b_scale is None else b_scale,
    )


@dataclasses.dataclass
class _Job:
    """The arguments of `run_block_gemm`, checked; scales are given."""

    a: Tensor
    b: Tensor
    sa: Tensor
    sb: Tensor
    block: int
    mac: MacUnit | FloatMacUnit
    across: FloatMacUnit
    stream: Stream | None
    backend: str | None
    count_overflows: bool

    @property
    def blocks(self) -> int:
        return self.sa.shape[1]

    def block_sums(self, c: int, rows: slice) -> GemmResult:
        """Block c's GEMM for some rows of the result."""
        part = slice(c * self.block, (c + 1) * self.block)
        a, b = self.a[rows, part], self.b[part]
        if isinstance(self.mac, MacUnit):
            return run_gemm(a, b, self.mac, backend=self.backend, count_overflows=self.count_overflows)
        first = c * self._block_draws + rows.start * b.shape[1] * self.mac.additions(a.shape[1])
        return run_float_gemm(a, b, self.mac, stream=self._from(first), backend=self.backend)

    def sum_terms(self, terms: Tensor, rows: slice, backend: str) -> GemmResult:
        """The sums over the blocks of terms [C, rows N], as the products 1 x term of a GEMM with one row."""
        first = self.blocks * self._block_draws + rows.start * self.b.shape[1] * self.across.additions(
            self.blocks
        )
        ones = torch.ones(1, self.blocks, dtype=torch.float32, device=terms.device)
        return run_float_gemm(ones, terms, self.across, stream=self._from(first), backend=backend)

    @property
    def _block_draws(self) -> int:
        """Elements of the stream that a block takes."""
        if isinstance(self.mac, MacUnit) or not self.mac.rounding.is_stochastic:
            return 0
        return self.a.shape[0] * self.b.shape[1] * self.mac.additions(self.block)

    def _from(self, element: int) -> Stream | None:
        if self.stream is None:
            return None
        return dataclasses.replace(self.stream, offset=self.stream.offset + element)

    def reference(self) -> GemmResult:
        rows = slice(0, self.a.shape[0])
        parts = [self.block_sums(c, rows) for c in range(self.blocks)]
        terms = torch.empty(self.blocks, self.a.shape[0], self.b.shape[1], dtype=torch.float32)
        scales_a, scales_b = self.sa.tolist(), self.sb.tolist()
        for c, part in enumerate(parts):
            for i, row in enumerate(part.values.tolist()):
                for j, total in enumerate(row):
                    terms[c, i, j] = reference_term(total, scales_a[i][c], scales_b[c][j])
        parts.append(self.sum_terms(terms.flatten(1), rows, "reference"))
        return self._joined(parts[-1].values, parts)

    def fast(self) -> GemmResult:
        if self.backend is None:
            in_lanes = block_lanes.run(
                self.a, self.b, self.sa, self.sb, self.block, self.mac, self.across, self.count_overflows
            )
            if isinstance(in_lanes, GemmResult):
                return in_lanes
        m, n = self.a.shape[0], self.b.shape[1]
        step = max(1, _TERMS // max(1, self.blocks * n))
        values, parts = torch.empty(m, n, dtype=torch.float32, device=self.a.device), []
        for start in range(0, max(m, 1), step):
            rows = slice(start, min(start + step, m))
            terms = torch.empty(self.blocks, rows.stop - start, n, dtype=torch.float32, device=self.a.device)
            for c in range(self.blocks):
                parts.append(self.block_sums(c, rows))
                torch.mul(self.sa[rows, c, None], self.sb[c], out=terms[c])
                terms[c] *= parts[-1].values.to(torch.float32)
                parts[-1] = dataclasses.replace(parts[-1], values=values[:0])
            parts.append(self.sum_terms(terms.flatten(1), rows, _ROUNDING[self.a.device.type]))
            values[rows] = parts[-1].values.view(rows.stop - start, n)
        return self._joined(values, parts)

    def _joined(self, values: Tensor, parts: list[GemmResult]) -> GemmResult:
        """One result of the blocks' and the sums'."""
        overflows = [p.overflows for p in parts]
        return GemmResult(
            values=values.view(self.a.shape[0], self.b.shape[1]),
            overflows=None if None in overflows else sum(o for o in overflows if o is not None),
            swamped=sum(p.swamped or 0 for p in parts),
            additions=sum(p.additions for p in parts),
            backend="+".join(dict.fromkeys(p.backend for p in parts)),
            why=_reasons(parts),
        )


def _reasons(parts: list[GemmResult]) -> str:
    """Why the blocks, and at last the sum, took the path they took."""
    blocks = list(dict.fromkeys(p.why for p in parts[:-1]))
    more = f" (and {len(blocks) - 1} other reasons)" if len(blocks) > 1 else ""
    return "; ".join([f"block: {why}{more}" for why in blocks[:1]] + [f"sum: {p.why}" for p in parts[-1:]])


def reference_term(total: float, scale_a: float, scale_b: float) -> float:
    """A block's sum, an integer or a float32 value, times its scales: three roundings to float32."""
    if isinstance(total, int):
        total = rounded(total, FP32, Rounding(overflow="infinity"))
    # The product of two float32 values is exact in a Python float, so each is rounded once.
    return float32(total * float32(scale_a * scale_b))
