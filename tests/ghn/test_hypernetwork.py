import dataclasses
import math

import pytest
import torch

from lowbit_sim.ghn import (
    HypernetworkSizes,
    build_hypernetwork,
    load_hypernetwork,
    predict,
    save_hypernetwork,
)
from lowbit_sim.training.state_file import StateFileError
from tests.ghn.examples import CLASSES, SIZES, batch_of, graph, graphs, hypernetwork


@pytest.mark.parametrize("number", range(3))
def test_every_parameter_is_predicted_once_in_its_shape_and_order(number):
    found = graphs(3)[number]
    predicted = predict(hypernetwork(), found)
    assert {name: tuple(value.shape) for name, value in predicted.items()} == dict(found.parameter_shapes)
    assert list(predicted) == list(found.parameter_shapes)
    assert sum(value.numel() for value in predicted.values()) == found.parameters


def test_of_a_network_with_every_operator():
    found = graph()
    predicted = predict(hypernetwork(), found)
    assert {name: tuple(value.shape) for name, value in predicted.items()} == dict(found.parameter_shapes)
    assert all(bool(torch.isfinite(value).all()) for value in predicted.values())


def test_a_batch_predicts_each_network_as_it_would_alone():
    ghn, found = hypernetwork(), graphs(3)
    with torch.no_grad():
        together = ghn(batch_of(*found))
    for each, predicted in zip(found, together, strict=True):
        alone = predict(ghn, each)
        assert alone.keys() == predicted.keys()
        for name, value in alone.items():
            torch.testing.assert_close(predicted[name], value, rtol=1e-4, atol=1e-6)


def test_the_number_of_parameters_by_hand():
    d, (c1, c2), c, s = SIZES.hidden, SIZES.inner, SIZES.channels, SIZES.kernel
    channels = 1 + 2 + 1 + 7 + 252 + 129  # none; 1 and 3; the classes; steps of 8, 16 and 32
    tables = 14 * d + channels * d // 4 + (1 + 8) * d // 4
    mlps = 2 * ((d * d // 2 + d // 2) + (d // 2 * d + d))
    gru = 2 * (d * 3 * d + 3 * d)
    weights = (d * c1 * s * s + c1 * s * s) + (c1 * c2 + c2) + (c2 * c * c + c * c) + (c * CLASSES + CLASSES)
    vectors = (d * 2 * d + 2 * d) + (2 * d * 2 * c + 2 * c) + (c * CLASSES + CLASSES)
    ghn = hypernetwork()
    expected = tables + mlps + gru + 2 * d + weights + vectors
    assert sum(math.prod(p.shape) for p in ghn.parameters()) == expected


def test_every_parameter_learns():
    ghn, found = hypernetwork(), graph()
    sum((value**2).sum() for value in ghn(batch_of(found))[0].values()).backward()
    for name, parameter in ghn.named_parameters():
        assert parameter.grad is not None, name
        assert bool((parameter.grad != 0).any()), name


def test_two_networks_that_differ_in_one_operator_get_other_weights():
    one, other = graphs(2)
    a, b = predict(hypernetwork(), one), predict(hypernetwork(), other)
    assert not torch.equal(a["layers.stem_conv.weight"][:4], b["layers.stem_conv.weight"][:4])


def test_the_seed_decides():
    same, other = hypernetwork(seed=0), hypernetwork(seed=1)
    for name, value in hypernetwork(seed=0).state_dict().items():
        assert torch.equal(value, same.state_dict()[name])
    assert not torch.equal(same.weights.spread.weight, other.weights.spread.weight)


def test_a_file_holds_all_of_it(tmp_path):
    ghn = build_hypernetwork(dataclasses.replace(SIZES, layer_norm=False, cutoff=1), CLASSES, seed=3)
    save_hypernetwork(tmp_path / "a.safetensors", ghn)
    again = load_hypernetwork(tmp_path / "a.safetensors")
    assert again.sizes == ghn.sizes
    found = graphs(1)[0]
    one, other = predict(ghn, found), predict(again, found)
    assert all(torch.equal(one[name], other[name]) for name in one)
    (tmp_path / "a.safetensors").write_bytes(b"no hypernetwork")
    with pytest.raises(StateFileError, match="cut off or damaged"):
        load_hypernetwork(tmp_path / "a.safetensors")


def test_other_classes_are_refused():
    from lowbit_sim.ghn import build_graph
    from tests.ghn.examples import every_operator

    with pytest.raises(ValueError, match="for 4 classes, but the network ends in 'classifier_bias'"):
        predict(hypernetwork(), build_graph(every_operator(), 1, 5))


@pytest.mark.parametrize(
    ("changed", "message"), [({"hidden": 30}, "multiple of 4, got 30"), ({"kernel": 0}, "at least 1")]
)
def test_sizes_that_can_not_be(changed, message):
    with pytest.raises(ValueError, match=message):
        HypernetworkSizes(**changed)
