"""Errors of nested tables are found where they stand in the file."""

from typing import Literal

import pytest
from pydantic import ValidationError, model_validator

from lowbit_sim.config.layer_tables import LayerTable
from lowbit_sim.config.mac_config import FloatMacTable
from lowbit_sim.config.problems import problems
from lowbit_sim.config.tables import KeyedError, Strict


def found(table):
    with pytest.raises(ValidationError) as error:
        LayerTable.model_validate(table)
    return list(problems(error.value, LayerTable, ("arithmetic",)))


def test_a_wrong_value_names_its_place_and_table():
    (problem,) = found({"format": "int8", "chunk": -1})
    assert problem.location == ("arithmetic", "chunk")
    assert problem.root is LayerTable
    assert problem.inner == ("chunk",)
    assert problem.value == -1
    assert problem.reason == "Input should be greater than or equal to 0"
    assert problem.is_about_a_value


def test_a_table_that_a_validator_reads_has_its_own_root():
    (problem,) = found({"format": "int8", "mac": {"accumulator": "fp16", "chnk": 3}})
    assert problem.location == ("arithmetic", "mac", "chnk")
    assert problem.root is FloatMacTable
    assert problem.inner == ("chnk",)
    assert problem.kind == "extra_forbidden"


def test_a_table_in_a_table_in_a_table():
    (problem,) = found(
        {
            "format": "int8",
            "output": {"lhs": {"format": "int8", "scale": {"rule": "percentile", "percent": 9}}},
        }
    )[:1]
    assert problem.location[:4] == ("arithmetic", "output", "lhs", "scale")


def test_a_check_of_ours_speaks_in_its_own_words():
    (problem,) = found({"format": "int8", "granularity": {"block": 4, "axis": 0}})
    assert problem.location == ("arithmetic", "granularity")
    assert problem.reason == "give axis, group and axis, or block, got axis and block"
    assert not problem.is_about_a_value


def test_all_that_is_wrong_is_found():
    locations = [p.location for p in found({"format": "int9x", "chunk": "one", "samples": 0})]
    assert locations == [("arithmetic", "format"), ("arithmetic", "chunk"), ("arithmetic", "samples")]


class Words(Strict):
    mode: Literal["additive", "multiplicative"] = "additive"
    names: tuple[str, ...] = ()


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        (
            {"mode": "mult"},
            "expected 'additive' or 'multiplicative'; did you mean 'multiplicative'?",
        ),
        ({"mode": 3}, "expected 'additive' or 'multiplicative'"),
        ({"names": "*.weight"}, 'expected a list, as in ["*.weight"]'),
        ({"names": 3}, "expected a list, as in [ ... ]"),
    ],
    ids=str,
)
def test_what_pydantic_says_of_python_is_said_of_toml(table, reason):
    with pytest.raises(ValidationError) as error:
        Words.model_validate(table)
    (problem,) = problems(error.value, Words)
    assert problem.reason == reason


class Pair(Strict):
    low: int
    high: int

    @model_validator(mode="after")
    def _in_order(self) -> "Pair":
        if self.low > self.high:
            raise KeyedError(("high",), f"below low = {self.low}")
        return self


class Pairs(Strict):
    pairs: dict[str, Pair]


def test_a_check_of_a_whole_table_may_name_the_key():
    with pytest.raises(ValidationError) as error:
        Pairs.model_validate({"pairs": {"first": {"low": 2, "high": 1}}})
    (problem,) = problems(error.value, Pairs)
    assert problem.location == problem.inner == ("pairs", "first", "high")
    assert problem.reason == "below low = 2"


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("accumulator_bits", 16.5, "expected a whole number"),
        ("soft", 1, "expected a text in quotes"),
    ],
)
def test_a_wrong_type_is_told_without_pydantics_words(key, value, reason):
    class Table(Strict):
        accumulator_bits: int = 8
        soft: str = ""

    with pytest.raises(ValidationError) as error:
        Table.model_validate({key: value})
    (problem,) = problems(error.value, Table)
    assert problem.reason.startswith(reason)
