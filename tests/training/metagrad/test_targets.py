import pytest
import torch
from torch import nn

import lowbit_sim as lb
from lowbit_sim.training.metagrad.targets import find_targets
from tests.training.metagrad.nets import INT4, net


def names(model: nn.Module, *patterns: str) -> list[str]:
    return [t.name for t in find_targets(model, patterns)]


def test_by_default_the_weights_of_emulated_layers():
    assert names(net()) == ["0.weight", "2.weight"]
    assert names(net("convolutional")) == ["0.weight", "3.weight"]
    assert names(net("attention")) == [
        "attention.in_proj_weight",
        "attention.out_proj.weight",
        "head.weight",
    ]


def test_native_layers_keep_their_gradients():
    model = net(spec=None)
    lb.convert(model, [lb.Rule("2", INT4)])
    assert names(model) == ["2.weight"]


def test_patterns_choose_any_parameter():
    assert names(net(), "*.bias") == ["0.bias", "2.bias"]
    assert names(net(spec=None), "0.*", "2.bias") == ["0.weight", "0.bias", "2.bias"]


def test_frozen_and_shared_parameters():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4))
    model[1].weight = model[0].weight
    lb.convert(model, [lb.Rule("*", INT4)])
    model[2].weight.requires_grad_(False)
    assert names(model) == ["0.weight"]


def test_preprocessed_weights_keep_their_names():
    model = lb.preprocess_weights(net(), "dorefa")
    assert names(model) == ["0.weight", "2.weight"]
    assert names(model, "2.weight") == ["2.weight"]
    target = find_targets(model)[0]
    assert target.preprocessing is not None
    low, high = (f(target.reading("preprocessed")) for f in (torch.min, torch.max))
    assert 0 <= float(low) < 0.5 < float(high) <= 1
    assert float(target.reading("signed").abs().max()) == 1
    assert torch.equal(find_targets(net())[0].reading("signed"), net()[0].weight)
    lone = lb.preprocess_weights(lb.convert(nn.Linear(2, 2), [lb.Rule("*", INT4)]), "bwn")
    assert names(lone) == ["weight"]


def test_what_is_wrong_is_said():
    with pytest.raises(
        ValueError, match=r"pattern '1\.\*' matches no parameter that trains: there are '0\.weight'"
    ):
        names(net(), "0.*", "1.*")
    with pytest.raises(ValueError, match="no emulated layer whose weight trains: convert it first"):
        names(net(spec=None))
