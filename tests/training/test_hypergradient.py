import copy
import math
from collections.abc import Callable, Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import lowbit_sim as lb
from lowbit_sim.training.examples import Examples
from lowbit_sim.training.hypergradient import Hypergradient
from lowbit_sim.training.loop import train
from lowbit_sim.training.recipe import Recipe, Step
from lowbit_sim.training.settings import TrainingSettings
from tests.training.toys import SETTINGS, check_resumes_bit_for_bit, parameter_bits, toy_examples, toy_model

OPTIMIZERS: dict[str, Callable[[Iterator[nn.Parameter]], torch.optim.Optimizer]] = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1),
    "weight decay": lambda p: torch.optim.SGD(p, lr=0.1, weight_decay=0.1),
    "momentum": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, dampening=0.1),
    "nesterov": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
    "adam": lambda p: torch.optim.Adam(p, lr=0.05, weight_decay=0.01),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.05, weight_decay=0.1),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.01, momentum=0.5),
}


def smooth_model() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(5)
        return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)).double()


def smooth_batch(number: int) -> Examples:
    generator = torch.Generator().manual_seed(number)
    inputs = torch.randn(8, 4, generator=generator, dtype=torch.float64)
    return Examples(inputs=inputs, targets=torch.randint(3, (8,), generator=generator))


def loss_of(model: nn.Module, batch: Examples) -> Tensor:
    return F.cross_entropy(model(batch.inputs), batch.targets)


def take_step(model: nn.Module, optimizer: torch.optim.Optimizer, recipe: Recipe, index: int) -> None:
    batch = smooth_batch(index)
    step = Step(index=index, epoch=0, model=model, optimizer=optimizer, batch=batch)
    optimizer.zero_grad()
    recipe.before_step(step)
    loss_of(model, batch).backward()
    recipe.on_gradients(step)
    optimizer.step()
    recipe.after_step(step)


class Bowl(nn.Module):
    """The loss curvature w^2 / 2 of one weight."""

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([weight], dtype=torch.float64))


def descend(
    recipe: Recipe, *, steps: int, lr: float, curvature: float = 1.0, weight: float = 1.0
) -> list[float]:
    """The weights on the way down a bowl; the first is the one to start from."""
    model = Bowl(weight)
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    path = [weight]
    for index in range(steps):
        step = Step(index=index, epoch=0, model=model, optimizer=optimizer, batch=smooth_batch(0))
        model.weight.grad = curvature * model.weight.detach()
        recipe.on_gradients(step)
        optimizer.step()
        recipe.after_step(step)
        path.append(model.weight.item())
    return path


def test_a_step_on_a_quadratic_by_hand():
    # w: 1, then 1 - 1/4 = 3/4. dL/dc = -1/4 * 3/4 * 1 = -3/16, so c = 19/16 and w = 3/4 - 1/4 * 19/16 * 3/4.
    recipe = Hypergradient(hyper_learning_rate=1.0)
    assert descend(recipe, steps=2, lr=0.25) == [1.0, 0.75, 0.75 * (1 - 19 / 64)]
    assert recipe.factors == {"": 19 / 16}
    assert recipe.measurements() == {"factor": 19 / 16}


def test_the_additive_rule_is_the_papers():
    """alpha_t = alpha_{t-1} + beta g_t g_{t-1} on a constant schedule, with beta = ours times lr^2."""
    lr, ours, curvature = 0.05, 0.7, 3.0
    recipe = Hypergradient(hyper_learning_rate=ours)
    path = descend(recipe, steps=25, lr=lr, curvature=curvature)
    w, alpha, before = 1.0, lr, 0.0
    for found in path[1:]:
        gradient = curvature * w
        alpha += ours * lr**2 * gradient * before
        w, before = w - alpha * gradient, gradient
        assert found == pytest.approx(w, rel=1e-12)
    assert recipe.measurements()["factor"] == pytest.approx(alpha / lr, rel=1e-12)
    assert alpha > 1.5 * lr, "a rate that is too small grows"


def test_the_multiplicative_rule_moves_by_the_cosine_whatever_the_scale():
    # On a line the cosine is 1 or -1: each step that does not overshoot multiplies c by 1 + beta.
    for curvature, weight in ((0.5, 1.0), (0.5, 1e6), (0.25, -3.0)):
        recipe = Hypergradient(hyper_learning_rate=0.1, rule="multiplicative")
        descend(recipe, steps=4, lr=0.5, curvature=curvature, weight=weight)
        assert recipe.measurements()["factor"] == pytest.approx(1.1**3, rel=1e-12)
    recipe = Hypergradient(hyper_learning_rate=0.1, rule="multiplicative")
    descend(recipe, steps=2, lr=1.5)  # beyond the minimum
    assert recipe.measurements()["factor"] == pytest.approx(0.9, rel=1e-12)


def slope_after(name: str, steps: int, **options) -> tuple[Hypergradient, dict[str, float]]:
    """Train so many steps as plainly as can be, then read dL/dc of the next loss off one additive step."""
    model = smooth_model()
    optimizer = OPTIMIZERS[name](model.parameters())
    recipe = Hypergradient(hyper_learning_rate=0.0, **options)
    for index in range(steps):
        take_step(model, optimizer, recipe, index)
    recipe.hyper_learning_rate = 1.0
    take_step(model, optimizer, recipe, steps)
    return recipe, {key: 1.0 - factor for key, factor in recipe.factors.items()}


def next_loss(name: str, steps: int, factor: float) -> float:
    """The loss after so many steps, the last of which had its learning rate multiplied."""
    model = smooth_model()
    optimizer = OPTIMIZERS[name](model.parameters())
    for index in range(steps):
        optimizer.zero_grad()
        loss_of(model, smooth_batch(index)).backward()
        if index == steps - 1:
            for group in optimizer.param_groups:
                group["lr"] *= factor
        optimizer.step()
    return loss_of(model, smooth_batch(steps)).item()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_slope_is_the_derivative_of_the_next_loss(name):
    _, slopes = slope_after(name, 4)
    width = 1e-4
    expected = (next_loss(name, 4, 1 + width) - next_loss(name, 4, 1 - width)) / (2 * width)
    assert slopes[""] == pytest.approx(expected, rel=1e-6)


def test_the_slope_is_that_of_a_scalar_correction_of_the_gradient():
    """T4: a hypernetwork that is one number c in front of the gradient has this dL/dc."""
    model = smooth_model()
    loss_of(model, smooth_batch(0)).backward()
    c = torch.ones((), dtype=torch.float64, requires_grad=True)
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    committed = {name: p.detach() - 0.1 * c * gradients[name] for name, p in model.named_parameters()}
    batch = smooth_batch(1)
    logits = torch.func.functional_call(model, committed, (batch.inputs,))
    F.cross_entropy(logits, batch.targets).backward()
    assert c.grad is not None
    _, slopes = slope_after("sgd", 1)
    assert slopes[""] == pytest.approx(c.grad.item(), rel=1e-12)


@pytest.mark.parametrize("name", ["nesterov", "adam"])
def test_the_slopes_of_the_tensors_add_up_to_that_of_the_model(name):
    _, whole = slope_after(name, 3)
    recipe, parts = slope_after(name, 3, scope="tensor")
    assert parts.keys() == dict(smooth_model().named_parameters()).keys()
    assert sum(parts.values()) == pytest.approx(whole[""], rel=1e-9)
    factors = recipe.factors.values()
    assert recipe.measurements() == {
        "smallest_factor": min(factors),
        "mean_factor": pytest.approx(sum(factors) / 4),
        "largest_factor": max(factors),
    }


def test_each_tensor_moves_by_its_own_factor():
    plain, scaled = smooth_model(), smooth_model()
    recipe = Hypergradient(hyper_learning_rate=0.0, scope="tensor")
    recipe.load_state_dict({"factors": {"0.weight": 3.0}, "moves": {}})
    start = {name: p.detach().clone() for name, p in plain.named_parameters()}
    take_step(plain, OPTIMIZERS["momentum"](plain.parameters()), Hypergradient(hyper_learning_rate=0.0), 0)
    take_step(scaled, OPTIMIZERS["momentum"](scaled.parameters()), recipe, 0)
    for name, p in plain.named_parameters():
        move = (p.detach() - start[name]) * (3.0 if name == "0.weight" else 1.0)
        found = dict(scaled.named_parameters())[name].detach() - start[name]
        assert torch.allclose(found, move, rtol=1e-9)


@pytest.mark.parametrize("rule", ["additive", "multiplicative"])
@pytest.mark.parametrize("scope", ["model", "tensor"])
def test_a_rate_of_zero_is_plain_training_bit_for_bit(rule, scope):
    plain, adapted = toy_model(), toy_model()
    recipe = Hypergradient(hyper_learning_rate=0.0, rule=rule, scope=scope)
    train(plain, toy_examples(), toy_examples(5), SETTINGS)
    train(adapted, toy_examples(), toy_examples(5), SETTINGS, recipes=[recipe])
    assert parameter_bits(plain) == parameter_bits(adapted)


def test_a_rate_that_is_not_zero_changes_training():
    plain, adapted = toy_model(), toy_model()
    train(plain, toy_examples(), toy_examples(5), SETTINGS)
    train(
        adapted, toy_examples(), toy_examples(5), SETTINGS, recipes=[Hypergradient(hyper_learning_rate=0.1)]
    )
    assert parameter_bits(plain) != parameter_bits(adapted)


@pytest.mark.parametrize("scope", ["model", "tensor"])
@pytest.mark.parametrize("name", ["momentum", "adam"])
def test_it_resumes_bit_for_bit(name, scope):
    model = smooth_model()
    optimizer = OPTIMIZERS[name](model.parameters())
    recipe = Hypergradient(hyper_learning_rate=5.0, scope=scope)
    for index in range(3):
        take_step(model, optimizer, recipe, index)
    second, fresh = copy.deepcopy(model), Hypergradient(hyper_learning_rate=5.0, scope=scope)
    again = OPTIMIZERS[name](second.parameters())
    again.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    fresh.load_state_dict(copy.deepcopy(recipe.state_dict()))
    twin = copy.deepcopy(recipe)
    for index in range(3, 7):
        take_step(model, optimizer, recipe, index)
        take_step(second, again, fresh, index)
    assert parameter_bits(model) == parameter_bits(second)
    assert recipe.factors == fresh.factors != twin.factors


@pytest.mark.parametrize("scope", ["model", "tensor"])
def test_a_run_that_was_stopped_goes_on_from_its_checkpoint_bit_for_bit(tmp_path, scope):
    check_resumes_bit_for_bit(lambda: Hypergradient(hyper_learning_rate=0.5, scope=scope), tmp_path)


def test_a_state_of_the_other_scope_is_refused():
    model, tensor = slope_after("sgd", 1)[0], slope_after("sgd", 1, scope="tensor")[0]
    with pytest.raises(ValueError, match="one factor for the model, but scope is 'tensor'"):
        tensor.load_state_dict(model.state_dict())
    with pytest.raises(ValueError, match="a factor for each tensor, but scope is 'model'"):
        model.load_state_dict(tensor.state_dict())


def test_the_optimiser_gets_its_groups_and_rates_back():
    model = smooth_model()
    first, *rest = model.parameters()
    optimizer = torch.optim.SGD([{"params": [first], "lr": 0.5}, {"params": rest}], lr=0.1, momentum=0.9)
    groups = optimizer.param_groups
    recipe = Hypergradient(hyper_learning_rate=1.0)
    for index in range(3):
        take_step(model, optimizer, recipe, index)
        assert optimizer.param_groups is groups
        assert [(len(g["params"]), g["lr"]) for g in groups] == [(1, 0.5), (3, 0.1)]
    assert all("momentum_buffer" in optimizer.state[p] for p in model.parameters())


def test_low_precision_optimisers_keep_their_random_sites():
    """A group for each parameter numbers the parameters as one group does."""
    bf16 = lb.UpdateSpec.uniform(lb.BF16, lb.Rounding("stochastic", random_bits=8))
    settings = TrainingSettings(epochs=1, batch_size=8, learning_rate=0.1, update=bf16, seed=3)
    plain, adapted = toy_model(), toy_model()
    train(plain, toy_examples(), toy_examples(5), settings)
    train(
        adapted, toy_examples(), toy_examples(5), settings, recipes=[Hypergradient(hyper_learning_rate=0.0)]
    )
    assert parameter_bits(plain) == parameter_bits(adapted)


def test_parameters_without_a_gradient_are_left_alone():
    model = smooth_model()
    model[0].requires_grad_(False)  # type: ignore[operator]
    recipe = Hypergradient(hyper_learning_rate=1.0, scope="tensor")
    optimizer = OPTIMIZERS["sgd"](model.parameters())
    for index in range(2):
        take_step(model, optimizer, recipe, index)
    assert set(recipe.factors) == {"2.weight", "2.bias"}


def test_a_gradient_of_zero_moves_no_factor():
    for rule in ("additive", "multiplicative"):
        recipe = Hypergradient(hyper_learning_rate=1.0, rule=rule)  # type: ignore[arg-type]
        descend(recipe, steps=3, lr=0.1, weight=0.0)
        assert recipe.measurements() == {"factor": 1.0}


def test_a_factor_of_zero_stays():
    recipe = Hypergradient(hyper_learning_rate=1.0)
    recipe.load_state_dict({"factors": {"": 0.0}, "moves": {}})
    assert descend(recipe, steps=3, lr=0.1) == [1.0] * 4
    assert recipe.factors == {"": 0.0}


def test_its_work_and_its_memory_are_billed():
    model = smooth_model().float()
    optimizer = OPTIMIZERS["sgd"](model.parameters())
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    step = Step(index=0, epoch=0, model=model, optimizer=optimizer, batch=smooth_batch(0))
    with lb.record() as trace:
        Hypergradient(hyper_learning_rate=1.0).on_gradients(step)
    [event] = trace.vectors
    weights = 4 * 6 + 6 + 6 * 3 + 3
    assert (event.kind, event.role, event.elements) == ("optimizer_update", "overhead", weights)
    assert (event.read_bytes, event.write_bytes, event.state_bytes) == (
        8 * weights,
        4 * weights,
        4 * weights,
    )


@pytest.mark.parametrize("rate", [-0.1, math.inf, math.nan])
def test_a_rate_that_can_not_be_is_refused(rate):
    with pytest.raises(ValueError, match="hyper_learning_rate must be at least 0 and finite"):
        Hypergradient(hyper_learning_rate=rate)


def test_unknown_rules_and_scopes_are_refused():
    with pytest.raises(ValueError, match="unknown hypergradient rule 'aditive'.*did you mean 'additive'"):
        Hypergradient(hyper_learning_rate=0.1, rule="aditive")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="unknown hypergradient scope 'layer': known are model, tensor"):
        Hypergradient(hyper_learning_rate=0.1, scope="layer")  # type: ignore[arg-type]
