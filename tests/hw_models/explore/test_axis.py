import itertools
import math

import pytest

import hw_models
from hw_models.explore.axis import MOST_POINTS, Axis, grid


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("array.rows=8,16,32", (8, 16, 32)),
        (" array.rows = 8 , 16 ", (8, 16)),
        ("clock.frequency_hz=1e9,0.5e9", (1_000_000_000, 500_000_000)),
        ("machine.voltage_v=0.55,1.0", (0.55, 1)),
        ("array.dataflow=ws,os", ("ws", "os")),
        ('array.dataflow="ws"', ("ws",)),
        ("vector.overlaps_array=true,false", (True, False)),
        ("clock.frequency_hz=1_000", (1000,)),
        ("machine.description=2020-01-01", ("2020-01-01",)),  # a date in TOML, of which profiles have none
    ],
)
def test_values_are_read_as_a_profile_would(text, values):
    axis = Axis.parse(text)
    assert axis.key == text.split("=")[0].strip()
    assert axis.values == values
    assert [type(v) for v in axis.values] == [type(v) for v in values]


def test_infinity_stays_what_it_is_for_the_profile_to_refuse():
    assert math.isinf(float(Axis.parse("machine.voltage_v=inf").values[0]))


@pytest.mark.parametrize("text", ["array.rows", "=8", "array.rows=", "array.rows=8,,16", "", "array.rows=8,"])
def test_what_is_no_axis_is_refused_with_an_example(text):
    with pytest.raises(hw_models.ProfileError, match=r"KEY=VALUE.*array\.rows=8,16,32"):
        Axis.parse(text)


def test_a_value_given_twice_is_refused():
    with pytest.raises(hw_models.ProfileError, match="array.rows: the value 8 is given more than once"):
        Axis.parse("array.rows=8,16,8")


def test_an_axis_without_values_is_refused():
    with pytest.raises(hw_models.ProfileError, match="at least one value"):
        Axis(key="array.rows", values=())


def test_the_grid_is_the_product_with_the_last_axis_fastest():
    axes = [Axis(key="a", values=(1, 2)), Axis(key="b", values=("x", "y", "z"))]
    assert grid(axes) == [(("a", a), ("b", b)) for a, b in itertools.product((1, 2), "xyz")]


def test_a_grid_without_axes_is_the_profile_alone():
    assert grid([]) == [()]


def test_a_key_on_two_axes_is_refused():
    with pytest.raises(hw_models.ProfileError, match="a is swept more than once"):
        grid([Axis(key="a", values=(1,)), Axis(key="a", values=(2,))])


def test_a_grid_of_too_many_points_is_refused_before_it_is_made():
    axes = [Axis(key=key, values=tuple(range(1000))) for key in ("a", "b")]
    assert len(grid(axes)) == MOST_POINTS
    with pytest.raises(
        hw_models.ProfileError, match="at most 1,000,000 points, got 1000 x 1000 x 1000 = 1,000,000,000"
    ):
        grid([*axes, Axis(key="c", values=tuple(range(1000)))])
