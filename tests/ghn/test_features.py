import pytest
import torch

from lowbit_sim.ghn.features import KERNELS, NONE, NodeFeatures, channel_table, node_rows, row_of
from lowbit_sim.ghn.graph import PRIMITIVES
from tests.ghn.examples import CLASSES, graph


def test_the_table_of_channels():
    table = channel_table(10)
    assert table[:4] == (1, 3, 8, 10)
    assert 56 in table
    assert 64 in table
    assert 72 not in table
    assert 4096 in table
    assert 4112 not in table
    assert table[-1] == 8192
    assert list(table) == sorted(set(table))


@pytest.mark.parametrize(("size", "listed"), [(1, 1), (2, 1), (4, 3), (5, 6), (7, 6), (68, 64), (9000, 8192)])
def test_an_unlisted_size_is_the_nearest_and_of_two_the_smaller(size, listed):
    # 1, 3, 6, 8, 16, 24, 32, 40, 48, 56, 64, 80, ...
    table = channel_table(6)
    assert table[row_of(size, table) - 1] == listed


def test_the_larger_neighbour_is_taken_where_it_is_nearer():
    table = channel_table(6)
    assert table[row_of(74, table) - 1] == 80
    assert [KERNELS[row_of(size, KERNELS) - 1] for size in (1, 2, 7, 12, 13, 15, 40)] == [
        1,
        1,
        7,
        11,
        14,
        14,
        16,
    ]


def test_each_node_has_its_primitive_and_shape():
    found = graph()
    kinds, shapes = node_rows(found, CLASSES)
    table = channel_table(CLASSES)
    for number, node in enumerate(found.nodes):
        assert PRIMITIVES[kinds[number]] == node.primitive
        if node.shape is None:
            assert shapes[number].tolist() == [NONE] * 4
        else:
            height, width = (KERNELS[row - 1] for row in shapes[number, 2:].tolist())
            assert (height, width) == node.shape[2:]
            outputs = node.shape[0]
            assert table[shapes[number, 0] - 1] == min(table, key=lambda size, o=outputs: abs(size - o))


def test_features_are_the_sum_of_the_tables():
    features = NodeFeatures(8, CLASSES)
    kinds, shapes = node_rows(graph(), CLASSES)
    found = features(kinds, shapes)
    for number in (0, 1, len(kinds) - 1):
        rows = shapes[number].tolist()
        parts = [features.channels.weight[rows[0]], features.channels.weight[rows[1]]]
        parts += [features.kernels.weight[rows[2]], features.kernels.weight[rows[3]]]
        assert torch.equal(found[number], features.primitives.weight[kinds[number]] + torch.cat(parts))
