"""`check_quantizer`: does a function turn tensors into the codes (or values) of a format, bit for bit?"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from hypothesis import strategies as st
from torch import Tensor

from lowbit_sim.numerics.catalog import as_format
from lowbit_sim.numerics.formats import BlockFormat, FloatFormat, Format
from lowbit_sim.numerics.random import Stream, draw
from lowbit_sim.numerics.rounding import Rounding
from lowbit_sim.quant.granularity import Granularity, PerTensor
from lowbit_sim.quant.qtensor import QTensor
from lowbit_sim.quant.quantizer import Quantizer
from lowbit_sim.quant.scaling import AbsMaxScale, FixedScale, ScaleRule
from lowbit_sim.testing.contract import (
    MAX_EXAMPLES,
    ContractError,
    called,
    name_of,
    report,
    search,
    unchanged,
)
from lowbit_sim.testing.definition import quantized
from lowbit_sim.testing.describe import kind_of, number, numbers, rule
from lowbit_sim.testing.grid import grid_of
from lowbit_sim.testing.tensors import shapes, tensors

Returns = Literal["auto", "codes", "values"]


class _Case(NamedTuple):
    x: Tensor
    seed: int
    random: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class _Contract:
    """What is checked, and how the function is called."""

    fn: Callable[..., Any]
    quantizer: Quantizer
    returns: Returns
    random: Literal["integers", "stream"]
    takes: Literal["torch", "numpy"]

    def arguments(self, case: _Case) -> tuple[Any, ...]:
        x = case.x.clone()  # of the same strides
        given: list[Any] = [x]
        if self.quantizer.rounding.is_stochastic and self.random == "stream":
            return (self._array(x), Stream(seed=case.seed))
        if self.quantizer.rounding.is_stochastic:
            given.append(torch.tensor(case.random, dtype=torch.int64).reshape(x.shape))
        return tuple(map(self._array, given))

    def _array(self, x: Tensor) -> Any:
        return x.numpy() if self.takes == "numpy" else x

    def randoms(self, case: _Case) -> list[int]:
        """The random integer of each element."""
        if self.quantizer.rounding.is_stochastic and self.random == "stream":
            bits = self.quantizer.rounding.random_bits
            return [draw(Stream(seed=case.seed), i, bits) for i in range(case.x.numel())]
        return list(case.random) or [0] * case.x.numel()


def check_quantizer(
    fn: Callable[..., Any],
    format: Format | str | Quantizer,
    *,
    rounding: Rounding | str = Rounding(),
    scale: ScaleRule | float = AbsMaxScale(),
    granularity: Granularity = PerTensor(),
    returns: Returns = "auto",
    random: Literal["integers", "stream"] = "integers",
    takes: Literal["torch", "numpy"] = "torch",
    nan: int | None = None,
    infinities: bool = False,
    strided: bool = False,
    subnormals: bool = True,
    max_examples: int = MAX_EXAMPLES,
    deterministic: bool = True,
) -> None:
    """Check that a function quantises float32 tensors to the very codes (or values) of the definition.

    y = fp32(x * fp32(1 / scale)), one IEEE multiply; code = round(y), saturated or wrapped;
    value = fp32(code * scale).

    Args:
        fn: `fn(x)`, or for stochastic rounding `fn(x, random)`. Returns codes or values of x's shape, a pair
            (codes, scale), or a `QTensor`.
        format: The format or its name; or a `Quantizer`, which stands for this and the next three arguments.
        rounding: The rounding, or the name of its mode.
        scale: The scale rule, or a number that is the scale always.
        granularity: Which elements share a scale.
        returns: "codes" or "values"; "auto" takes integer arrays for codes and others for values.
        random: What fn is handed for stochastic rounding: "integers", an int64 array of x's shape in
            [0, 2^random_bits), or "stream", the `Stream` that addresses them.
        takes: Whether fn is handed torch tensors or numpy arrays.
        nan: The code that a NaN must become; by default there are no NaNs in x.
        infinities: Whether x holds infinities.
        strided: Whether some x are transposed views.
        subnormals: Whether some x are so small (below 2^-60) that scales reach their least value, 2^-126.
        max_examples: How many tensors are drawn.
        deterministic: Draw the same tensors each time.

    Raises:
        ContractError: The function overwrites x or differs; the message shows the smallest tensor
            found and says where it differs.
        ValueError: A combination that no `Quantizer` accepts, or an unknown option.
    """
    __tracebackhide__ = True
    quantizer = format if isinstance(format, Quantizer) else _quantizer(format, rounding, scale, granularity)
    if quantizer.is_stateful:
        raise ValueError(f"{quantizer.scale} depends on past tensors: check with a FixedScale in its place")
    if nan is not None:
        quantizer = replace(quantizer, nan=nan)
    for what, value, known in (
        ("returns", returns, ("auto", "codes", "values")),
        ("random", random, ("integers", "stream")),
        ("takes", takes, ("torch", "numpy")),
    ):
        if value not in known:
            raise ValueError(f"{what} is one of {', '.join(map(repr, known))}; got {value!r}")
    contract = _Contract(fn=fn, quantizer=quantizer, returns=returns, random=random, takes=takes)
    dimensions = _dimensions(quantizer)
    x = tensors(
        quantizer.format,
        shapes=shapes(dimensions) if dimensions > 1 else None,
        infinities=infinities,
        nan=nan is not None,
        strided=strided,
        subnormals=subnormals,
        scale=quantizer.scale.value if isinstance(quantizer.scale, FixedScale) else None,
        parts=1 << max(quantizer.rounding.random_bits, 2),
    )

    def test(case: _Case) -> None:
        __tracebackhide__ = True
        _compare(contract, case)

    cases = x.flatmap(lambda t: _with_randomness(t, contract))
    search(test, cases, max_examples=max_examples, deterministic=deterministic)


def _quantizer(
    format: Format | str, rounding: Rounding | str, scale: ScaleRule | float, granularity: Granularity
) -> Quantizer:
    return Quantizer(
        as_format(format),
        rounding=Rounding(rounding) if isinstance(rounding, str) else rounding,
        scale=FixedScale(float(scale)) if isinstance(scale, int | float) else scale,
        granularity=granularity,
    )


def _dimensions(quantizer: Quantizer) -> int:
    """Dimensions that a tensor needs for the axis that the quantiser names."""
    fmt = quantizer.format
    named = fmt.dim if isinstance(fmt, BlockFormat) else getattr(quantizer.granularity, "axis", None)
    return 1 if named is None else named + 1 if named >= 0 else -named


def _with_randomness(x: Tensor, contract: _Contract) -> st.SearchStrategy[_Case]:
    rounding = contract.quantizer.rounding
    seeds = st.integers(0, 255) if rounding.is_stochastic and contract.random == "stream" else st.just(0)
    if not rounding.is_stochastic or contract.random == "stream":
        return st.builds(_Case, st.just(x), seeds, st.just(()))
    largest = (1 << rounding.random_bits) - 1
    words = st.sampled_from(sorted({0, 1, largest // 2, largest})) | st.integers(0, largest)
    integers = st.lists(words, min_size=x.numel(), max_size=x.numel())
    return st.builds(_Case, st.just(x), seeds, integers.map(tuple))


def _compare(contract: _Contract, case: _Case) -> None:
    __tracebackhide__ = True
    stream = Stream(seed=case.seed)
    expected = contract.quantizer(case.x, stream=stream)
    codes, values, scales = quantized(case.x, contract.quantizer, expected, contract.randoms(case))
    shown = f"  input  x = {_shown(case.x)}"
    arguments = contract.arguments(case)
    result = called(contract.fn, arguments, shown)
    arrays = [i for i, argument in enumerate(arguments) if not isinstance(argument, Stream)]
    untouched = contract.arguments(case)
    unchanged(contract.fn, [untouched[i] for i in arrays], [arguments[i] for i in arrays], shown)
    if isinstance(result, tuple) and len(result) == 2:
        result, own_scale = result
        _compare_scales(contract, case, np.asarray(own_scale), expected.scale)
    is_codes, got = _read(contract, result, case.x)
    wanted = codes if is_codes else values
    # Float formats have a code for each sign of zero, others have one zero.
    zeros_alike = is_codes or not isinstance(contract.quantizer.element_format, FloatFormat)
    for i, (mine, theirs) in enumerate(zip(wanted, got, strict=True)):
        if not _same(mine, theirs, zeros_alike):
            raise ContractError(_story(contract, case, i, scales[i], mine, theirs, is_codes))


def _read(contract: _Contract, result: Any, x: Tensor) -> tuple[bool, list[float]]:
    """Whether the function returned codes, and its elements."""
    if isinstance(result, QTensor):
        result, is_codes = result.codes, True
    else:
        is_codes = contract.returns == "codes" or (contract.returns == "auto" and not _is_real(result))
    array = (
        result.detach().cpu().to(torch.float64).numpy() if isinstance(result, Tensor) else np.asarray(result)
    )
    if array.shape != tuple(x.shape):
        raise ContractError(
            report(
                f"{name_of(contract.fn)} returns another shape than its input's",
                input=f"x = {_shown(x)}",
                expected=f"shape {list(x.shape)}",
                got=f"shape {list(array.shape)}",
            )
        )
    return is_codes, array.astype(np.float64).reshape(-1).tolist()


def _is_real(result: Any) -> bool:
    if isinstance(result, Tensor):
        return result.is_floating_point()
    return np.issubdtype(np.asarray(result).dtype, np.floating)


def _same(expected: float, got: float, zeros_alike: bool) -> bool:
    if math.isnan(expected) or math.isnan(got):
        return math.isnan(expected) and math.isnan(got)
    return expected == got and (zeros_alike or math.copysign(1.0, expected) == math.copysign(1.0, got))


def _compare_scales(contract: _Contract, case: _Case, got: np.ndarray, expected: Tensor) -> None:
    own = np.broadcast_to(got.astype(np.float64), expected.shape) if got.size == 1 else got.astype(np.float64)
    wanted = expected.numpy().astype(np.float64)
    if own.size != wanted.size or not np.array_equal(own.reshape(-1), wanted.reshape(-1)):
        raise ContractError(
            report(
                f"{name_of(contract.fn)} has another scale than {contract.quantizer}",
                input=f"x = {_shown(case.x)}",
                expected=numbers(wanted.reshape(-1).tolist()),
                got=numbers(own.reshape(-1).tolist()),
                rule=f"{contract.quantizer.scale}, in float32, each operation rounded once",
            )
        )


def _shown(x: Tensor) -> str:
    return f"{numbers(x.reshape(-1).tolist())}, shape {list(x.shape)}" + (
        "" if x.is_contiguous() else ", a transposed view"
    )


def _story(
    contract: _Contract, case: _Case, i: int, scale: float, expected: float, got: float, is_codes: bool
) -> str:
    quantizer = contract.quantizer
    x = float(case.x.reshape(-1)[i])
    with np.errstate(over="ignore", invalid="ignore"):
        y = float(np.float32(x) * (np.float32(1) / np.float32(scale)))
    random = contract.randoms(case)[i] if quantizer.rounding.is_stochastic else None
    place = np.unravel_index(i, case.x.shape) if case.x.ndim else ()
    index = "[" + ", ".join(str(int(k)) for k in place) + "]"
    what, show = ("code ", lambda v: f"{v:g}") if is_codes else ("value ", number)
    return report(
        f"{name_of(contract.fn)} is not {quantizer}",
        input=f"x = {_shown(case.x)}\nelement {index} = {number(x)}",
        scaled=f"y = fp32(x * fp32(1 / scale)) = {number(y)}, {kind_of(y, grid_of(quantizer.element_format))}; "
        f"scale = {number(scale)}",
        expected=what + show(expected),
        got=what + show(got),
        rule=f"{rule(quantizer.rounding, random)}; beyond the range {quantizer.rounding.overflow}",
    )
