import pytest
import torch
import torch.nn.functional as F

from lowbit_sim.ghn import GraphNetwork, he_initialized, predict, with_parameters
from lowbit_sim.ghn.network import meta_network, run
from tests.ghn.examples import graph, graphs, hypernetwork, images


def by_hand(network: GraphNetwork, x: torch.Tensor) -> torch.Tensor:
    """The graph, node after node, by torch's functions on the network's own parameters."""
    p = dict(network.named_parameters())
    values: list[torch.Tensor] = []
    for node in network.graph.nodes:
        inputs = [values[number] for number in node.inputs]
        given = F.relu(inputs[0]) if node.relu else (inputs or [x])[0]
        weight, bias = p.get(f"{node.path}.weight"), p.get(f"{node.path}.bias")
        shape = node.shape or (0, 0, 1, 1)
        match node.primitive:
            case "input" | "sum":
                values.append(sum(inputs[1:], start=inputs[0]) if inputs else x)
            case "concat":
                values.append(torch.cat(inputs, 1))
            case "global_avg":
                values.append(given.flatten(2).mean(2))
            case "batch_norm":
                values.append(F.batch_norm(given, None, None, weight, bias, training=True))
            case "linear":
                values.append(F.linear(given, p[f"{node.path}.weight"]))
            case "bias":
                assert bias is not None
                values.append(given + bias)
            case "max_pool":
                values.append(F.max_pool2d(given, 3, node.stride, 1))
            case "avg_pool":
                values.append(F.avg_pool2d(given, 3, node.stride, 1, count_include_pad=False))
            case _:
                reach = [node.dilation * (size - 1) // 2 for size in shape[2:]]
                values.append(F.conv2d(given, weight, None, node.stride, reach, node.dilation, node.groups))
    return values[-1]


def test_a_network_with_every_operator_is_its_graph():
    network = he_initialized(graph(), seed=0)
    x = images(4).inputs
    torch.testing.assert_close(network(x), by_hand(network, x), rtol=1e-4, atol=1e-5)


def test_other_parameters_take_the_place_of_its_own():
    found = graphs(1)[0]
    predicted = predict(hypernetwork(), found)
    copy = with_parameters(found, predicted)
    x = images(4).inputs
    assert torch.equal(run(meta_network(found), predicted, x), copy(x))
    assert not copy.layers["stem_bn"].running_mean.isnan().any()


def test_gradients_reach_the_parameters_given():
    found = graph()
    predicted = {n: v.detach().requires_grad_() for n, v in predict(hypernetwork(), found).items()}
    run(meta_network(found), predicted, images(4).inputs).square().sum().backward()
    for name, value in predicted.items():
        assert value.grad is not None, name


def test_a_parameter_that_is_missing_is_refused():
    found = graphs(1)[0]
    predicted = predict(hypernetwork(), found)
    del predicted["layers.stem_conv.weight"]
    with pytest.raises(RuntimeError, match="stem_conv"):
        run(meta_network(found), predicted, images(2).inputs)
    with pytest.raises(KeyError, match="stem_conv"):
        with_parameters(found, predicted)


def test_random_starts_depend_on_their_seed_alone():
    found = graphs(1)[0]
    state = torch.get_rng_state()
    one, same, other = (he_initialized(found, seed) for seed in (0, 0, 1))
    assert torch.equal(state, torch.get_rng_state())
    stem = [n.layers["stem_conv"].weight for n in (one, same, other)]
    assert torch.equal(stem[0], stem[1])
    assert not torch.equal(stem[0], stem[2])
