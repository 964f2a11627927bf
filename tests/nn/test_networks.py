"""Convolutional networks of the usual kinds train, and their GEMMs are the definition's."""

import copy
import math

import pytest
import torch
from torch import nn

import lowbit_sim as lb
from lowbit_sim.ops.capture import capture
from tests.nn.models import STOCHASTIC, assert_same, images, labels, mobilenet, resnet, vgg
from tests.ops.captured import assert_definition

NETWORKS = {"resnet": resnet, "vgg": vgg, "mobilenet": mobilenet}
INT8 = lb.Quantizer(lb.INT8)
GRADIENT = lb.Quantizer(lb.INT4, rounding=lb.Rounding("stochastic", random_bits=8))
SPEC = lb.OpSpec(
    output=lb.GemmSpec(INT8, INT8),
    grad_input=lb.GemmSpec(GRADIENT, INT8),
    grad_weight=lb.GemmSpec(GRADIENT, INT8),
)


def losses(model: nn.Module, steps: int) -> list[float]:
    """Some steps on one batch."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    torch.manual_seed(1)
    found = []
    for _ in range(steps):
        loss = nn.functional.cross_entropy(model(images(n=8)), labels(8))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        found.append(loss.item())
    return found


@pytest.mark.parametrize("name", NETWORKS)
def test_training_with_few_bits_lowers_the_loss(name) -> None:
    model = lb.convert(NETWORKS[name](), [lb.Rule("*", SPEC)])
    found = losses(model, 6)
    assert all(map(math.isfinite, found))
    assert found[-1] < found[0]


@pytest.mark.parametrize("name", NETWORKS)
def test_every_gemm_is_the_definition_s(name) -> None:
    model = lb.convert(NETWORKS[name](), [lb.Rule("*", STOCHASTIC)])
    layers = sum(isinstance(m, nn.Conv2d | nn.Linear) for m in model.modules())
    with capture() as kept:
        nn.functional.cross_entropy(model(images(n=2)), labels(2)).backward()
    assert len(kept.gemms) == 3 * layers - 1  # the images need no gradient
    assert assert_definition(kept) >= len(kept.gemms)


@pytest.mark.parametrize("name", NETWORKS)
def test_state_and_way_back(name) -> None:
    native = NETWORKS[name]()
    model = lb.convert(copy.deepcopy(native), [lb.Rule("*", SPEC)])
    assert list(model.state_dict()) == list(native.state_dict())
    losses(model, 1)
    other = lb.convert(NETWORKS[name](seed=5), [lb.Rule("*", SPEC)])
    other.load_state_dict(model.state_dict())
    assert_same(other, model)
    assert [type(m) for m in lb.restore(model).modules()] == [type(m) for m in native.modules()]
