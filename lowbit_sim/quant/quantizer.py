"""A quantiser: format, granularity, scale rule and rounding in one value.

y = fp32(x * fp32(1 / scale));  code = round(y) + zero_point, saturated or wrapped
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import get_args

import torch
from torch import Tensor

from lowbit_sim.numerics.catalog import as_format
from lowbit_sim.numerics.formats import FloatFormat, Format, IntFormat
from lowbit_sim.numerics.random import Stream
from lowbit_sim.numerics.rounding import Rounding
from lowbit_sim.numerics.whole import is_whole
from lowbit_sim.quant.granularity import Granularity, PerAxis, PerTensor, scale_shape
from lowbit_sim.quant.qtensor import QTensor, code_dtype
from lowbit_sim.quant.scaling import AbsMaxScale, MinMaxScale, ScaleRule, scale_and_zero_point


class NotANumberError(ValueError):
    """A tensor to be quantised holds NaN."""


@dataclass(frozen=True)
class Quantizer:
    """Turns a real tensor into codes.

    Args:
        format: The format of the codes.
        granularity: Which elements share a scale.
        scale: How the scale is chosen.
        rounding: How a scaled value becomes a code.
        nan: "raise", or the code that a NaN becomes.

    Raises:
        TypeError: `format` is not a format.
        ValueError: A combination that can't be: wrapping into a range that is not the whole of the codes,
            an infinity in an integer format, an asymmetric float format, a NaN code outside the format.
    """

    format: Format
    granularity: Granularity = field(default=PerTensor(), kw_only=True)
    scale: ScaleRule = field(default=AbsMaxScale(), kw_only=True)
    rounding: Rounding = field(default=Rounding(), kw_only=True)
    nan: int | str = field(default="raise", kw_only=True)

    def __post_init__(self) -> None:
        if as_format(self.format) is not self.format:
            raise TypeError(f"format is a format, not a name: pass parse_format({self.format!r})")
        self._check_types()
        overflow = self.rounding.overflow
        if isinstance(self.format, IntFormat):
            if overflow == "infinity":
                raise ValueError(f"{self.format} has no infinity: overflow must be 'saturate' or 'wrap'")
            if overflow == "wrap" and self.format.symmetric:
                raise ValueError(f"{self.format} leaves out a code, so it can't wrap: pass symmetric=False")
        else:
            if overflow == "wrap":
                raise ValueError(f"{self.format} can't wrap: overflow must be 'saturate' or 'infinity'")
            if overflow == "infinity" and not (self.format.has_infinity or self.format.has_nan):
                raise ValueError(f"{self.format} has neither infinity nor NaN: overflow must be 'saturate'")
            if isinstance(self.scale, MinMaxScale):
                raise ValueError(f"MinMaxScale has a zero point, which {self.format} can't have")
        self._check_nan()

    def __str__(self) -> str:
        rounding = f" {self.rounding.mode}" if self.rounding.is_stochastic else ""
        axis = f" axis {self.granularity.axis}" if isinstance(self.granularity, PerAxis) else ""
        return f"{self.format}{axis}{rounding}"

    def _check_types(self) -> None:
        # A misplaced string would otherwise be taken for a default or fail at the first tensor.
        kinds_of = {
            "granularity": get_args(Granularity),
            "scale": get_args(ScaleRule),
            "rounding": (Rounding,),
        }
        for name, accepted in kinds_of.items():
            value = getattr(self, name)
            if not isinstance(value, accepted):
                kinds = ", ".join(f"{kind.__name__}(...)" for kind in accepted)
                raise TypeError(f"{name} is one of {kinds}; got {value!r}")

    def _check_nan(self) -> None:
        if self.nan == "raise":
            return
        low, high = (
            (self.format.qmin, self.format.qmax)
            if isinstance(self.format, IntFormat)
            else (0, (1 << self.format.bits) - 1)
        )
        if not is_whole(self.nan, low, high):
            raise ValueError(
                f"nan must be 'raise' or a code of {self.format} ({low} to {high}), got {self.nan!r}"
            )

    def __call__(self, x: Tensor, *, stream: Stream | None = None) -> QTensor:
        """Quantise a tensor.

        Args:
            x: A floating-point tensor of any shape and layout. float16 and bfloat16 are widened to float32;
                float64 is rounded to float32 first, as the arithmetic is defined on float32.
            stream: Address of the random bits; needed for stochastic rounding, ignored otherwise.

        Raises:
            TypeError: Not a floating-point tensor.
            NotANumberError: x holds NaN and `nan` is "raise".
            ValueError: Stochastic rounding without a stream, an axis that x lacks, or a device without kernels.
        """
        x = self._checked(x, stream)
        missing = None if self.nan == "raise" else torch.isnan(x)
        if missing is not None:
            x = torch.where(missing, torch.zeros((), device=x.device), x)
        elif _has_nan(x):
            count = int(torch.isnan(x).sum())
            raise NotANumberError(
                f"{count} of {x.numel()} elements of a tensor of shape {list(x.shape)} to be quantised to "
                f"{self.format} are NaN"
            )
        scale, zero_point = scale_and_zero_point(x, self.format, self.granularity, self.scale)
        codes = self._codes(x, scale, zero_point, stream)
        if missing is not None:
            codes[missing] = torch.tensor(int(self.nan)).to(codes.dtype)
        return QTensor(codes=codes, scale=scale, format=self.format, zero_point=zero_point)

    def _checked(self, x: Tensor, stream: Stream | None) -> Tensor:
        if not isinstance(x, Tensor) or not x.is_floating_point():
            got = str(x.dtype) if isinstance(x, Tensor) else type(x).__name__
            raise TypeError(f"a quantizer takes a floating-point tensor, got {got}")
        if x.device.type != "cpu":
            raise ValueError(
                f"there is no quantisation kernel for device {x.device}: move the tensor to the CPU"
            )
        if self.rounding.is_stochastic and stream is None:
            raise ValueError(
                "stochastic rounding needs the address of its random bits: pass stream=Stream(seed=...)"
            )
        return x.detach().resolve_neg().to(torch.float32).contiguous()

    def _codes(self, x: Tensor, scale: Tensor, zero_point: Tensor | None, stream: Stream | None) -> Tensor:
        from lowbit_sim.numerics import kernels

        codes = torch.empty(x.shape, dtype=code_dtype(self.format))
        inner = _run_length(self.granularity, tuple(x.shape)) or kernels.ROW_ELEMENTS
        inv = (1.0 / scale).reshape(-1).numpy()
        flat, out = x.reshape(-1).numpy(), codes.reshape(-1).numpy()
        if isinstance(self.format, FloatFormat):
            kernels.quantize_to_floats(flat, inv, inner, self.format, self.rounding, stream, out)
        else:
            offsets = (
                torch.zeros_like(scale, dtype=torch.int64)
                if zero_point is None
                else zero_point.to(torch.int64)
            )
            kernels.quantize_to_integers(
                flat, inv, offsets.reshape(-1).numpy(), inner, self.format, self.rounding, stream, out
            )
        return codes


def _has_nan(x: Tensor) -> bool:
    # amax propagates NaN and is one pass without a temporary, unlike isnan().any().
    return bool(x.numel()) and bool(torch.isnan(x.amax()))


def _run_length(granularity: Granularity, shape: tuple[int, ...]) -> int:
    """Elements in a row that share a scale; 0 for one scale in all."""
    axes = [i for i, n in enumerate(scale_shape(granularity, shape)) if n != 1]
    return math.prod(shape[axes[0] + 1 :]) if axes else 0
