from hypothesis import given
from hypothesis import strategies as st

from hw_models.explore.pareto import pareto_front, pareto_front_reference
from hw_models.explore.sweep import SweepPoint


def point(seconds: float, energy_pj: float, refusal: str = "") -> SweepPoint:
    return SweepPoint(settings=(), seconds=seconds, energy_pj=energy_pj, refusal=refusal)


def test_a_hand_drawn_front():
    points = [point(1, 9), point(2, 5), point(3, 6), point(4, 1), point(2, 5), point(1, 10), point(5, 1)]
    assert pareto_front(points) == [True, True, False, True, True, False, False]


def test_refused_points_are_not_on_the_front_and_hide_nothing():
    assert pareto_front([point(0, 0, "not valid"), point(3, 3)]) == [False, True]


def test_nothing_has_no_front():
    assert pareto_front([]) == []


SMALL = st.integers(0, 4).map(float)
POINTS = st.lists(st.builds(point, SMALL, SMALL, st.sampled_from(["", "", "", "refused"])), max_size=20)


@given(POINTS)
def test_the_pass_is_the_definition(points):
    assert pareto_front(points) == pareto_front_reference(points)
