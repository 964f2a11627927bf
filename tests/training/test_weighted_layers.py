import pytest
from torch import nn

import lowbit_sim as lb
from lowbit_sim.study.models import build
from lowbit_sim.training.weighted_layers import weighted_layers, without_batch_norm


class Own(nn.Linear):
    def forward(self, input):
        return super().forward(input) * 2


def test_linear_layers_and_convolutions_are_found_in_order_native_and_emulated():
    model = nn.Sequential(
        nn.Conv2d(1, 2, 3),
        nn.Embedding(3, 2),
        nn.Flatten(),
        Own(2, 2),
        nn.MultiheadAttention(4, 2),
        nn.Linear(2, 1),
    )
    assert list(weighted_layers(model)) == ["0", "5"]
    lb.convert(model, [lb.Rule("5", lb.OpSpec.uniform(lb.INT8))])
    assert list(weighted_layers(model)) == ["0", "5"]
    assert list(weighted_layers(model, ["5", "0"])) == ["0", "5"]


def test_what_is_not_there_is_named():
    with pytest.raises(ValueError, match="no linear layer and no convolution"):
        weighted_layers(nn.Sequential(nn.ReLU()))
    with pytest.raises(ValueError, match="unknown layer 'classifer': known are .*did you mean 'classifier'"):
        weighted_layers(build("small_cnn", 1, 10, 8), ["classifer"])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("mlp", ["1", "3", "5"]),
        ("mlp_bn", ["classifier"]),
        ("small_cnn", ["classifier"]),
        ("preresnet20", ["classifier"]),
        ("mobilenet_v2_cifar", ["classifier.1"]),
    ],
)
def test_layers_without_a_batch_norm_behind_them(name, expected):
    assert without_batch_norm(build(name, 1, 10, 32)) == expected


def test_convolutions_of_a_model_without_norms_are_among_them():
    found = without_batch_norm(build("vgg16_imagenet", 3, 10, 32, width=2))
    assert len(found) == 13 + 3
