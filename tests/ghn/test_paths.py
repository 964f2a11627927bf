import networkx as nx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lowbit_sim.ghn.paths import NO_PATH, levels, shortest_paths
from lowbit_sim.ghn.reference import distances
from tests.ghn.examples import graphs


@st.composite
def dags(draw):
    count = draw(st.integers(1, 12))
    return [draw(st.sets(st.integers(0, v - 1), max_size=3)) if v else set() for v in range(count)]


def as_networkx(inputs) -> nx.DiGraph:
    found = nx.DiGraph()
    found.add_nodes_from(range(len(inputs)))
    found.add_edges_from((u, v) for v, each in enumerate(inputs) for u in each)
    return found


def check(inputs) -> None:
    theirs = as_networkx(inputs)
    length = dict(nx.all_pairs_shortest_path_length(theirs))
    ours = shortest_paths(inputs)
    for u in range(len(inputs)):
        assert distances(inputs, u) == length[u]
        for v in range(len(inputs)):
            assert ours[v, u] == (length[u].get(v, NO_PATH) if u != v else NO_PATH)
    for level, nodes in enumerate(nx.topological_generations(theirs)):
        assert {levels(inputs)[node] for node in nodes} == {level}


@given(dags())
def test_paths_and_levels_are_networkx_s(inputs):
    check([tuple(sorted(each)) for each in inputs])


def test_of_networks():
    for each in graphs(3):
        check([node.inputs for node in each.nodes])


def test_by_hand():
    inputs = [(), (0,), (1,), (0, 2), (3,)]
    assert levels(inputs) == [0, 1, 2, 3, 4]
    assert shortest_paths(inputs).tolist() == [
        [0, 0, 0, 0, 0],
        [1, 0, 0, 0, 0],
        [2, 1, 0, 0, 0],
        [1, 2, 1, 0, 0],
        [2, 3, 2, 1, 0],
    ]


@pytest.mark.parametrize("inputs", [[()], [(), ()], [(), (0, 0)]])
def test_graphs_of_next_to_nothing(inputs):
    check([tuple(set(each)) for each in inputs])
    assert shortest_paths(inputs).max() <= 1
