"""T3 and T4: the recipe is the algorithm with the hypernetwork in the next step's graph."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import lowbit_sim as lb
from lowbit_sim.training.examples import Examples
from lowbit_sim.training.metagrad.targets import find_targets
from lowbit_sim.training.recipe import Step
from tests.training.metagrad import reference
from tests.training.metagrad.nets import HYPERNETWORKS, batches, net, step_through

STEPS = 5
LINK = "lowbit_sim.training.metagrad.commit.weight_per_gradient"

ADAM = {"lr": 0.02, "betas": (0.9, 0.99), "eps": 1e-6}
CASES: dict[str, tuple[Any, dict[str, Any], Any]] = {
    "sgd": (torch.optim.SGD, {"lr": 0.2}, reference.sgd),
    "maximised": (torch.optim.SGD, {"lr": 0.2, "maximize": True, "weight_decay": 0.1}, reference.sgd),
    "momentum": (torch.optim.SGD, {"lr": 0.2, "momentum": 0.9, "weight_decay": 0.1}, reference.sgd),
    "dampened": (torch.optim.SGD, {"lr": 0.2, "momentum": 0.8, "dampening": 0.5}, reference.sgd),
    "nesterov": (torch.optim.SGD, {"lr": 0.2, "momentum": 0.8, "nesterov": True}, reference.sgd),
    # Torch's default on a GPU; with nesterov it writes to the gradients.
    "nesterov foreach": (
        torch.optim.SGD,
        {"lr": 0.2, "momentum": 0.8, "nesterov": True, "foreach": True},
        reference.sgd,
    ),
    "adam": (torch.optim.Adam, {**ADAM, "weight_decay": 0.1}, reference.adam),
    "adam foreach": (torch.optim.Adam, {**ADAM, "weight_decay": 0.1, "foreach": True}, reference.adam),
    "adam maximised": (torch.optim.Adam, {**ADAM, "maximize": True}, reference.adam),
    "adamw": (torch.optim.AdamW, {**ADAM, "weight_decay": 0.1}, reference.adam),
}


#: Options of `preprocess_weights` by the names in `reference`.
PREPROCESSING: dict[str, Any] = {"dorefa 4": {"kind": "dorefa", "bits": 4}, "bwn": {"kind": "bwn"}}


def doubles(count: int) -> list[Examples]:
    return [Examples(inputs=b.inputs.double(), targets=b.targets) for b in batches("dense", count)]


def moved(hypernetwork: Any) -> Any:
    """A hypernetwork away from its start, where the last layer's zeros would hide the others."""
    with torch.no_grad():
        for p, g in zip(hypernetwork.parameters(), _noise(hypernetwork), strict=True):
            p += g
    return hypernetwork.double()


def _noise(module: nn.Module) -> list[Tensor]:
    generator = torch.Generator().manual_seed(7)
    return [0.1 * torch.randn(p.shape, generator=generator) for p in module.parameters()]


def trained(hypernetwork: Any, kind: Any, options: dict[str, Any], phi_rate: float, preprocessing: str):
    model = net(spec=None).double()
    if preprocessing != "none":
        lb.preprocess_weights(model, **PREPROCESSING[preprocessing], layers=(model[0], model[2]))
    recipe = lb.MetaGrad(
        hypernetwork,
        phi=lb.PhiTraining(learning_rate=phi_rate, optimizer="sgd", schedule="constant"),
        parameters=("*",),
    )
    step_through(model, kind(model.parameters(), **options), doubles(STEPS), recipe)
    return model, recipe


def assert_it_is_the_graph(hypernetwork: str, case: str, preprocessing: str = "none"):
    kind, options, update = CASES[case]
    model, recipe = trained(moved(HYPERNETWORKS[hypernetwork]()), kind, options, 0.05, preprocessing)
    m = moved(HYPERNETWORKS[hypernetwork]())
    written = {**options, "decoupled": kind is torch.optim.AdamW}
    expected = reference.run(
        net(spec=None).double(),
        m,
        doubles(STEPS + 1),
        update,
        written,
        0.05,
        preprocessing=preprocessing,
    )
    # The reference commits an update when the next step's forward pass begins.
    expected_phi = [p.clone() for p in m.parameters()]
    for target in find_targets(model, ("*",)):
        w = target.parameter.detach()
        torch.testing.assert_close(w, expected.weights[target.name], rtol=1e-9, atol=1e-12)
    last = expected.phi_gradients[-1]
    for p, q, g in zip(recipe.hypernetwork.parameters(), expected_phi, last, strict=True):
        torch.testing.assert_close(p.detach(), q + 0.05 * g, rtol=1e-9, atol=1e-12)
        assert float(g.abs().max()) > 0


@pytest.mark.parametrize("hypernetwork", HYPERNETWORKS)
@pytest.mark.parametrize("case", CASES)
def test_phi_and_weights_are_those_of_the_graph(hypernetwork, case):
    assert_it_is_the_graph(hypernetwork, case)


@pytest.mark.parametrize("hypernetwork", HYPERNETWORKS)
@pytest.mark.parametrize("preprocessing", PREPROCESSING)
def test_preprocessed_weights_are_those_of_the_graph(hypernetwork, preprocessing):
    """The calibration stands in the update and, at the weights that it led to, in the loss' derivative."""
    assert_it_is_the_graph(hypernetwork, "sgd", preprocessing)


@pytest.mark.parametrize("first", [True, False])
def test_a_learned_rate_is_part_of_the_derivative_on_either_side(first):
    """Hypergradient descent's factor, frozen at 3, is a learning rate three times as large; phi's own stays."""
    found = []
    for rate, factor in ((0.6, 1.0), (0.2, 3.0)):
        model = net(spec=None).double()
        scaled = lb.Hypergradient(hyper_learning_rate=0.0)
        scaled.load_state_dict({"factors": {"": factor}, "moves": {}})
        recipe = lb.MetaGrad(moved(lb.MomentFC(4)), phi=lb.PhiTraining(learning_rate=0.05), parameters=("*",))
        recipes = (scaled, recipe) if first else (recipe, scaled)
        step_through(model, torch.optim.SGD(model.parameters(), lr=rate), doubles(STEPS), *recipes)
        assert recipe._learner._largest_rate == rate
        found.append([p.detach() for p in (*model.parameters(), *recipe.hypernetwork.parameters())])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


def test_phi_learns_nothing_where_the_graph_is_cut(monkeypatch):
    """Where the weights of the next step do not hang on M's output, the recipe leaves phi as it was."""
    m = moved(lb.MomentFC(4))
    cut = reference.run(
        net(spec=None).double(), m, doubles(3), reference.sgd, {"lr": 0.2}, phi_rate=0.05, cut=True
    )
    assert all(float(g.abs().max()) == 0 for each in cut.phi_gradients for g in each)
    for is_cut in (True, False):
        with monkeypatch.context() as patch:
            if is_cut:
                # The one link between M's output and the weights of the next step.
                patch.setattr(LINK, lambda *_, **__: 0.0)
            start, trained_phi = moved(lb.MomentFC(4)), moved(lb.MomentFC(4))
            trained(trained_phi, torch.optim.SGD, {"lr": 0.2}, 0.05, "none")
            same = [
                torch.equal(p, q) for p, q in zip(start.parameters(), trained_phi.parameters(), strict=True)
            ]
            assert all(same) if is_cut else not any(same)


def test_the_forward_pass_sees_the_new_direction():
    """W in the forward pass of step t is W_{t-1} - lr M(g_{t-1}), not a direction older; M is computed here."""
    model, m = net(spec=None), moved(lb.FCGrad(8)).float()
    recipe = lb.MetaGrad(m, phi=lb.PhiTraining(learning_rate=0.0), parameters=("*",))
    seen: list[Tensor] = []
    raw: list[Tensor] = []
    model[0].register_forward_pre_hook(lambda module, _: seen.append(module.weight.detach().clone()))

    class Before:
        def before_step(self, step: Step) -> None: ...

        def on_gradients(self, step: Step) -> None:
            raw.append(model[0].weight.grad.clone())

        def after_step(self, step: Step) -> None: ...

    step_through(model, torch.optim.SGD(model.parameters(), lr=0.5), batches("dense", 6), Before(), recipe)
    factor = float(m.measurements()["c"])
    assert abs(factor - 1) > 0.01
    for before, gradient, after in zip(seen, raw, seen[1:], strict=False):
        torch.testing.assert_close(before - 0.5 * factor * gradient, after)
        assert not torch.allclose(before - 0.5 * gradient, after)


def test_fc_grad_is_one_number_with_the_hypergradient():
    """T4: M(g) = c g, and dL_t/dc = -lr <dL_t/dW_t, g_{t-1}>."""
    m = lb.FCGrad(8, initial="paper", seed=3).double()
    c = float(m.fc.layers[1].weight.detach() @ m.fc.layers[0].weight.detach())
    assert m.measurements()["c"] == pytest.approx(c)
    model = net(spec=None).double()
    gradients: list[list[Tensor]] = []

    class Watch:
        def before_step(self, step: Step) -> None: ...

        def on_gradients(self, step: Step) -> None:
            gradients.append([p.grad.clone() for p in step.model.parameters()])

        def after_step(self, step: Step) -> None: ...

    recipe = lb.MetaGrad(m, phi=lb.PhiTraining(learning_rate=1.0, optimizer="sgd"), parameters=("*",))
    w1, w2 = (layer.weight.detach().clone() for layer in m.fc.layers)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2)
    step_through(model, optimizer, doubles(2), Watch(), recipe)
    slope = -0.2 * sum(float((a * b).sum()) for a, b in zip(*gradients, strict=True))
    torch.testing.assert_close(m.fc.layers[1].weight.detach(), w2 - slope * w1.t())
    torch.testing.assert_close(m.fc.layers[0].weight.detach(), w1 - slope * w2.t())


def test_relu_makes_two_numbers():
    values = lb.FCGrad(8, activation="relu", initial="paper", seed=3).measurements()
    assert values["c_positive"] != values["c_negative"]


@pytest.mark.parametrize("activation", ["none", "relu"])
def test_the_collapsed_product_is_the_layers_one_after_another(activation):
    m = moved(lb.MultiFC(8, 3, activation=activation, initial="paper"))
    x = torch.linspace(-2, 2, 9, dtype=torch.float64).requires_grad_()
    y, direction = m.fc.layered(x), torch.linspace(1, 2, 9, dtype=torch.float64)
    torch.testing.assert_close(m.fc(x), y)
    inputs = (x, *m.parameters())
    collapsed, layered = (torch.autograd.grad(each, inputs, direction) for each in (m.fc(x), y))
    # The slope at 0 itself is torch's choice.
    for one, other in zip(collapsed[1:], layered[1:], strict=True):
        torch.testing.assert_close(one, other)
    assert torch.equal(*m.fc.slopes()) == (activation == "none")


def test_residual_refinement_takes_the_update_for_plain_descent():
    """MetaQuant's: with momentum the derivative is -lr all the same; exact with nesterov it is -lr (1 + mu)."""
    norms = {}
    for refinement in ("exact", "residual"):
        model = net(spec=None).double()
        recipe = lb.MetaGrad(lb.FCGrad().double(), parameters=("*",), refinement=refinement)  # type: ignore[arg-type]
        optimizer = torch.optim.SGD(model.parameters(), lr=0.2, momentum=0.5, nesterov=True)
        step_through(model, optimizer, doubles(2), recipe)
        norms[refinement] = recipe.measurements()["phi_gradient_norm"]
    assert norms["exact"] == pytest.approx(1.5 * norms["residual"], rel=1e-9)


def test_residual_refinement_takes_any_optimiser():
    model = net(spec=None)
    recipe = lb.MetaGrad(lb.FCGrad(), parameters=("*",), refinement="residual")
    step_through(model, torch.optim.RMSprop(model.parameters(), lr=1e-3), batches("dense", 3), recipe)
    assert recipe.measurements()["phi_gradient_norm"] > 0


def test_amsgrad_is_refused():
    model = net(spec=None)
    optimizer = torch.optim.Adam(model.parameters(), amsgrad=True)
    with pytest.raises(ValueError, match="amsgrad=True"):
        step_through(model, optimizer, batches("dense", 1), lb.MetaGrad(lb.FCGrad(), parameters=("*",)))


@pytest.mark.parametrize("low", [lb.SGD, lb.Adam, lb.AdamW])
def test_the_low_precision_optimisers_have_the_derivative_of_torchs(low):
    """Without formats they are torch's, bit for bit, and so is phi."""
    found = []
    for kind in (low, getattr(torch.optim, low.__name__)):
        model, recipe = net(), lb.MetaGrad(lb.MomentFC(4))
        options = {"momentum": 0.9, "dampening": 0.5} if low is lb.SGD else {"weight_decay": 0.1}
        step_through(model, kind(model.parameters(), lr=0.05, **options), batches("dense", 5), recipe)
        found.append([p.detach().numpy().tobytes() for p in recipe.hypernetwork.parameters()])
    assert found[0] == found[1]
