"""What docs/testing-your-quantiser.md shows runs, and the messages it quotes are those that come out."""

import contextlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from lowbit_sim.testing import ContractError, contract

PAGE = (Path(__file__).parents[2] / "docs/testing-your-quantiser.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
#: Blocks that end in a check whose message the page quotes.
QUOTED = dict(re.findall(r"<!-- message: (\w+) -->\n```\n(.*?)```", PAGE, re.DOTALL))


def shape_of(message: str) -> list[str]:
    """The headline and the labels: which input is found depends on Hypothesis's version."""
    headline, *rows = message.strip().split("\n")
    return [headline, *(row.split()[0] for row in rows if re.match(r"  \w", row))]


@contextlib.contextmanager
def few_examples() -> Iterator[None]:
    """Checks that pass need not look for long: what they pass is a matter of other tests."""
    with examples(lambda given: min(40, given)):
        yield


@contextlib.contextmanager
def examples(count: Callable[[int], int]) -> Iterator[None]:
    """Have checks draw another number of examples."""

    def changed(**options: Any) -> hypothesis.settings:
        return hypothesis.settings(**options | {"max_examples": count(options["max_examples"])})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(contract, "settings", changed)
        yield


@pytest.fixture(scope="module")
def outcome() -> dict:
    """The names that the page defines, and the message of each check that fails."""
    names: dict = {"messages": {}}
    for block in BLOCKS:
        try:
            with few_examples():
                exec(block, names)
        except ContractError as error:
            names["messages"][str(error).split()[0]] = str(error)
    return names


def test_only_the_quoted_checks_fail(outcome):
    assert set(QUOTED) == {"my_int8", "half_up", "my_mac"}
    assert set(outcome["messages"]) == {"half_up", "my_mac"}


def test_the_test_functions_do_what_the_page_says(outcome):
    # Few inputs show the mistake, so that one run in some hundreds would miss it.
    with (
        pytest.raises(ContractError, match="my_int8 is not int8") as caught,
        examples(lambda given: 5 * given),
    ):
        outcome["test_my_int8"]()
    assert shape_of(str(caught.value)) == shape_of(QUOTED["my_int8"])
    with few_examples():
        outcome["test_my_better_int8"]()
        outcome["test_codes_keep_the_sign"]()


@pytest.mark.parametrize("name", ["half_up", "my_mac"])
def test_the_quoted_messages_are_printed(outcome, name):
    assert shape_of(outcome["messages"][name]) == shape_of(QUOTED[name])
