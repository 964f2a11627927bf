"""`check_mac`: does a function of two vectors accumulate as a multiply-accumulate unit says?"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import strategies as st

from lowbit_sim.arith.backends import reference
from lowbit_sim.arith.float_mac import FloatMacUnit
from lowbit_sim.arith.float_reference import Adder, dot
from lowbit_sim.arith.mac import MacUnit
from lowbit_sim.numerics.formats import Format
from lowbit_sim.testing.contract import MAX_EXAMPLES, ContractError, called, name_of, search
from lowbit_sim.testing.describe import hexadecimal, listing
from lowbit_sim.testing.gemm_cases import edges, float_edges, overflowing, seeded_codes, seeded_values
from lowbit_sim.testing.gemm_story import differ, in_words, story
from lowbit_sim.testing.gemm_strategies import LONGEST_LIST, codes, extreme_codes, values

#: Two vectors, as K pairs, so that a failing example shrinks by leaving products out.
Pairs = list[tuple[Any, Any]]

#: A chunk up to this length is drawn at its full length.
_LONGEST_CHUNK = 1 << 12


def check_mac(
    fn: Callable[[list[Any], list[Any]], Any],
    mac: MacUnit | FloatMacUnit,
    *,
    a_format: Format | str | None = None,
    b_format: Format | str | None = None,
    largest: int = 40,
    max_examples: int = MAX_EXAMPLES,
    deterministic: bool = True,
) -> None:
    """Check that a function multiplies and accumulates two vectors as a MAC unit does.

    Beside the vectors that are drawn a fixed list is tried: lengths of 31 to 129, around those of SIMD registers, and
    runs of extreme codes that leave the range of the unit's accumulators, for good and on the way only, wherever some
    2^17 products can do it. With INT8 codes these are accumulators of up to 32 bits, with INT4 codes (products up to
    2^6) of up to 24. Accumulators that are wider, 48 bits say, can't be made to overflow: of them the check says
    nothing more than that the sums are right.

    Args:
        fn: `fn(a, b)` with two lists of K Python integers; returns the result as the outer accumulator holds it (a
            signed number, truncated bits shifted back), or a pair (result, number of additions that overflowed).
            For a `FloatMacUnit` two lists of K floats, each a float32 value; returns a float.
        mac: The unit; a `FloatMacUnit` that does not round stochastically.
        a_format: Format of the elements of a, or its name: an integer one for a `MacUnit` (by default int8_full), any
            for a `FloatMacUnit` (by default fp8_e4m3fn).
        b_format: Format of the elements of b, likewise.
        largest: The longest K that is drawn, unless a chunk asks for more.
        max_examples: How many pairs of vectors are drawn.
        deterministic: Draw the same vectors each time.

    Raises:
        ContractError: The function differs; the message shows the shortest vectors found and the additions.
        TypeError: A format that is not an integer one for a `MacUnit`, or no unit.
        ValueError: Stochastic additions.
    """
    __tracebackhide__ = True
    check_unit(mac)
    default = "fp8_e4m3fn" if isinstance(mac, FloatMacUnit) else "int8_full"
    formats = (a_format or default, b_format or default)

    def test(pairs: Pairs) -> None:
        __tracebackhide__ = True
        a, b = [x for x, _ in pairs], [y for _, y in pairs]
        if isinstance(mac, FloatMacUnit):
            _compare_float(fn, mac, a, b)
        else:
            _compare(fn, mac, a, b)

    if isinstance(mac, FloatMacUnit):
        fixed = float_edges(*formats)
    else:
        fixed = itertools.chain(edges(*formats), overflowing(mac, *formats))
    search(
        test,
        _pairs(mac, formats, largest),
        last=(list(zip(a, b, strict=True)) for a, b in fixed),
        max_examples=max_examples,
        deterministic=deterministic,
    )


def check_unit(mac: Any) -> None:
    """A unit that can be checked.

    Raises:
        TypeError: No unit.
        ValueError: Stochastic additions.
    """
    if not isinstance(mac, MacUnit | FloatMacUnit):
        raise TypeError(f"mac is a MacUnit or a FloatMacUnit, got {type(mac).__name__}")
    if isinstance(mac, FloatMacUnit) and mac.rounding.is_stochastic:
        raise ValueError(f"{mac} draws random bits, which fn is not handed: check a deterministic rounding")


def _pairs(
    mac: MacUnit | FloatMacUnit, formats: tuple[Format | str, Format | str], largest: int
) -> st.SearchStrategy[Pairs]:
    longest = max(largest, 2 * mac.chunk + 1 if mac.chunk <= _LONGEST_CHUNK else 0)
    kinds = [values] if isinstance(mac, FloatMacUnit) else [codes, extreme_codes]
    listed = st.one_of(
        *(st.lists(st.tuples(*map(kind, formats)), max_size=min(longest, LONGEST_LIST)) for kind in kinds)
    )
    if longest <= LONGEST_LIST:
        return listed

    def seeded(length: int, seed: int, extreme: bool) -> Pairs:
        if isinstance(mac, FloatMacUnit):
            a, b = (seeded_values(f, (length,), seed + i) for i, f in enumerate(formats))
        else:
            a, b = (seeded_codes(f, (length,), seed + i, extreme) for i, f in enumerate(formats))
        return list(zip(a.tolist(), b.tolist(), strict=True))

    return listed | st.builds(seeded, st.integers(0, longest), st.integers(0, 1 << 30), st.booleans())


def _compare(fn: Callable[..., Any], mac: MacUnit, a: list[int], b: list[int]) -> None:
    __tracebackhide__ = True
    expected, overflows = reference.dot(a, b, mac)
    result = called(fn, (list(a), list(b)), _input(a, b, str))
    got, count = result if isinstance(result, tuple) else (result, None)
    if got != expected:
        raise ContractError(story(name_of(fn), mac, a, b, str(expected), str(got)))
    if count is not None and count != overflows:
        raise ContractError(story(name_of(fn), mac, a, b, f"{overflows} overflows", f"{count} overflows"))


def _compare_float(fn: Callable[..., Any], mac: FloatMacUnit, a: list[float], b: list[float]) -> None:
    __tracebackhide__ = True
    expected = dot(a, b, mac, Adder(mac.rounding, lambda addition: 0))
    shown = _input(a, b, hexadecimal)
    got = called(lambda *vectors: float(fn(*vectors)), (list(a), list(b)), shown)
    if differ(np.asarray(got), np.asarray(expected)):
        raise ContractError(story(name_of(fn), mac, a, b, in_words(mac, expected), in_words(mac, got)))


def _input(a: list[Any], b: list[Any], show: Callable[[Any], str]) -> Callable[[], str]:
    return lambda: f"  input  a = {listing(a, show)}, b = {listing(b, show)}"
