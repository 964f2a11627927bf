import pytest

from lowbit_sim.ghn import OPERATORS, Architecture, Cell, Edge
from tests.ghn.examples import every_operator

CELL = Cell(((Edge("skip", 1), Edge("conv_3x3", 0)), (Edge("max_pool_3x3", 2),)))


def architecture(**changed) -> Architecture:
    values = {"stem_kernel": 3, "channels": 8, "channel_multiplier": 2, "layers": 6}
    return Architecture(**{**values, "normal": CELL, "reduction": CELL, **changed})


def test_there_are_at_least_fifteen_operators():
    assert len(set(OPERATORS)) == len(OPERATORS) >= 15


@pytest.mark.parametrize(
    ("layers", "reductions"), [(1, set()), (2, {1}), (3, {1, 2}), (6, {2, 4}), (9, {3, 6})]
)
def test_reductions_stand_at_a_third_and_at_two_thirds(layers, reductions):
    assert architecture(layers=layers).reductions == reductions


def test_a_layer_has_its_kind_of_cell():
    other = Cell(((Edge("skip", 1),),))
    found = architecture(reduction=other)
    assert [found.cell(layer) is other for layer in range(6)] == [False, False, True, False, True, False]


def test_architectures_are_values():
    assert architecture() == architecture()
    assert hash(architecture()) == hash(architecture())
    assert architecture() != architecture(channels=9)
    assert len({edge.operator for node in every_operator().normal.nodes for edge in node}) == len(OPERATORS)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Edge("conv_9x9", 0), "conv_9x9"),
        (lambda: Cell(()), "has nodes"),
        (lambda: Cell(((),)), "every node edges"),
        (lambda: Cell(((Edge("skip", 2), Edge("skip", 1)),)), "node 0 reads state 2: .* are 0 to 1"),
        (lambda: Cell(((Edge("skip", 0),),)), "state 1, the last cell"),
        (lambda: architecture(channels=0), "channels must be at least 1, got 0"),
        (lambda: architecture(stem_kernel=4), "stem_kernel must be odd and positive, got 4"),
    ],
)
def test_what_can_not_be_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
