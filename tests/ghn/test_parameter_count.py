import dataclasses

import pytest

from lowbit_sim.ghn import DesignSpace, build_graph, draw_architecture
from lowbit_sim.ghn.parameter_count import count_parameters
from tests.ghn.examples import every_operator

WIDE = DesignSpace(channels=(5, 6, 8, 32), nodes=(1, 4), layers=(1, 9))


@pytest.mark.parametrize("number", range(25))
def test_it_is_the_graph_s(number):
    drawn = draw_architecture(WIDE, "train", number)
    for in_channels, classes in ((3, 10), (1, 4)):
        assert (
            count_parameters(drawn, in_channels, classes)
            == build_graph(drawn, in_channels, classes).parameters
        )


@pytest.mark.parametrize("channels", [4, 5, 6, 8])
@pytest.mark.parametrize("multiplier", [1, 2])
def test_with_every_operator_in_both_kinds_of_cells(channels, multiplier):
    given = dataclasses.replace(every_operator(), channels=channels, channel_multiplier=multiplier)
    assert count_parameters(given, 1, 4) == build_graph(given, 1, 4).parameters
