import math

import pytest
import torch

from lowbit_sim.ghn import Architecture, Cell, Edge, GraphNetwork, NetworkGraph, Node, build_graph
from lowbit_sim.ghn.graph import PRIMITIVES
from tests.ghn.examples import SPLIT, every_operator, graph, graphs


def test_a_network_by_hand():
    """Stem 3x3 to 4 channels; one cell with a node of a 3x3 convolution and a skip; two classes."""
    cell = Cell(((Edge("conv_3x3", 1), Edge("skip", 1)),))
    found = build_graph(
        Architecture(stem_kernel=3, channels=4, channel_multiplier=1, layers=1, normal=cell, reduction=cell),
        1,
        2,
    )
    kinds = [(node.name, node.primitive, node.inputs) for node in found.nodes]
    assert kinds == [
        ("images", "input", ()),
        ("stem_conv", "conv", (0,)),
        ("stem_bn", "batch_norm", (1,)),
        ("cell0_in1_conv", "conv", (2,)),
        ("cell0_in1_bn", "batch_norm", (3,)),
        ("cell0_node0_edge0_conv", "conv", (4,)),
        ("cell0_node0_edge0_bn", "batch_norm", (5,)),
        ("cell0_node0", "sum", (6, 4)),
        ("pool", "global_avg", (7,)),
        ("classifier", "linear", (8,)),
        ("classifier_bias", "bias", (9,)),
    ]
    #      stem 1*4*9, norm 2*4, 1x1 4*4, norm 8, 3x3 4*4*9, norm 8, classes 4*2 + 2
    assert found.parameters == 36 + 8 + 16 + 8 + 144 + 8 + 8 + 2
    assert found.nodes[5].fan_in == 36
    assert [node.relu for node in found.multiplying] == [False, True, True, False]


def test_every_primitive_comes_up():
    assert {node.primitive for node in graph().nodes} == set(PRIMITIVES)


@pytest.mark.parametrize("number", range(12))
def test_the_network_has_the_graph_s_parameters_each_once(number):
    found = build_graph(SPLIT[number], 1, 4)
    network = GraphNetwork(found)
    named = {name: tuple(p.shape) for name, p in network.named_parameters()}
    assert named == dict(found.parameter_shapes)
    assert found.parameters == sum(p.numel() for p in network.parameters())
    assert found.parameters == sum(map(math.prod, found.parameter_shapes.values()))


@pytest.mark.parametrize("size", [8, 7, 5, 1])
def test_reductions_halve_images_of_any_size(size):
    # Of one pixel there are no statistics of one image, so two.
    logits = GraphNetwork(graph())(torch.randn(2, 1, size, size))
    assert logits.shape == (2, 4)


def test_a_reduction_s_nodes_all_have_one_size():
    """An edge from outside has the stride, one from a node inside has not: sums and concatenations fit."""
    nodes = {node.name: node for node in graph().nodes}
    assert nodes["cell1_node0_edge0_conv"].stride == (2, 2)
    inner = [n for n in nodes.values() if n.name.startswith("cell1_node7_edge1") and n.shape is not None]
    assert all(node.stride == (1, 1) for node in inner)


def test_groups_divide_the_channels():
    cell = Cell(((Edge("group_conv_3x3", 1),),))
    for channels, groups in ((8, 4), (6, 2), (5, 1)):
        found = build_graph(
            Architecture(
                stem_kernel=3, channels=channels, channel_multiplier=1, layers=1, normal=cell, reduction=cell
            ),
            1,
            2,
        )
        [node] = [each for each in found.nodes if each.primitive == "group_conv"]
        assert node.groups == groups
        assert node.shape == (channels, channels // groups, 3, 3)


def test_unread_cell_inputs_have_no_nodes():
    cell = Cell(((Edge("conv_1x1", 1),),))
    found = build_graph(
        Architecture(stem_kernel=3, channels=4, channel_multiplier=1, layers=3, normal=cell, reduction=cell),
        1,
        2,
    )
    assert not any("_in0" in node.name for node in found.nodes)


def test_every_node_is_read():
    for found in graphs(12):
        read = {number for node in found.nodes for number in node.inputs}
        assert read == set(range(len(found) - 1))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: NetworkGraph(()), "has nodes"),
        (lambda: NetworkGraph((Node(name="a", primitive="sum", inputs=(0,)),)), "node 0, 'a', reads"),
        (lambda: NetworkGraph((Node(name="a", primitive="input"),) * 2), "two nodes are called 'a'"),
        (lambda: Node(name="a", primitive="conv"), "'a', a conv, has the shape None"),
        (lambda: Node(name="a", primitive="sum", shape=(1, 1, 1, 1)), "has the shape"),
        (lambda: Node(name="a", primitive="soum"), "soum"),
        (lambda: build_graph(every_operator(), 0, 4), "in_channels and classes must be positive"),
    ],
)
def test_graphs_that_can_not_be(make, message):
    with pytest.raises(ValueError, match=message):
        make()
