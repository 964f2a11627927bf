import dataclasses

import pytest

from lowbit_sim.ghn import (
    Architecture,
    Cell,
    DesignSpace,
    Edge,
    TrainingSplit,
    build_graph,
    draw_architecture,
    held_out,
)
from lowbit_sim.ghn.architecture import LAST
from lowbit_sim.ghn.space import kind
from tests.ghn.examples import SPACE, SPLIT

WIDE = DesignSpace()


def test_a_number_names_one_architecture_for_ever():
    # A change of the drawing would make another space of the same name: published records would not be of it.
    found = draw_architecture(WIDE, "train", 0)
    assert (found.stem_kernel, found.channels, found.channel_multiplier, found.layers) == (7, 48, 1, 11)
    assert found == draw_architecture(WIDE, "train", 0)
    others = [
        draw_architecture(WIDE, "train", 1),
        draw_architecture(WIDE, "test", 0),
        draw_architecture(WIDE, "train", 0, seed=1),
    ]
    assert len({found, *others}) == 4


def test_every_field_is_within_the_space():
    for number in range(60):
        found = draw_architecture(WIDE, "train", number)
        assert WIDE.layers[0] <= found.layers <= WIDE.layers[1]
        assert found.channels in WIDE.channels
        assert found.stem_kernel in WIDE.stem_kernels
        assert found.channel_multiplier in WIDE.channel_multipliers
        for cell in (found.normal, found.reduction):
            assert WIDE.nodes[0] <= len(cell.nodes) <= WIDE.nodes[1]
            assert {len(edges) for edges in cell.nodes} == {WIDE.edges}
            assert LAST in cell.sources


def test_every_operator_and_every_size_is_drawn():
    found = [draw_architecture(WIDE, "train", number) for number in range(200)]
    drawn = {edge.operator for each in found for edges in each.normal.nodes for edge in edges}
    assert drawn == set(WIDE.operators)
    assert {each.layers for each in found} == set(range(WIDE.layers[0], WIDE.layers[1] + 1))


def test_the_limit_of_parameters_holds():
    space = dataclasses.replace(WIDE, parameter_limit=300_000)
    for number in range(10):
        assert build_graph(draw_architecture(space, "train", number), 3, 10).parameters <= 300_000
    with pytest.raises(ValueError, match="more than 5 parameters each"):
        draw_architecture(dataclasses.replace(SPACE, parameter_limit=5), "train", 0)


def test_a_split_is_a_sequence():
    assert len(SPLIT) == 12
    assert SPLIT[3] == draw_architecture(SPACE, "train", 3)
    for number in (-1, 12):
        with pytest.raises(IndexError):
            SPLIT[number]
    with pytest.raises(ValueError, match="size=0"):
        TrainingSplit(space=SPACE, size=0)


#: Few enough architectures that the splits would meet.
SMALL = DesignSpace(
    layers=(1, 1),
    nodes=(1, 1),
    channels=(4,),
    channel_multipliers=(1,),
    stem_kernels=(3,),
    operators=("skip",),
)


def prints(architectures) -> set[str]:
    return {build_graph(each, 1, 4).fingerprint for each in architectures}


def test_held_out_networks_are_in_no_other_split_and_differ():
    training = TrainingSplit(space=SPACE, size=100)
    found = held_out(SPACE, "test", 20, training)
    assert len(prints(found)) == 20
    assert not prints(found) & prints(training[number] for number in range(100))
    assert found[:5] == held_out(SPACE, "test", 5, training)


def test_what_the_training_split_holds_is_passed_over():
    candidate = draw_architecture(SPACE, "test", 0)
    assert held_out(SPACE, "test", 1, [candidate])[0] != candidate


def test_networks_of_other_architectures_may_be_the_same():
    """The reduction of a single cell is not used, both states before it are the stem, and sums have no order."""

    def one_cell(first: Edge, second: Edge, reduction: str) -> Architecture:
        return Architecture(
            stem_kernel=3,
            channels=4,
            channel_multiplier=1,
            layers=1,
            normal=Cell(((first, second),)),
            reduction=Cell(((Edge(reduction, 1),),)),
        )

    one = one_cell(Edge("conv_3x3", 1), Edge("skip", 0), "skip")
    same = one_cell(Edge("skip", 1), Edge("conv_3x3", 0), "max_pool_3x3")
    other = one_cell(Edge("skip", 1), Edge("conv_5x5", 0), "skip")
    assert one != same
    assert len(prints([one, same])) == 1
    assert len(prints([one, other])) == 2


def test_networks_that_are_the_same_are_of_one_kind():
    """Over a space in which many are: else one that is in the training split could pass for held out."""
    narrow = DesignSpace(
        layers=(1, 2),
        nodes=(1, 1),
        channels=(4,),
        channel_multipliers=(1, 2),
        stem_kernels=(3,),
        operators=("conv_1x1", "conv_3x3", "max_pool_3x3", "skip"),
    )
    kinds: dict[str, set] = {}
    for number in range(400):
        drawn = draw_architecture(narrow, "train", number)
        kinds.setdefault(build_graph(drawn, 1, 4).fingerprint, set()).add(kind(drawn))
    assert len(kinds) < 300
    assert all(len(each) == 1 for each in kinds.values())
    assert len({each for found in kinds.values() for each in found}) > 40


def test_a_space_that_is_too_small_is_refused():
    # A cell of one node with two skips from the stem, whichever state they come from.
    assert len(held_out(SMALL, "test", 1, [])) == 1
    with pytest.raises(ValueError, match="'test': 1 of the 2 networks that were asked for lie outside"):
        held_out(SMALL, "test", 2, [])
    with pytest.raises(ValueError, match="'train' is the split"):
        held_out(SMALL, "train", 1, [])


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"channels": ()}, "channels of a design space is empty"),
        ({"layers": (3, 2)}, "layers goes from at least 1 to no less, got 3 to 2"),
        ({"nodes": (0, 2)}, "nodes goes from"),
        ({"operators": ("conv_3x3", "cov_5x5")}, "cov_5x5"),
        ({"edges": 0}, "edges=0"),
    ],
)
def test_spaces_that_can_not_be(changed, message):
    with pytest.raises(ValueError, match=message):
        DesignSpace(**changed)
