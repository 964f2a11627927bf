import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import lowbit_sim as lb
from lowbit_sim.training.metagrad.coordinates import Coordinates
from lowbit_sim.training.metagrad.hypernetworks import FullyConnected
from tests.training.metagrad.nets import HYPERNETWORKS


def random(hypernetwork, seed: int):
    """With all of its parameters away from their start."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in hypernetwork.parameters():
            p.copy_(torch.randn(p.shape, generator=generator))
    return hypernetwork


def vectors(seed: int, count: int = 32) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    g, w, m = (torch.randn(count, generator=generator) for _ in range(3))
    g[: count // 4] = 0  # INT4 gradients are mostly zeros
    return [g, w, m]


def coordinates(g: Tensor, w: Tensor, m: Tensor) -> Coordinates:
    def rms(x: Tensor) -> Tensor:
        return x.square().mean().sqrt().clamp_min(1e-30).expand(len(x))

    return Coordinates(gradient=g, scale=rms(g), weight=w, weight_scale=rms(w), moment=m, moment_scale=rms(m))


def state_of(hypernetwork, count: int = 32) -> tuple[Tensor, ...]:
    return tuple(torch.zeros(n, count) for n in hypernetwork.state_features)


@pytest.mark.parametrize("name", HYPERNETWORKS)
@pytest.mark.parametrize("seed", range(3))
def test_it_starts_as_the_identity(name, seed):
    m = HYPERNETWORKS[name]()
    c = coordinates(*vectors(seed))
    assert torch.equal(m(c, state_of(m))[0], c.gradient)


@pytest.mark.parametrize("name", HYPERNETWORKS)
def test_each_coordinate_is_on_its_own(name):
    """A permutation of the coordinates permutes what comes out."""
    m = random(HYPERNETWORKS[name](), 1)
    g, w, moment = vectors(0)
    order = torch.randperm(32, generator=torch.Generator().manual_seed(4))
    c = coordinates(g, w, moment)
    shuffled = Coordinates(**{k: None if v is None else v[order] for k, v in vars(c).items()})
    torch.testing.assert_close(m(c, state_of(m))[0][order], m(shuffled, state_of(m))[0])


@settings(max_examples=50)
@given(st.integers(0, 10**6), st.integers(0, 10**6))
def test_moment_fc_is_odd(seed, inputs):
    """M(-g, -w, -m) = -M(g, w, m) for any parameters, so it can't learn a drift."""
    m = random(lb.MomentFC(4), seed)
    g, w, moment = vectors(inputs)
    y, _ = m(coordinates(g, w, moment), ())
    opposite, _ = m(coordinates(-g, -w, -moment), ())
    assert torch.equal(opposite, -y)


def test_fc_grad_with_relu_is_not_odd():
    m = random(lb.FCGrad(8, activation="relu"), 0)
    c = torch.tensor([1.0, -1.0])
    y, _ = m(Coordinates(gradient=c), ())
    assert not torch.allclose(y[0], -y[1])


def test_moment_fc_tells_coordinates_of_one_level_apart():
    m = random(lb.MomentFC(4), 0)
    _, w, moment = vectors(0)
    y, _ = m(coordinates(torch.ones(32), w, moment), ())
    assert len(y.unique()) == 32


def test_lstm_fc_follows_the_weights_past():
    m = random(lb.LSTMFC(4), 0)
    c = coordinates(*vectors(0))
    first, state = m(c, state_of(m))
    second, _ = m(c, state)
    assert not torch.allclose(first, second)


def test_lstm_fc_is_torchs_cell():
    m = random(lb.LSTMFC(4, initial="paper"), 0)
    cell = torch.nn.LSTMCell(1, 4)
    with torch.no_grad():
        cell.weight_ih.copy_(m.input_gates.weight)
        cell.bias_ih.copy_(m.input_gates.bias)
        cell.weight_hh.copy_(m.hidden_gates.weight)
        cell.bias_hh.zero_()
    g, w, moment = vectors(0)
    h, c = (torch.randn(4, 32) for _ in range(2))
    y, (h1, c1) = m(coordinates(g, w, moment), (h, c))
    expected, memory = cell(w.unsqueeze(1), (h.t(), c.t()))
    torch.testing.assert_close(h1, expected.t())
    torch.testing.assert_close(c1, memory.t())
    torch.testing.assert_close(y, g * m.fc(expected).squeeze(1))


@pytest.mark.parametrize("kind", [lb.FCGrad, lb.MultiFC, lb.LSTMFC])
def test_the_papers_start_is_random_and_its_seeds_own(kind):
    c = coordinates(*vectors(0))
    found = [kind(4, initial="paper", seed=seed) for seed in (0, 0, 1)]
    ys = [m(c, state_of(m))[0] for m in found]
    assert torch.equal(ys[0], ys[1])
    assert not torch.equal(ys[0], ys[2])
    assert not torch.equal(ys[0], c.gradient)


def test_about_half_of_the_papers_starts_point_uphill():
    negative = sum(lb.FCGrad(initial="paper", seed=seed).measurements()["c"] < 0 for seed in range(100))
    assert 30 < negative < 70


def test_making_one_leaves_torchs_generator_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    for build in HYPERNETWORKS.values():
        build()
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("name", HYPERNETWORKS)
def test_in_low_precision_it_still_starts_as_the_identity(name):
    m = HYPERNETWORKS[name]()
    lb.convert(m, [lb.Rule("*", lb.OpSpec.uniform(lb.INT8))])
    c = coordinates(*vectors(0))
    assert torch.equal(m(c, state_of(m))[0], c.gradient)
    native = random(HYPERNETWORKS[name](), 1)
    low = lb.convert(copy.deepcopy(native), [lb.Rule("*", lb.OpSpec.uniform(lb.INT4))])
    assert not torch.equal(low(c, state_of(m))[0], native(c, state_of(m))[0])


def test_what_is_wrong_is_said():
    with pytest.raises(ValueError, match="hidden must be a positive integer, got 0"):
        lb.FCGrad(0)
    with pytest.raises(ValueError, match="layers must be a positive integer, got True"):
        lb.MultiFC(4, True)
    with pytest.raises(ValueError, match="unknown activation 'gelu'"):
        lb.FCGrad(activation="gelu")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="unknown initial state of a hypernetwork 'random'"):
        lb.LSTMFC(initial="random")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="moment_decay must be at least 0 and below 1, got 1"):
        lb.MomentFC(moment_decay=1)
    with pytest.raises(ValueError, match="lack a vector"):
        lb.MultiFC()(Coordinates(gradient=torch.ones(2)), ())


@pytest.mark.parametrize("activation", ["none", "relu"])
def test_one_layer_is_one_number(activation):
    layer = FullyConnected(hidden=2, depth=1, activation=activation, zero=False)
    number = layer.layers[0].weight.squeeze()
    assert torch.equal(layer(torch.tensor([1.0, -2.0])), torch.tensor([1.0, -2.0]) * number)
