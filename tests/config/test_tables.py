from dataclasses import dataclass

import pytest

import lowbit_sim as lb
from lowbit_sim.config.tables import Choice, RoundingTable, TableError


@dataclass(frozen=True)
class Round:
    radius: float
    label: str | None = None


def square(side: int = 2) -> str:
    if side < 1:
        raise TypeError(f"a side is at least 1, got {side}")
    return f"square {side}"


SHAPES = Choice("shape", "kind", {"round": Round, "square": square}, {"copies": (int, 1)})


def test_a_name_stays_a_name_and_builds_with_the_defaults():
    assert SHAPES("square") == "square"
    assert SHAPES.build("square") == "square 2"


def test_a_table_takes_the_parameters_of_class_and_function():
    assert SHAPES.build(SHAPES({"kind": "round", "radius": 2})) == Round(2.0)
    assert SHAPES.build(SHAPES({"kind": "square", "side": 5, "copies": 3})) == "square 5"
    assert SHAPES({"kind": "square", "copies": 3}).copies == 3


def test_what_is_written_has_every_default_and_reads_back_equal():
    written = SHAPES.written("square")
    assert written.model_dump() == {"kind": "square", "side": 2, "copies": 1}
    assert SHAPES(written.model_dump()) == written == SHAPES.written(written)


def test_a_choice_without_parameters_is_written_as_its_name():
    plain = Choice("shape", "kind", {"empty": lb.PowerOfTwoScale})
    assert plain.written(plain({"kind": "empty"})) == "empty"


def test_an_object_finds_its_choice():
    assert SHAPES.value_of(Round(3.0, label="x")) == SHAPES({"kind": "round", "radius": 3.0, "label": "x"})


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("sqare", "unknown shape 'sqare': known are round, square; did you mean 'square'"),
        ({"kind": "sqare"}, "unknown shape 'sqare'.*did you mean 'square'"),
        ({"kind": 3}, "unknown shape 3: known are round, square"),
        ({"side": 3}, "the key 'kind' is missing: the shape, one of round, square"),
        ("round", r"shape 'round' has parameters: write \{ kind = 'round', radius = ... \}"),
        (3, "expected the name of a shape or a table with the key 'kind', got 3"),
        ({"kind": "square", "side": 0}, "a side is at least 1, got 0"),
        ({"kind": "square", "side": 2.0}, "side: .*valid integer"),
        ({"kind": "square", "radius": 2}, "radius: Extra inputs"),
        ({"kind": "round"}, "radius: Field required"),
    ],
)
def test_what_can_not_be_is_refused(value, message):
    with pytest.raises(ValueError, match=message):
        SHAPES(value)


def test_an_error_inside_a_table_keeps_its_place():
    with pytest.raises(TableError) as caught:
        SHAPES({"kind": "square", "radius": 2})
    assert caught.value.error.errors()[0]["loc"] == ("radius",)
    assert set(caught.value.model.model_fields) == {"kind", "side", "copies"}


def test_a_roundings_overflow_is_that_of_its_place():
    table = RoundingTable(mode="up")
    assert table.build() == lb.Rounding("up")
    assert table.build("infinity") == lb.Rounding("up", overflow="infinity")
    wrap = RoundingTable(mode="up", overflow="wrap")
    assert wrap.build("infinity").overflow == "wrap"
    assert RoundingTable.of(wrap.build()) == wrap
    assert RoundingTable.of(table.build(), "saturate") == table
