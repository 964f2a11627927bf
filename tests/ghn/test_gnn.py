import pytest
import torch
from torch import nn

from lowbit_sim.ghn.batch import graph_batch
from lowbit_sim.ghn.gnn import GatedGNN, GatedUpdate
from lowbit_sim.ghn.graph import NetworkGraph
from lowbit_sim.ghn.reference import gnn_states
from tests.ghn.examples import SIZES, batch_of, graphs, hypernetwork

HIDDEN = 8


def gnn(cutoff: int) -> GatedGNN:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return GatedGNN(HIDDEN, cutoff)


def features(nodes: int) -> torch.Tensor:
    return torch.randn(nodes, HIDDEN, generator=torch.Generator().manual_seed(1))


def inputs_of(graph: NetworkGraph) -> list[tuple[int, ...]]:
    return [node.inputs for node in graph.nodes]


@pytest.mark.parametrize("cutoff", [1, 2, 3, 50])
def test_the_states_are_those_of_visiting_node_by_node(cutoff):
    [graph] = graphs(1)
    x, net = features(len(graph)), gnn(cutoff)
    expected = gnn_states(net, x, inputs_of(graph))
    torch.testing.assert_close(net(x, batch_of(graph, cutoff=cutoff)), expected, rtol=1e-5, atol=1e-6)


def test_a_batch_has_each_graph_s_own_states():
    found = graphs(3)
    x, net = features(sum(map(len, found))), gnn(50)
    together, start = net(x, batch_of(*found)), 0
    for each in found:
        place = slice(start, start + len(each))
        torch.testing.assert_close(together[place], net(x[place], batch_of(each)), rtol=1e-5, atol=1e-6)
        start = place.stop


def test_without_virtual_edges_the_message_is_the_plain_sum():
    """With a cut-off of 1: m_v is the sum of MLP(h_u) over what v reads, and nothing else."""
    [graph] = graphs(1)
    net = gnn(1)
    assert net.virtual_message is None
    assert not any(name.startswith("virtual") for name, _ in net.named_parameters())
    messages: list[torch.Tensor] = []
    net.update.register_forward_pre_hook(lambda module, args: messages.append(args[0]))
    net(features(len(graph)), batch_of(graph, cutoff=1))
    expected: list[torch.Tensor] = []
    slow = gnn(1)
    slow.update.register_forward_pre_hook(lambda module, args: expected.append(args[0]))
    gnn_states(slow, features(len(graph)), inputs_of(graph))
    by_level = [node for level in batch_of(graph).levels for node in level.tolist()]
    forward = torch.cat(messages)[: len(graph)]
    torch.testing.assert_close(forward, torch.cat(expected)[by_level], rtol=1e-5, atol=1e-6)


def test_virtual_edges_change_the_states():
    [graph] = graphs(1)
    x = features(len(graph))
    two, fifty = gnn(2), gnn(50)
    assert not torch.allclose(two(x, batch_of(graph, cutoff=2)), fifty(x, batch_of(graph, cutoff=50)))


def renumbered(graph: NetworkGraph, order: list[int]) -> NetworkGraph:
    """The same graph with its nodes in another topological order."""
    import dataclasses

    new = {old: place for place, old in enumerate(order)}
    nodes = [graph.nodes[old] for old in order]
    return NetworkGraph(tuple(dataclasses.replace(n, inputs=tuple(new[i] for i in n.inputs)) for n in nodes))


def test_another_topological_order_gives_the_same_predictions():
    """By levels from last to first within each level: an order that differs, in which all reads are earlier."""
    from lowbit_sim.ghn.batch import GraphTensors

    graph = graphs(3)[2]
    levels = GraphTensors(graph, 4).levels
    order = sorted(range(len(graph)), key=lambda node: (levels[node], -node))
    assert order != sorted(order)
    ghn = hypernetwork()
    one, other = ghn(batch_of(graph))[0], ghn(batch_of(renumbered(graph, order)))[0]
    assert one.keys() == other.keys()
    for name, value in one.items():
        torch.testing.assert_close(value, other[name], rtol=1e-4, atol=1e-6)


def test_the_update_is_torch_s_gru_cell():
    ours, theirs = GatedUpdate(HIDDEN), nn.GRUCell(HIDDEN, HIDDEN)
    with torch.no_grad():
        theirs.weight_ih.copy_(ours.from_message.weight)
        theirs.weight_hh.copy_(ours.from_state.weight)
        theirs.bias_ih.copy_(ours.from_message.bias)
        theirs.bias_hh.copy_(ours.from_state.bias)
    message, state = features(5), features(7)[2:]
    torch.testing.assert_close(ours(message, state), theirs(message, state), rtol=1e-6, atol=1e-7)


def test_the_batch_s_matrices():
    graph = graphs(1)[0]
    batch = batch_of(graph, cutoff=2)
    for v, node in enumerate(graph.nodes):
        assert batch.direct[v].nonzero().flatten().tolist() == sorted(set(node.inputs))
    assert set(batch.virtual.unique().tolist()) == {0.0, 0.5, 1.0}
    assert torch.equal(batch.virtual == 1, batch.direct == 1)
    assert sorted(node for level in batch.levels for node in level.tolist()) == list(range(batch.nodes))
    with pytest.raises(ValueError, match="at least one"):
        graph_batch([], cutoff=SIZES.cutoff)
