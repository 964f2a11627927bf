"""A GEMM's operand: from the layer's tensor over codes and scales to what enters the multipliers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from lowbit_sim.arith.mac import MacUnit
from lowbit_sim.arith.spec import GemmSpec
from lowbit_sim.numerics.formats import (
    BlockFormat,
    CodebookFormat,
    ElementFormat,
    ExponentFormat,
    FixedFormat,
    FloatFormat,
    IntFormat,
)
from lowbit_sim.numerics.random import Stream, draw
from lowbit_sim.numerics.reference_tables import table_code
from lowbit_sim.numerics.rounding import Rounding
from lowbit_sim.ops.capture import CapturedGemm
from lowbit_sim.ops.contraction import TENSORS, Contraction, Side
from lowbit_sim.ops.operand import CallSite, operand_stream, quantize_operand
from lowbit_sim.quant.qtensor import QTensor
from lowbit_sim.quant.quantizer import Quantizer
from lowbit_sim.quant.reference import float_block_code
from lowbit_sim.quant.regions import absmax
from lowbit_sim.study.vectors import schema
from lowbit_sim.study.vectors.digits import code_digits, float32_digits, float32s, tensor_digits
from lowbit_sim.study.vectors.numbers import exponent_number, float_number, number, rounding


@dataclass(frozen=True, kw_only=True)
class OperandMaker:
    """One operand of a captured GEMM.

    Attributes:
        gemm: The GEMM.
        spec: Its numerics.
        side: Which operand.
        layout: The layer's layout.
        tensor: The layer's tensor behind the operand.
        at: Where the layer ran.
    """

    gemm: CapturedGemm
    spec: GemmSpec
    side: Side
    layout: Contraction
    tensor: Tensor
    at: CallSite

    @property
    def quantizer(self) -> Quantizer:
        """The operand's quantiser."""
        return getattr(self.spec, self.side)

    def make(self) -> schema.Operand:
        """The operand's part of the file."""
        quantizer, fmt = self.quantizer, self.quantizer.element_format
        found = [self._quantize(x, offset) for x, offset in self._sources()]
        kind, width, signed = self._multiplicand(fmt, found)
        is_integer = kind == "integer"
        return schema.Operand(
            tensor=cast(Any, TENSORS[self.gemm.role, self.side]),
            format=number(fmt),
            nan_code=None if quantizer.nan == "raise" else int(quantizer.nan),
            scale_rule=str(quantizer.scale),
            granularity=str(quantizer.scale_granularity),
            block=quantizer.block,
            rounding=rounding(quantizer.rounding),
            quantized=[self._entry(q, x, at) for q, (x, at) in zip(found, self._sources(), strict=True)],
            multiplicand=cast(Any, kind),
            multiplicand_bits=width,
            multiplicand_signed=signed,
            unit=float32_digits((fmt.unit or 1.0) if is_integer else 1.0),
            matrices=[self._digits(m, kind, width) for m in self._matrices(kind, found)],
            matrix_scales=[float32s(s) for s in self.block_scales()] or None,
        )

    def block_scales(self) -> Sequence[Tensor]:
        """The scales of each group's matrix that vary along K; none without blocks."""
        scales = self.gemm.lhs_scale if self.side == "lhs" else self.gemm.rhs_scale
        return scales if self.quantizer.block else ()

    def _sources(self) -> list[tuple[Tensor, int]]:
        """What is quantised, with the first element's index in the random stream."""
        if not self.quantizer.block:
            return [(self.tensor, 0)]
        matrices = self.layout.matrices(self.gemm.role, self.side, self.tensor)
        last = [m if self.side == "lhs" else m.t() for m in matrices]
        return [(m, i * m.numel()) for i, m in enumerate(last)]

    def _quantize(self, x: Tensor, offset: int) -> QTensor:
        g = self.gemm
        return quantize_operand(x, self.quantizer, g.role, self.side, self.at, self._sample, offset)

    @property
    def _sample(self) -> int:
        return self.gemm.sample if self.side == "lhs" else 0

    def _entry(self, q: QTensor, x: Tensor, offset: int) -> schema.Quantized:
        bits = self.quantizer.rounding.random_bits
        stream = operand_stream(self.gemm.role, self.side, self.at, self._sample, offset)
        return schema.Quantized(
            shape=list(x.shape),
            float32=float32s(x) if self.quantizer.block else None,
            scale_shape=list(q.scale.shape),
            scale=float32s(q.scale),
            block_scales=_block_scales(x, q, self.quantizer),
            zero_point=None if q.zero_point is None else q.zero_point.reshape(-1).tolist(),
            random=address(stream) if bits else None,
            words=[code_digits(draw(stream, i, bits), bits) for i in range(x.numel())] if bits else [],
            codes=tensor_digits(q.codes, q.element_format.bits),
        )

    def _multiplicand(self, fmt: ElementFormat, found: Sequence[QTensor]) -> tuple[str, int, bool]:
        """Kind, width and sign of what the multipliers get."""
        shifted = any(q.zero_point is not None for q in found)
        matrices = getattr(self.gemm, self.side)
        if isinstance(self.spec.mac, MacUnit):
            plain = isinstance(fmt, IntFormat | FixedFormat) and not shifted
            signed = matrices[0].dtype != torch.uint8
            return "integer", fmt.bits if plain else 8 * matrices[0].dtype.itemsize, signed
        # Padding is zero, and so is code 0 of every format but a codebook.
        if shifted or isinstance(fmt, CodebookFormat):
            return "float32", 32, True
        return "code", fmt.bits, getattr(fmt, "signed", False)

    def _matrices(self, kind: str, found: Sequence[QTensor]) -> Sequence[Tensor]:
        if kind != "code":
            return getattr(self.gemm, self.side)
        if self.quantizer.block:
            return [q.codes if self.side == "lhs" else q.codes.t() for q in found]
        return self.layout.matrices(self.gemm.role, self.side, found[0].codes)

    def _digits(self, matrix: Tensor, kind: str, width: int) -> list[str]:
        return float32s(matrix) if kind == "float32" else tensor_digits(matrix, width)


def address(stream: Stream) -> schema.Address:
    """The address of random bits."""
    return schema.Address(
        seed=stream.seed, step=stream.step, site=stream.site, operand=stream.operand, offset=stream.offset
    )


def _block_scales(x: Tensor, q: QTensor, quantizer: Quantizer) -> schema.BlockScales | None:
    fmt = quantizer.format
    if not isinstance(fmt, BlockFormat):
        return None
    if isinstance(fmt.scale, ExponentFormat):
        return _exponents(q.scale.reshape(-1).tolist(), fmt.scale)
    known = torch.where(torch.isnan(x), torch.zeros(()), x)
    return _floats(absmax(known, quantizer.scale_granularity).reshape(-1).tolist(), fmt, fmt.scale)


def _exponents(scales: list[float], fmt: ExponentFormat) -> schema.BlockScales:
    codes = [code_digits(table_code(s, fmt, Rounding()), fmt.bits) for s in scales]
    return schema.BlockScales(format=exponent_number(fmt), codes=codes, tensor_scale=None)


def _floats(largest: list[float], fmt: BlockFormat, scale: FloatFormat) -> schema.BlockScales:
    overall = max(largest, default=0.0)
    found = [float_block_code(value, overall, fmt) for value in largest]
    tensor_scale = found[0][1] if found else 1.0
    return schema.BlockScales(
        format=float_number(scale),
        codes=[code_digits(code, scale.bits) for code, _ in found],
        tensor_scale=float32_digits(tensor_scale) if fmt.tensor_scale else None,
    )
