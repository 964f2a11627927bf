"""A quantiser: format, granularity, scale rule and rounding in one value.

y = fp32(x * fp32(1 / scale));  code = round(y) + zero_point, saturated or wrapped
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import get_args

import torch
from torch import Tensor

from lowbit_sim.numerics import triton_support
from lowbit_sim.numerics.catalog import as_format
from lowbit_sim.numerics.encode import check_rounding, code_range
from lowbit_sim.numerics.formats import BlockFormat, ElementFormat, Format, IntFormat
from lowbit_sim.numerics.random import Stream
from lowbit_sim.numerics.rounding import Rounding
from lowbit_sim.numerics.whole import is_whole
from lowbit_sim.quant.block_scaling import block_scale, granularity_of
from lowbit_sim.quant.clipping import sawb_coefficients
from lowbit_sim.quant.codes import to_codes
from lowbit_sim.quant.granularity import Granularity, PerBlock, PerTensor, scale_shape, short_name, written
from lowbit_sim.quant.not_a_number import NotANumberError as NotANumberError
from lowbit_sim.quant.qtensor import QTensor, code_dtype, element_format
from lowbit_sim.quant.regions import recording
from lowbit_sim.quant.scale_state import ScaleState
from lowbit_sim.quant.scaling import (
    AbsMaxScale,
    EmaScale,
    FixedScale,
    MinMaxScale,
    PowerOfTwoScale,
    SawbScale,
    ScaleRule,
    needs_state,
    scale_and_zero_point,
)
from lowbit_sim.quant.slices import ReduceMax, scale_source
from lowbit_sim.quant.whole_tensor import absmax_codes, serves


@dataclass(frozen=True)
class Quantizer:
    """Turns a real tensor into codes.

    Args:
        format: The format of the codes, or a qtorch number that stands for one. A `BlockFormat` brings its own
            granularity and scale rule.
        granularity: Which elements share a scale.
        scale: How the scale is chosen.
        rounding: How a scaled value becomes a code.
        nan: "raise", or the code that a NaN becomes.

    Raises:
        TypeError: `format` is not a format.
        ValueError: A combination that can't be: wrapping into a range that is not the whole of the codes, an
            infinity in a format that has none, a zero point for a format that is not an integer one, a granularity
            or scale rule beside a block format's own, a NaN code outside the format.
    """

    format: Format
    granularity: Granularity = field(default=PerTensor(), kw_only=True)
    scale: ScaleRule = field(default=AbsMaxScale(), kw_only=True)
    rounding: Rounding = field(default=Rounding(), kw_only=True)
    nan: int | str = field(default="raise", kw_only=True)

    def __post_init__(self) -> None:
        if isinstance(self.format, str):
            raise TypeError(f"format is a format, not a name: pass parse_format({self.format!r})")
        object.__setattr__(self, "format", as_format(self.format))
        self._check_types()
        check_rounding(self.format, self.rounding)
        if isinstance(self.format, BlockFormat):
            self._check_block_format()
        elif isinstance(self.scale, MinMaxScale) and not isinstance(self.format, IntFormat):
            raise ValueError(f"MinMaxScale has a zero point, which {self.format} can't have")
        if isinstance(self.scale, SawbScale):
            sawb_coefficients(self.format)
        self._check_nan()

    def __str__(self) -> str:
        granularity = short_name(self.granularity)
        mode = self.rounding.mode if self.rounding.is_stochastic else ""
        return " ".join(filter(None, (str(self.format), granularity, mode)))

    @property
    def element_format(self) -> ElementFormat:
        """The format of the codes: that of a block format's elements, else the format itself."""
        return element_format(self.format)

    @property
    def scale_granularity(self) -> Granularity:
        """Which elements share a scale: a block format's own granularity, else `granularity`."""
        return granularity_of(self.format) if isinstance(self.format, BlockFormat) else self.granularity

    @property
    def block(self) -> int:
        """Elements along the last axis that share a scale; 0 without blocks."""
        granularity = self.scale_granularity
        return granularity.size if isinstance(granularity, PerBlock) else 0

    @property
    def scale_bits(self) -> int:
        """Bits that a scale is stored in: those of a block format's scale format, else float32's 32."""
        return self.format.scale.bits if isinstance(self.format, BlockFormat) else 32

    @property
    def is_stateful(self) -> bool:
        """Whether calls need a `ScaleState`."""
        return needs_state(self.scale)

    @functools.cached_property
    def _at_once(self) -> bool:
        """Whether `whole_tensor` may have a shorter way for tensors on the CPU."""
        return self.nan == "raise" and serves(self.format, self.granularity, self.scale, self.rounding)

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

    def _check_block_format(self) -> None:
        if self.granularity != PerTensor() or self.scale != AbsMaxScale():
            raise ValueError(
                f"{self.format} has its own blocks and scales: leave granularity and scale at their defaults, got "
                f"{written(self.granularity)} and {self.scale}"
            )

    def _check_nan(self) -> None:
        if self.nan == "raise":
            return
        low, high = code_range(self.format)
        if not is_whole(self.nan, low, high):
            raise ValueError(
                f"nan must be 'raise' or a code of {self.format} ({low} to {high}), got {self.nan!r}"
            )

    def __call__(
        self,
        x: Tensor,
        *,
        stream: Stream | None = None,
        state: ScaleState | None = None,
        reduce_max: ReduceMax | None = None,
    ) -> QTensor:
        """Quantise a tensor.

        Args:
            x: A floating-point tensor of any shape and layout; on the meta device the result has shapes and dtypes
                but no data, and no state moves. float16 and bfloat16 are widened to float32;
                float64 is rounded to float32 first, as the arithmetic is defined on float32.
            stream: Address of the random bits; needed for stochastic rounding, ignored otherwise.
            state: What a stateful scale rule remembers of this tensor, updated; ignored by other rules.
            reduce_max: Maximum over the processes that hold the other slices (along the first axis) of the tensor
                that x is a slice of; see `slices.scale_source`.

        Raises:
            TypeError: Not a floating-point tensor.
            NotANumberError: x holds NaN and `nan` is "raise".
            RuntimeError: `nan` is "raise" while a CUDA graph is recorded.
            ValueError: Stochastic rounding without a stream, a stateful scale rule without a state, an axis that x
                lacks, or a device without kernels.
        """
        x = self._checked(x, stream)
        if x.is_meta:
            return self._shapes_of(x, state)
        on_cpu = x.is_cpu and not triton_support.uses_triton(x.device)
        if self._at_once and reduce_max is None and on_cpu and x.numel():
            assert isinstance(self.format, IntFormat)
            found = absmax_codes(x, self.format, self.rounding, stream)
            if found is not None:
                return QTensor(codes=found[0], scale=found[1], format=self.format)
        missing = None if self.nan == "raise" else torch.isnan(x)
        if missing is not None:
            x = torch.where(missing, torch.zeros((), dtype=x.dtype, device=x.device), x)
        try:
            if missing is None and not self._meets_nan(x):
                _refuse_nan(x)
            quantized = self._quantize(x, stream, state, reduce_max)
        except NotANumberError:
            count = int(torch.isnan(x).sum())
            raise NotANumberError(
                f"{count} of {x.numel()} elements of a tensor of shape {list(x.shape)} to be quantised to "
                f"{self.format} are NaN"
            ) from None
        if missing is not None:
            quantized.codes[missing] = torch.tensor(int(self.nan)).to(quantized.codes.dtype)
        return quantized

    def _meets_nan(self, x: Tensor) -> bool:
        """Whether the search for the scale or, if there is none, the rounding raises at NaN before a state moves."""
        if triton_support.uses_triton(x.device) and (recording(x) or isinstance(self.scale, FixedScale)):
            return False  # a GPU's rounding raises nothing
        return isinstance(self.format, BlockFormat) or isinstance(
            self.scale, AbsMaxScale | PowerOfTwoScale | MinMaxScale | EmaScale | FixedScale
        )

    def _quantize(
        self, x: Tensor, stream: Stream | None, state: ScaleState | None, reduce_max: ReduceMax | None
    ) -> QTensor:
        granularity, zero_point, source = self.scale_granularity, None, x
        if reduce_max is not None:
            source = scale_source(x, self.format, granularity, self.scale, reduce_max)
        if isinstance(self.format, BlockFormat):
            scale, zeroed = block_scale(source, self.format)
            x = zeroed if source is x else x
        else:
            scale, zero_point = scale_and_zero_point(source, self.format, granularity, self.scale, state)
        codes = to_codes(x, scale, zero_point, granularity, self.element_format, self.rounding, stream)
        return QTensor(codes=codes, scale=scale, format=self.format, zero_point=zero_point, block=self.block)

    def _shapes_of(self, x: Tensor, state: ScaleState | None) -> QTensor:
        """The result for a tensor without data."""
        if self.is_stateful and state is None:
            raise ValueError(f"{self.scale} remembers something between calls: pass state=ScaleState()")
        shape = scale_shape(self.scale_granularity, tuple(x.shape))
        zero_point = (
            torch.empty(shape, dtype=torch.int32, device="meta")
            if isinstance(self.scale, MinMaxScale)
            else None
        )
        return QTensor(
            codes=torch.empty(x.shape, dtype=code_dtype(self.element_format), device="meta"),
            scale=torch.empty(shape, dtype=torch.float32, device="meta"),
            format=self.format,
            zero_point=zero_point,
            block=self.block,
        )

    def _checked(self, x: Tensor, stream: Stream | None) -> Tensor:
        if not isinstance(x, Tensor) or not x.is_floating_point():
            got = str(x.dtype) if isinstance(x, Tensor) else type(x).__name__
            raise TypeError(f"a quantizer takes a floating-point tensor, got {got}")
        if (missing := missing_kernel(x.device)) is not None:
            raise ValueError(f"{missing}; or move the tensor to the CPU")
        if self.rounding.is_stochastic and stream is None:
            raise ValueError(
                "stochastic rounding needs the address of its random bits: pass stream=Stream(seed=...)"
            )
        return x.detach().resolve_neg().to(torch.float32).contiguous()


def missing_kernel(device: torch.device) -> str | None:
    """Why nothing can be quantised on a device, or None where it can; the meta device has shapes only."""
    if device.type in ("cpu", "meta"):
        return None
    missing = f"there is no quantisation kernel for device {device}"
    if device.type != "cuda":
        return missing
    return None if (why := triton_support.why_no_triton(device)) is None else f"{missing}: {why}"


def _refuse_nan(x: Tensor) -> None:
    """Raise if there is a NaN: one pass, and on a GPU the host waits for it.

    It can't wait while a CUDA graph is recorded, and a graph could raise nothing later.
    """
    if recording(x):
        raise RuntimeError(
            "a quantizer with nan='raise' looks for NaN on the host, which a CUDA graph can't do: give it the code "
            "that a NaN becomes, as in Quantizer(..., nan=0)"
        )
    # amax propagates NaN and is one pass without a temporary, unlike isnan().any().
    if x.numel() and bool(torch.isnan(x.amax())):
        raise NotANumberError
