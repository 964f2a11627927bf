"""MetaGrad as a recipe: the identity, accumulation, clipping, Q_G, divergence and its errors."""

import copy
import math
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.optim import Optimizer

import lowbit_sim as lb
from lowbit_sim.training.gradient_clipping import ClipGradientNorm
from lowbit_sim.training.loop import train
from lowbit_sim.training.metagrad import coordinates
from lowbit_sim.training.recipe import Step
from tests.training.metagrad.nets import (
    FROZEN,
    HYPERNETWORKS,
    INT4,
    STOCHASTIC,
    batches,
    bits,
    low_precision_hypernetwork,
    net,
    step_through,
)
from tests.training.toys import SETTINGS, toy_examples, toy_model

OPTIMIZERS: dict[str, Callable[[nn.Module], Optimizer]] = {
    "sgd": lambda m: torch.optim.SGD(m.parameters(), lr=0.1),
    "momentum": lambda m: torch.optim.SGD(m.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-3),
    "adam": lambda m: torch.optim.Adam(m.parameters(), lr=0.01),
    "fp16 weights": lambda m: lb.SGD(
        m.parameters(), lr=0.1, momentum=0.9, update=lb.UpdateSpec.uniform(lb.FP16)
    ),
}


def trained(
    kind: str, optimizer: str, steps: int, *recipes, preprocessing: str = "none", micro_batches: int = 1
):
    model = lb.preprocess_weights(net(kind), preprocessing)  # type: ignore[arg-type]
    step_through(
        model, OPTIMIZERS[optimizer](model), batches(kind, steps), *recipes, micro_batches=micro_batches
    )
    return model


@pytest.mark.parametrize(
    ("kind", "optimizer", "steps"),
    [
        *(("dense", optimizer, 50) for optimizer in OPTIMIZERS),
        ("convolutional", "momentum", 20),
        ("attention", "adam", 10),
    ],
)
def test_the_identity_is_plain_training_bit_for_bit(kind, optimizer, steps):
    """T1: emulated INT4 training."""
    recipe = lb.MetaGrad(lb.MomentFC(), phi=FROZEN)
    assert bits(trained(kind, optimizer, steps, recipe)) == bits(trained(kind, optimizer, steps))


@pytest.mark.parametrize("hypernetwork", HYPERNETWORKS)
@pytest.mark.parametrize("preprocessing", ["none", "dorefa", "bwn"])
def test_every_hypernetwork_starts_as_the_identity(hypernetwork, preprocessing):
    recipe = lb.MetaGrad(HYPERNETWORKS[hypernetwork](), phi=FROZEN)
    corrected = trained("dense", "momentum", 8, recipe, preprocessing=preprocessing)
    assert bits(corrected) == bits(trained("dense", "momentum", 8, preprocessing=preprocessing))
    assert recipe.measurements()["gain"] == pytest.approx(1)


def test_the_identity_stays_so_with_accumulated_gradients():
    plain = trained("convolutional", "momentum", 10, micro_batches=2)
    recipe = lb.MetaGrad(lb.MultiFC(), phi=FROZEN)
    assert bits(trained("convolutional", "momentum", 10, recipe, micro_batches=2)) == bits(plain)


@pytest.mark.parametrize("hypernetwork", HYPERNETWORKS)
def test_training_phi_changes_the_weights(hypernetwork):
    """The tests above can fail: with a learning rate the runs part."""
    recipe = lb.MetaGrad(HYPERNETWORKS[hypernetwork]())
    before = copy.deepcopy(recipe.hypernetwork.state_dict())
    model = trained("dense", "momentum", 8, recipe)
    assert bits(model) != bits(trained("dense", "momentum", 8))
    assert any(not torch.equal(before[k], v) for k, v in recipe.hypernetwork.state_dict().items())
    assert recipe.measurements()["phi_gradient_norm"] > 0


def test_other_parameters_pass_untouched():
    """A hypernetwork that is far from the identity changes the chosen weight's gradient and no other."""
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    recipe = lb.MetaGrad(lb.FCGrad(initial="paper"), parameters=("2.weight",))
    plain = net()
    step_through(plain, torch.optim.SGD(plain.parameters(), lr=0.0), batches("dense", 1))
    step_through(model, optimizer, batches("dense", 1), recipe)
    differing = [
        name
        for (name, p), q in zip(model.named_parameters(), plain.parameters(), strict=True)
        if not torch.equal(p.grad, q.grad)
    ]
    assert differing == ["2.weight"]


@pytest.mark.parametrize("first", [True, False])
def test_clipping_before_and_behind(first):
    clip = ClipGradientNorm(max_norm=0.05)
    recipe = lb.MetaGrad(lb.MomentFC())
    model = trained("dense", "momentum", 10, *((clip, recipe) if first else (recipe, clip)))
    norm = math.sqrt(sum(float(p.grad.square().sum()) for p in model.parameters()))
    assert norm <= 0.05 * 1.2
    if not first:
        assert norm <= 0.05 * (1 + 1e-6)
    assert recipe.measurements()["phi_gradient_norm"] > 0


def test_clipping_behind_scales_the_derivative():
    """Clipping halves the gradient: so is phi's."""

    class Halve:
        def before_step(self, step: Step) -> None: ...

        def on_gradients(self, step: Step) -> None:
            for p in step.model.parameters():
                p.grad.mul_(0.5)

        def after_step(self, step: Step) -> None: ...

    norms = []
    for rate, behind in ((0.05, ()), (0.1, (Halve(),))):
        model = net(spec=None).double()
        recipe = lb.MetaGrad(lb.FCGrad().double(), parameters=("*",))
        data = [type(b)(inputs=b.inputs.double(), targets=b.targets) for b in batches("dense", 2)]
        step_through(model, torch.optim.SGD(model.parameters(), lr=rate), data, recipe, *behind)
        norms.append(recipe.measurements()["phi_gradient_norm"])
    assert norms[1] == pytest.approx(norms[0], rel=1e-9)


def test_a_step_without_an_update_teaches_phi_nothing():
    model, recipe = net(), lb.MetaGrad(lb.FCGrad())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    step_through(model, optimizer, batches("dense", 1), recipe)
    before = recipe.measurements()["c"]
    recipe._learner.memory.factors = None  # the loop left the update out, and with it after_step
    step_through(model, optimizer, batches("dense", 1), recipe)
    assert recipe.measurements()["c"] == before
    step_through(model, optimizer, batches("dense", 1), recipe)
    assert recipe.measurements()["c"] != before


def test_a_parameter_without_a_gradient_is_left_alone():
    model = nn.ModuleDict({"used": nn.Linear(6, 3), "unused": nn.Linear(6, 3)})
    lb.convert(model, [lb.Rule("*", INT4)])
    model.forward = lambda x: model["used"](x)  # type: ignore[method-assign]
    before = model["unused"].weight.clone()
    recipe = lb.MetaGrad(lb.MomentFC())
    step_through(model, torch.optim.SGD(model.parameters(), lr=0.1), batches("dense", 3), recipe)
    assert model["unused"].weight.grad is None
    assert torch.equal(model["unused"].weight, before)
    assert recipe.measurements()["phi_gradient_norm"] > 0


def test_the_gradient_quantiser_rounds_what_is_corrected():
    """With M the identity the gradient is Q_G's: at most 15 levels of one scale."""
    model = net(spec=None)
    quantizer = lb.Quantizer(lb.INT4, rounding=STOCHASTIC)
    recipe = lb.MetaGrad(lb.FCGrad(), phi=FROZEN, parameters=("*.weight",), gradient_quantizer=quantizer)
    step_through(model, torch.optim.SGD(model.parameters(), lr=0.1), batches("dense", 1), recipe)
    assert len(model[0].weight.grad.unique()) <= 15
    assert len(model[0].bias.grad.unique()) == 8


def test_the_gradient_quantiser_is_unbiased_and_on_the_grid():
    """T5: over 20,000 draws the mean of Q_G(g) is g within 4 sigma of its spread."""
    g = torch.linspace(-1, 1, 13)
    model = nn.ParameterDict({"w": nn.Parameter(torch.zeros(20_000, 13))})
    recipe = lb.MetaGrad(
        lb.FCGrad(),
        phi=FROZEN,
        parameters=("w",),
        gradient_quantizer=lb.Quantizer(lb.INT4, rounding=lb.Rounding("stochastic", random_bits=16)),
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model["w"].grad = g.repeat(20_000, 1)
    recipe.on_gradients(
        Step(index=0, epoch=0, model=model, optimizer=optimizer, batch=batches("dense", 1)[0])
    )
    drawn = model["w"].grad
    assert torch.allclose(drawn, (drawn * 7).round() / 7, atol=1e-6)
    # 16 random bits cut off at most 2^-16 of a level.
    bound = 4 * drawn.std(0) / math.sqrt(len(drawn)) + 2**-16 / 7 + 1e-6
    assert bool(((drawn.mean(0) - g).abs() <= bound).all())


def test_a_run_that_diverges_is_told_as_such():
    model = lb.convert(toy_model(), [lb.Rule("*", INT4)])
    settings = type(SETTINGS)(epochs=2, batch_size=8, learning_rate=1e30, seed=3)
    result = train(model, toy_examples(), toy_examples(), settings, recipes=[lb.MetaGrad(lb.MomentFC())])
    assert result.status == "diverged"


def test_hypergradient_refuses_gradients_without_their_calibration():
    model = lb.preprocess_weights(net(), "dorefa")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    recipes = (lb.Hypergradient(hyper_learning_rate=0.1), lb.MetaGrad(lb.FCGrad()))
    with pytest.raises(
        ValueError, match=r"hypergradient takes gradients.*that of 0\.weight.*lacks its calib"
    ):
        step_through(model, optimizer, batches("dense", 1), *recipes)


def test_preprocessed_weights_need_before_step():
    model, recipe = lb.preprocess_weights(net(), "bwn"), lb.MetaGrad(lb.FCGrad())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    step = Step(index=0, epoch=0, model=model, optimizer=optimizer, batch=batches("dense", 1)[0])
    with pytest.raises(
        ValueError, match=r"gradient of 0\.weight, a pre-processed weight, came with its calibra"
    ):
        recipe.on_gradients(step)


def test_the_gradient_quantiser_draws_new_bits_in_every_step():
    model = nn.ParameterDict({"w": nn.Parameter(torch.zeros(64))})
    quantizer = lb.Quantizer(lb.INT4, rounding=STOCHASTIC)
    recipe = lb.MetaGrad(lb.FCGrad(), phi=FROZEN, parameters=("w",), gradient_quantizer=quantizer)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    drawn = []
    for index in range(2):
        model["w"].grad = torch.linspace(-1, 1, 64)
        step = Step(index=index, epoch=0, model=model, optimizer=optimizer, batch=batches("dense", 1)[0])
        recipe.on_gradients(step)
        drawn.append(model["w"].grad.clone())
    assert not torch.equal(*drawn)


@pytest.mark.parametrize("chunk", [30, coordinates.CHUNK])
def test_learning_computes_the_correction_with_the_bits_that_it_drew(chunk, monkeypatch):
    """A hypernetwork with stochastic rounding: what phi's derivative is taken of is what was committed."""
    monkeypatch.setattr(coordinates, "CHUNK", chunk)
    model, recipe = net(), lb.MetaGrad(low_precision_hypernetwork())
    found: list[torch.Tensor] = []
    recipe.hypernetwork.register_forward_hook(lambda _m, _c, y: found.append(y[0].detach().clone()))
    step_through(model, torch.optim.SGD(model.parameters(), lr=0.1), batches("dense", 4), recipe)
    count = math.ceil(72 / chunk)
    runs = [torch.cat(found[start : start + count]) for start in range(0, len(found), count)]
    corrected, again = runs[::2], runs[1::2]
    assert len(again) == 3
    for one, other in zip(corrected, again, strict=False):
        assert torch.equal(one, other)
    assert not torch.equal(recipe._learner.correct(), corrected[-1])  # other bits, another M


def test_chunks_have_random_bits_of_their_own(monkeypatch):
    """The second half of the coordinates is the first once more, and is corrected with other bits."""
    monkeypatch.setattr(coordinates, "CHUNK", 64)
    model = nn.ParameterDict({"w": nn.Parameter(torch.linspace(-1, 1, 64).repeat(2))})
    model["w"].grad = torch.linspace(1, 2, 64).repeat(2)
    recipe = lb.MetaGrad(low_precision_hypernetwork(), parameters=("w",))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    recipe.on_gradients(
        Step(index=0, epoch=0, model=model, optimizer=optimizer, batch=batches("dense", 1)[0])
    )
    assert not torch.equal(*model["w"].grad.chunk(2))


def test_measurements_are_those_of_the_epoch_in_progress():
    model, recipe = net(), lb.MetaGrad(lb.FCGrad())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    step_through(model, optimizer, batches("dense", 5), recipe)
    assert recipe._effect.steps == 5
    assert recipe.measurements() == recipe.measurements()
    step = Step(index=5, epoch=1, model=model, optimizer=optimizer, batch=batches("dense", 1)[0])
    recipe.on_gradients(step)
    assert recipe._effect.steps == 1
    assert recipe.measurements()["gain"] == pytest.approx(recipe.measurements()["c"])


def test_memory_is_counted_by_what_is_kept():
    model, recipe = net(), lb.MetaGrad(lb.MomentFC(4))
    assert recipe.memory_bytes() == {"phi": (4 * 7 + 3 * 5) * 4, "phi_optimizer": 0}
    step_through(model, torch.optim.Adam(model.parameters()), batches("dense", 2), recipe)
    weights = 4 * (6 * 8 + 8 * 3)
    kept = recipe.memory_bytes()
    assert {k: kept[k] for k in ("gradient", "weight", "moment", "factors")} == dict.fromkeys(
        ("gradient", "weight", "moment", "factors"), weights
    )
    assert kept["phi_optimizer"] >= 2 * kept["phi"]


def test_what_is_wrong_is_said():
    model = net()
    with pytest.raises(TypeError, match="hypernetwork is FCGrad"):
        lb.MetaGrad(nn.Linear(1, 1))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="list of patterns"):
        lb.MetaGrad(lb.FCGrad(), parameters="*")
    with pytest.raises(ValueError, match="unknown refinement 'exakt'.*did you mean 'exact'"):
        lb.MetaGrad(lb.FCGrad(), refinement="exakt")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="gradient_quantizer is a Quantizer"):
        lb.MetaGrad(lb.FCGrad(), gradient_quantizer=lb.INT4)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="past steps"):
        lb.MetaGrad(lb.FCGrad(), gradient_quantizer=lb.Quantizer(lb.INT4, scale=lb.EmaScale()))
    with pytest.raises(ValueError, match="keys learner, effect, steps"):
        lb.MetaGrad(lb.FCGrad()).load_state_dict({})
    other = lb.MetaGrad(lb.FCGrad(3)).state_dict()
    with pytest.raises(ValueError, match="another hypernetwork"):
        lb.MetaGrad(lb.FCGrad(4)).load_state_dict(other)
    with pytest.raises(ValueError, match="which the optimiser does not update"):
        step_through(
            model,
            torch.optim.SGD(model[0].parameters(), lr=0.1),
            batches("dense", 1),
            lb.MetaGrad(lb.FCGrad()),
        )
    with pytest.raises(TypeError, match="RMSprop.*supported are SGD, Adam and AdamW"):
        step_through(
            model, torch.optim.RMSprop(model.parameters()), batches("dense", 1), lb.MetaGrad(lb.FCGrad())
        )
