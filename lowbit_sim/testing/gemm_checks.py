"""`check_mac` and `check_backend`: does a function accumulate as a multiply-accumulate unit says?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
from hypothesis import strategies as st
from torch import Tensor

from lowbit_sim.arith.additions import Addition, additions
from lowbit_sim.arith.float_mac import FloatMacUnit
from lowbit_sim.arith.gemm import gemm
from lowbit_sim.arith.mac import MacUnit, accumulator_range
from lowbit_sim.numerics.formats import Format
from lowbit_sim.testing.contract import MAX_EXAMPLES, ContractError, called, name_of, report, search
from lowbit_sim.testing.describe import number, numbers
from lowbit_sim.testing.gemm_strategies import (
    code_matrices,
    codes,
    extreme_codes,
    gemm_shapes,
    value_matrices,
)

Operands = tuple[Tensor, Tensor]

#: Additions shown around the first overflow.
_SHOWN = 8


def check_mac(
    fn: Callable[[list[int], list[int]], Any],
    mac: MacUnit,
    *,
    a_format: Format | str = "int8_full",
    b_format: Format | str = "int8_full",
    largest: int = 40,
    max_examples: int = MAX_EXAMPLES,
    deterministic: bool = True,
) -> None:
    """Check that a function multiplies and accumulates two vectors of codes as a MAC unit does.

    Args:
        fn: `fn(a, b)` with two lists of K Python integers; returns the result as the outer accumulator holds it (a
            signed number, truncated bits shifted back), or a pair (result, number of additions that overflowed).
        mac: The unit.
        a_format: Integer format of the codes in a, or its name.
        b_format: Integer format of the codes in b, or its name.
        largest: The longest K, unless a chunk asks for more.
        max_examples: How many pairs of vectors are drawn.
        deterministic: Draw the same vectors each time.

    Raises:
        ContractError: The function differs; the message shows the shortest vectors found and the additions.
        TypeError: A format that is not an integer one, or not a `MacUnit`.
    """
    __tracebackhide__ = True
    _check_unit(mac)

    def test(pairs: list[tuple[int, int]]) -> None:
        __tracebackhide__ = True
        a, b = [x for x, _ in pairs], [y for _, y in pairs]
        expected, log = additions(a, b, mac)
        result = called(fn, (list(a), list(b)), f"  input  a = {a}, b = {b}")
        got, count = result if isinstance(result, tuple) else (result, None)
        if got != expected:
            raise ContractError(_story(name_of(fn), mac, a, b, log, str(expected), str(got)))
        overflows = sum(step.overflowed for step in log)
        if count is not None and count != overflows:
            wanted, given = f"{overflows} overflows", f"{count} overflows"
            raise ContractError(_story(name_of(fn), mac, a, b, log, wanted, given))

    # Pairs, so that a failing example shrinks by leaving products out.
    pairs = st.tuples(codes(a_format), codes(b_format))
    extremes = st.tuples(extreme_codes(a_format), extreme_codes(b_format))
    longest = max(largest, 2 * mac.chunk + 1)
    search(
        test,
        st.lists(pairs, max_size=longest) | st.lists(extremes, max_size=longest),
        max_examples=max_examples,
        deterministic=deterministic,
    )


def check_backend(
    fn: Callable[..., Any],
    mac: MacUnit | FloatMacUnit,
    *,
    a_format: Format | str | None = None,
    b_format: Format | str | None = None,
    takes: Literal["torch", "numpy"] = "torch",
    largest: int = 9,
    max_examples: int = 200,
    deterministic: bool = True,
) -> None:
    """Check that a matrix product has the bits of a MAC unit's accumulators.

    Args:
        fn: `fn(a, b)` with a [M, K] and b [K, N], any of which may be 0 or 1; returns [M, N]. For a `MacUnit` they
            hold integer codes, for a `FloatMacUnit` float32 values.
        mac: The unit; a `FloatMacUnit` that does not round stochastically.
        a_format: Format of a, or its name: an integer one for a `MacUnit` (by default int8_full, in the smallest
            dtype that holds the codes), any for a `FloatMacUnit` (by default fp8_e4m3fn).
        b_format: Format of b, likewise.
        takes: Whether fn is handed torch tensors or numpy arrays.
        largest: The largest M, N and (unless a chunk asks for more) K.
        max_examples: How many pairs of matrices are drawn.
        deterministic: Draw the same matrices each time.

    Raises:
        ContractError: The function differs; the message shows the smallest matrices found, one element where the
            results differ and the additions behind it.
        TypeError: Integer products of a format that is not an integer one, or no unit.
        ValueError: An unknown `takes`, or stochastic additions.
    """
    __tracebackhide__ = True
    if not isinstance(mac, FloatMacUnit):
        _check_unit(mac)
    elif mac.rounding.is_stochastic:
        raise ValueError(f"{mac} draws random bits, which fn is not handed: check a deterministic rounding")
    if takes not in ("torch", "numpy"):
        raise ValueError(f"takes is 'torch' or 'numpy', got {takes!r}")

    def test(operands: Operands) -> None:
        __tracebackhide__ = True
        a, b = operands
        arguments = tuple(x.clone() if takes == "torch" else x.numpy().copy() for x in operands)
        result = called(fn, arguments, f"  input  a = {_shown(a)}\n         b = {_shown(b)}")
        expected = gemm(a, b, mac, backend="reference")
        _compare(name_of(fn), mac, a, b, expected.numpy(), _as_array(result))

    shapes = gemm_shapes(chunk=mac.chunk, largest=largest)
    search(
        test,
        shapes.flatmap(lambda s: _operands(s, mac, a_format, b_format)),
        max_examples=max_examples,
        deterministic=deterministic,
    )


def _check_unit(mac: MacUnit) -> None:
    if not isinstance(mac, MacUnit):
        raise TypeError(f"mac is a MacUnit, got {type(mac).__name__}")


def _operands(
    sizes: tuple[int, int, int],
    mac: MacUnit | FloatMacUnit,
    a_format: Format | str | None,
    b_format: Format | str | None,
) -> st.SearchStrategy[Operands]:
    rows, columns, reduction = sizes
    if isinstance(mac, MacUnit):
        matrices, default = code_matrices, "int8_full"
    else:
        matrices, default = value_matrices, "fp8_e4m3fn"
    return st.tuples(
        matrices(a_format or default, (rows, reduction)),
        matrices(b_format or default, (reduction, columns)),
    )


def _as_array(result: Any) -> np.ndarray:
    return result.detach().cpu().numpy() if isinstance(result, Tensor) else np.asarray(result)


def _shown(x: Tensor) -> str:
    return f"{x.tolist()} ({str(x.dtype).removeprefix('torch.')} {list(x.shape)})"


def _compare(
    name: str, mac: MacUnit | FloatMacUnit, a: Tensor, b: Tensor, expected: np.ndarray, got: np.ndarray
) -> None:
    if got.shape != expected.shape:
        raise ContractError(
            report(
                f"{name} returns another shape",
                input=f"a {list(a.shape)}, b {list(b.shape)}",
                expected=f"shape {list(expected.shape)}",
                got=f"shape {list(got.shape)}",
            )
        )
    wrong = np.argwhere(_differ(got, expected))
    if len(wrong):
        i, j = (int(k) for k in wrong[0])
        row, column = a[i].tolist(), b[:, j].tolist()
        if isinstance(mac, FloatMacUnit):
            raise ContractError(
                report(
                    f"{name} is not {mac}",
                    input=f"a = {numbers(row)}\nb = {numbers(column)}\nelement [{i}, {j}] of the result",
                    expected=number(expected[i, j]),
                    got=number(got[i, j]),
                    rule="accumulator = round(accumulator + product), once and from the exact sum",
                )
            )
        _, log = additions(row, column, mac)
        where = f"\nelement [{i}, {j}] of the result; a is {list(a.shape)}, b is {list(b.shape)}"
        raise ContractError(
            _story(
                name,
                mac,
                row,
                column,
                log,
                str(expected[i, j]),
                str(got[i, j]),
                where if expected.size > 1 else "",
            )
        )


def _differ(got: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Where results differ; NaN equals NaN, and zeros of different signs differ."""
    if not np.issubdtype(expected.dtype, np.floating):
        return got != expected
    both_nan = np.isnan(got) & np.isnan(expected)
    return ((got != expected) | (np.signbit(got) != np.signbit(expected))) & ~both_nan


def _story(
    name: str,
    mac: MacUnit,
    a: Sequence[int],
    b: Sequence[int],
    log: Sequence[Addition],
    expected: str,
    got: str,
    where: str = "",
) -> str:
    return report(
        f"{name} is not {mac}",
        input=f"a = {list(a)}\nb = {list(b)}{where}",
        expected=expected,
        got=got,
        rule=_kind(mac, log),
        additions="\n".join(_steps(log)),
    )


def _kind(mac: MacUnit, log: Sequence[Addition]) -> str:
    """What kind of input it is to the accumulator."""
    first = next((step for step in log if step.overflowed), None)
    if first is None:
        lost = f"; {mac.truncated_bits} bits are truncated" if mac.truncated_bits else ""
        return f"no addition overflows{lost}"
    bits = mac.accumulator_bits if first.accumulator == "inner" else mac.result_bits
    low, high = accumulator_range(bits, mac.overflow)
    side = "above" if first.before + first.term > high else "below"
    return (
        f"the {first.accumulator} sum goes {side} its range {low} to {high} in chunk {first.chunk}, "
        f"up to k = {first.last}; overflow: {mac.overflow}"
    )


def _steps(log: Sequence[Addition]) -> list[str]:
    """The additions up to a few after the first overflow."""
    first = next((i for i, step in enumerate(log) if step.overflowed), len(log))
    start = max(0, min(first - _SHOWN // 2, len(log) - _SHOWN))
    lines = [
        f"{s.accumulator} chunk {s.chunk} k <= {s.last}: {s.before} + {s.term} = {s.before + s.term}"
        + (f" -> {s.value}" if s.overflowed else "")
        for s in log[start : start + _SHOWN]
    ]
    more = len(log) - start - _SHOWN
    return [*(["..."] if start else []), *lines, *([f"... {more} more"] if more > 0 else [])]
