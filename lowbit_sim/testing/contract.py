"""The search for a counterexample, and the error that reports the smallest one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import numpy as np
from hypothesis import HealthCheck, Phase, Verbosity, given, settings
from hypothesis import strategies as st
from hypothesis.errors import FlakyFailure, HypothesisException

Case = TypeVar("Case")

#: Examples that a check tries unless told otherwise.
MAX_EXAMPLES = 300


#: Calls of a check's test that are spent on making a failing example smaller.
_SHRINKING = 600


class ContractError(AssertionError):
    """A function does not do what the check's arithmetic says; the message shows the smallest input found."""


class _EnoughError(BaseException):
    """Ends Hypothesis's search; not an `Exception`, which Hypothesis would take for another failure."""


class _Limited:
    """A test that stops the search some calls after its first failure, and remembers the latest failure.

    Hypothesis goes on only from failing examples that are smaller than the one before, so the latest is the smallest.
    """

    def __init__(self, test: Callable[[Any], None]) -> None:
        self._test, self._left, self.failure = test, _SHRINKING, None

    def __call__(self, case: Any) -> None:
        if self.failure is not None:
            self._left -= 1
        if self._left < 0:
            raise _EnoughError
        try:
            self._test(case)
        except ContractError as error:
            self.failure = error
            raise


#: What a search does: draw cases, then make the first that fails as small as it can.
PHASES = (Phase.generate, Phase.shrink)


def search(
    test: Callable[[Case], None],
    cases: st.SearchStrategy[Case],
    *,
    first: Iterable[Case] = (),
    last: Iterable[Case] = (),
    max_examples: int,
    deterministic: bool,
) -> None:
    """Run a test on cases until one fails, shrink that one and raise its `ContractError`.

    Args:
        test: Raises `ContractError` for a case that fails.
        cases: The cases.
        first: Cases that are tried before all others, in this order.
        last: Cases that are tried if no other fails, in this order: large ones, as they are not made smaller.
        max_examples: How many cases are drawn.
        deterministic: Whether the same cases are drawn each time.

    Raises:
        ContractError: The failure of the smallest case found.
    """
    __tracebackhide__ = True
    for case in first:
        test(case)
    limited = _Limited(test)
    # The user's own Hypothesis profile must not change what a check does; a failing example is in the message, so
    # neither a database nor a note of Hypothesis is needed.
    run = settings(
        max_examples=max_examples,
        derandomize=deterministic,
        database=None,
        deadline=None,
        verbosity=Verbosity.quiet,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),  # pyright: ignore[reportArgumentType]
        phases=PHASES,
    )(given(cases)(_one_argument(limited)))
    try:
        run()
    except (ContractError, _EnoughError) as error:
        found = limited.failure if isinstance(error, _EnoughError) else error
        failure = ContractError(str(found))
        failure.__cause__ = found.__cause__ if found is not None else None
    except FlakyFailure as error:
        failure = ContractError(
            f"{_flaky_story(error)}\n\nIt fails for the same input at one time and not at another."
        )
    else:
        for case in last:
            test(case)
        return
    raise failure


def _one_argument(test: Callable[[Case], None]) -> Callable[[Any], None]:
    # `given` reads the signature, which a bound method or a partial function would hide.
    def body(case: Any) -> None:
        test(case)

    return body


def _flaky_story(error: FlakyFailure) -> str:
    stories = [str(inner) for inner in error.exceptions if isinstance(inner, ContractError)]
    return stories[0] if stories else str(error)


def called(fn: Callable[..., Any], arguments: tuple[Any, ...], shown: str | Callable[[], str]) -> Any:
    """The result of the user's function; what it raises is a failure too.

    Args:
        fn: The function.
        arguments: Its arguments.
        shown: The arguments in words, for the message, or a function that returns them.

    Raises:
        ContractError: The function raised.
    """
    __tracebackhide__ = True
    try:
        return fn(*arguments)
    except HypothesisException:
        raise
    except Exception as error:
        raise ContractError(
            f"{name_of(fn)} raised {type(error).__name__}: {error}\n{_text(shown)}"
        ) from error


def _text(shown: str | Callable[[], str]) -> str:
    return shown if isinstance(shown, str) else shown()


def unchanged(
    fn: Callable[..., Any], before: Sequence[Any], after: Sequence[Any], shown: str | Callable[[], str]
) -> None:
    """The user's function has left its arguments as they were, to the bit.

    Args:
        fn: The function.
        before: Copies of the tensors or arrays that it was handed.
        after: What it was handed.
        shown: The arguments in words, for the message, or a function that returns them.

    Raises:
        ContractError: It has overwritten one.
    """
    __tracebackhide__ = True
    for place, (kept, handed) in enumerate(zip(before, after, strict=True)):
        old, new = np.asarray(kept), np.asarray(handed)
        if old.shape != new.shape or old.tobytes() != new.tobytes():
            raise ContractError(
                f"{name_of(fn)} overwrites argument {place}, which is its caller's\n{_text(shown)}"
            )


def name_of(fn: Callable[..., Any]) -> str:
    """A function's name for messages."""
    return getattr(fn, "__name__", None) or type(fn).__name__


def report(headline: str, **rows: str) -> str:
    """A failure in words: a headline and one labelled line for each fact (empty ones are left out)."""
    shown = {label: text for label, text in rows.items() if text}
    width = max(map(len, shown), default=0)
    lines = (f"  {label:<{width}}  {_indented(text, width + 4)}" for label, text in shown.items())
    return "\n".join([headline, *lines])


def _indented(text: str, columns: int) -> str:
    return text.replace("\n", "\n" + " " * columns)
