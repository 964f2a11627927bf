"""What a check of a multiply-accumulate unit says about operands for which a function differs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lowbit_sim.arith.additions import Addition, additions
from lowbit_sim.arith.float_additions import FloatAddition, float_additions
from lowbit_sim.arith.float_mac import FloatMacUnit
from lowbit_sim.arith.mac import MacUnit, accumulator_range
from lowbit_sim.testing.contract import report
from lowbit_sim.testing.describe import hexadecimal, listing, number

#: Additions shown around the first overflow.
_SHOWN = 8


def differ(got: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Where results differ; NaN equals NaN, and zeros of different signs differ."""
    if not np.issubdtype(expected.dtype, np.floating):
        return got != expected
    both_nan = np.isnan(got) & np.isnan(expected)
    return ((got != expected) | (np.signbit(got) != np.signbit(expected))) & ~both_nan


def story(
    name: str,
    mac: MacUnit | FloatMacUnit,
    a: Sequence[Any],
    b: Sequence[Any],
    expected: str,
    got: str,
    where: str = "",
) -> str:
    """The failure in words.

    Args:
        name: The function.
        mac: The unit.
        a: Codes [K], or values for a `FloatMacUnit`.
        b: Likewise.
        expected: What was expected, in words.
        got: What came instead.
        where: Where in a larger result that is.
    """
    if isinstance(mac, FloatMacUnit):
        log, show = float_additions(a, b, mac)[1], hexadecimal
        rule = "accumulator = round(accumulator + product), once and from the exact sum"
    else:
        log, show = additions(a, b, mac)[1], str
        rule = _kind(mac, log)
    return report(
        f"{name} is not {mac}",
        input=f"a = {listing(a, show)}\nb = {listing(b, show)}{where}",
        expected=expected,
        got=got,
        rule=rule,
        additions="\n".join(_steps(log)),
    )


def in_words(mac: MacUnit | FloatMacUnit, x: Any) -> str:
    """A result."""
    return number(float(x)) if isinstance(mac, FloatMacUnit) else str(x)


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


def _steps(log: Sequence[Addition] | Sequence[FloatAddition]) -> list[str]:
    """The additions up to a few after the first overflow."""
    first = next((i for i, step in enumerate(log) if step.overflowed), len(log))
    start = max(0, min(first - _SHOWN // 2, len(log) - _SHOWN))
    lines = [_step(step) for step in log[start : start + _SHOWN]]
    more = len(log) - start - _SHOWN
    return [*(["..."] if start else []), *lines, *([f"... {more} more"] if more > 0 else [])]


def _step(step: Addition | FloatAddition) -> str:
    place = f"{step.accumulator} chunk {step.chunk} k <= {step.last}: "
    if isinstance(step, FloatAddition):
        part = "" if step.part == "sum" else f"{step.part} = "
        return (
            place
            + part
            + f"{hexadecimal(step.before)} + {hexadecimal(step.term)} -> {hexadecimal(step.value)}"
        )
    total = step.before + step.term
    return place + f"{step.before} + {step.term} = {total}" + (f" -> {step.value}" if step.overflowed else "")
