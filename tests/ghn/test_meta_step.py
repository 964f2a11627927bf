import pytest
import torch
import torch.nn.functional as F

import lowbit_sim as lb
from lowbit_sim.ghn import Precision, Strategy, parse_precision
from lowbit_sim.ghn.meta_step import LossNotFiniteError, meta_gradients
from lowbit_sim.ghn.network import meta_network, run
from lowbit_sim.trace import record
from tests.ghn.examples import batch_of, graphs, hypernetwork, images

W4A4 = parse_precision("W4A4")


def gradients(strategy: Strategy, count: int = 3, step: int = 0):
    """The loss of a step, and the hypernetwork's gradients."""
    ghn, found, batch = hypernetwork(), graphs(count), images(12)
    networks = [strategy.prepared(meta_network(each)) for each in found]
    torch.manual_seed(0)
    loss = meta_gradients(ghn, networks, batch_of(*found), batch, step=step)
    return loss, [p.grad for p in ghn.parameters()]


def in_one_graph(strategy: Strategy, count: int = 3):
    """The same by one call of autograd over the hypernetwork and all networks."""
    ghn, found, batch = hypernetwork(), graphs(count), images(12)
    networks = [strategy.prepared(meta_network(each)) for each in found]
    torch.manual_seed(0)
    losses = [
        F.cross_entropy(run(n.module, n.changed(p), batch.inputs), batch.targets)
        for n, p in zip(networks, ghn(batch_of(*found)), strict=True)
    ]
    mean = torch.stack(losses).mean()
    mean.backward()
    return float(mean.detach()), [p.grad for p in ghn.parameters()]


@pytest.mark.parametrize(
    "strategy",
    [
        Strategy(),
        Strategy(name="simquant", precision=W4A4),
        Strategy(name="noisequant", precision=W4A4),
        Strategy(name="simquant", precision=W4A4, numerics=lb.OpSpec.uniform(lb.INT8)),
    ],
    ids=["float", "simquant", "noisequant", "emulated"],
)
def test_the_gradient_is_that_of_one_graph(strategy):
    loss, found = gradients(strategy)
    expected_loss, expected = in_one_graph(strategy)
    assert loss.loss == pytest.approx(expected_loss, rel=1e-6)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("name", ["simquant", "noisequant"])
def test_with_32_bits_ghn_qat_is_ghn_2_bit_for_bit(name):
    loss, found = gradients(Strategy(name=name, precision=Precision()))
    plain, expected = gradients(Strategy())
    assert loss == plain
    assert all(map(torch.equal, found, expected))


def test_the_straight_through_gradient_is_the_float_gradient_at_the_rounded_point():
    """Of a linear function of the weights the gradient does not depend on them: both are equal then."""
    from lowbit_sim.ghn.fake_quantization import fake_quantize
    from lowbit_sim.ghn.precision import weight_quantizer

    w, x = torch.randn(5, 3).requires_grad_(), torch.randn(7, 3)
    g = torch.randn(7, 5)
    [plain] = torch.autograd.grad(x @ w.T, w, g)
    [through] = torch.autograd.grad(x @ fake_quantize(w, weight_quantizer(4)).T, w, g)
    assert torch.equal(plain, through)


def test_quantised_networks_have_other_gradients():
    _, plain = gradients(Strategy())
    _, rounded = gradients(Strategy(name="simquant", precision=parse_precision("W2A2")))
    assert not all(map(torch.equal, plain, rounded))
    assert all(bool(torch.isfinite(each).all()) for each in rounded)


def test_a_meta_batch_counts_all_its_networks():
    loss, _ = gradients(Strategy(), count=2)
    assert loss.images == 24
    assert 0 <= loss.correct <= 24


def test_random_bits_of_emulated_layers_depend_on_the_step_alone():
    spec = lb.OpSpec.uniform(lb.INT4, gradient_rounding=lb.Rounding("stochastic", random_bits=8))
    strategy = Strategy(name="simquant", precision=W4A4, numerics=spec)
    _, one = gradients(strategy, count=1, step=0)
    _, same = gradients(strategy, count=1, step=0)
    _, other = gradients(strategy, count=1, step=1)
    assert all(map(torch.equal, one, same))
    assert not all(map(torch.equal, one, other))


def test_a_loss_that_is_not_finite_ends_the_step():
    ghn, found, batch = hypernetwork(), graphs(1), images(12)
    with torch.no_grad():
        ghn.vectors.to_classes.bias.fill_(float("nan"))
    networks = [Strategy().prepared(meta_network(each)) for each in found]
    with pytest.raises(LossNotFiniteError, match="training loss is nan"):
        meta_gradients(ghn, networks, batch_of(*found), batch)


def test_what_networks_and_hypernetwork_run_is_told_apart():
    with record() as trace:
        gradients(Strategy(), count=1)
    own = [event for event in trace.events if event.layer.startswith("hypernetwork")]
    networks = [event for event in trace.events if not event.layer.startswith("hypernetwork")]
    assert {event.role for event in own} == {"update"}
    assert {event.role for event in networks} == {"output", "grad_input", "grad_weight", "overhead"}
    stem = [e for e in trace.gemms if e.layer == "layers.stem_conv"]
    assert [e.role for e in stem] == ["output", "grad_weight"]
    assert {e.layer for e in trace.gemms} >= {
        "hypernetwork.weights.spread",
        "hypernetwork.gnn.update.from_state",
    }
    assert [e.kind for e in networks if e.layer == ""].count("loss") == 2
