import copy
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from lowbit_sim.nn.dorefa_grid import Precision
from lowbit_sim.training.checkpoint import Checkpoint
from lowbit_sim.training.dorefa import dorefa
from lowbit_sim.training.guided import GuidedTraining
from lowbit_sim.training.recipe import ForwardPass, Step
from lowbit_sim.training.settings import build_optimizer
from lowbit_sim.training.two_step import two_step
from tests.training.grid_nets import SETTINGS, STEPS, emulated_model, grid_model, run, same_weights
from tests.training.toys import parameter_bits, toy_examples

W2A2 = Precision(weight_bits=2, activation_bits=2)


def guided(settings=SETTINGS, **options) -> GuidedTraining:
    return GuidedTraining(settings, **{"bits": 2, **options})


def features(model: torch.nn.Module, x: torch.Tensor, paths: tuple[str, ...]) -> list[torch.Tensor]:
    seen: list[torch.Tensor] = []
    handles = [
        model.get_submodule(path).register_forward_hook(lambda m, a, y: seen.append(y)) for path in paths
    ]
    model(x)
    for handle in handles:
        handle.remove()
    return seen


def quantised(x: torch.Tensor, bits: int) -> torch.Tensor:
    steps = (1 << bits) - 1
    return (x.clamp(0, 1) * steps).round() / steps


@pytest.mark.parametrize("power", [1, 2])
def test_the_loss_is_that_of_the_formula(power):
    model = grid_model()
    recipe = guided(power=power, feature_weight=0.5, bits=3)
    recipe.prepare(model)
    recipe.teacher.load_state_dict(grid_model(1).state_dict())
    assert recipe.compared == ("1", "2")
    teacher, student = copy.deepcopy(recipe.teacher), copy.deepcopy(model)
    batch = toy_examples(8)
    step = Step(index=0, epoch=0, model=model, optimizer=build_optimizer(model, SETTINGS), batch=batch)
    recipe.before_step(step)
    logits = model(batch.inputs)
    entropy = F.cross_entropy(logits, batch.targets)
    loss = recipe.on_loss(step, ForwardPass(part=batch, logits=logits, share=1.0), entropy)
    pairs = zip(*(features(net, batch.inputs, ("1", "2")) for net in (student, teacher)), strict=True)
    differences = [quantised(a, 3) - quantised(b, 3) for a, b in pairs]
    terms = [d.abs().mean() if power == 1 else d.square().mean() / 2 for d in differences]
    distance = float(torch.stack(terms).sum().detach())
    assert float(loss.detach()) == pytest.approx(float(entropy.detach()) + 0.5 * distance, rel=1e-6)
    assert recipe.measurements()["feature_distance"] == pytest.approx(distance, rel=1e-6)


def test_both_nets_are_pulled():
    """The one in full precision moves, too: not by its own loss alone."""
    recipe = guided()
    model, _ = run([recipe, dorefa(W2A2, steps=STEPS)])
    assert parameter_bits(model) != parameter_bits(run([dorefa(W2A2, steps=STEPS)])[0])
    assert not same_weights(recipe.teacher, run([])[0])


def test_each_net_takes_the_others_features_for_constants():
    model = grid_model()
    recipe = guided(teacher_weight=0.0)
    recipe.prepare(model)
    recipe.teacher.load_state_dict(grid_model(1).state_dict())
    batch = toy_examples(8)
    step = Step(index=0, epoch=0, model=model, optimizer=build_optimizer(model, SETTINGS), batch=batch)
    recipe.before_step(step)
    logits = model(batch.inputs)
    loss = recipe.on_loss(
        step, ForwardPass(part=batch, logits=logits, share=1.0), F.cross_entropy(logits, batch.targets)
    )
    before = [None if p.grad is None else p.grad.clone() for p in recipe.teacher.parameters()]
    assert any(g is not None and bool(g.any()) for g in before)
    assert all(p.grad is None for p in model.parameters())
    loss.backward()
    after = [p.grad for p in recipe.teacher.parameters()]
    for a, b in zip(before, after, strict=True):
        assert (a is None and b is None) or (a is not None and b is not None and torch.equal(a, b))
    # Behind the last features D has no reach: the teacher's classifier has no gradient of its own.
    head = recipe.teacher.get_parameter("6.weight")
    assert head.grad is None or not bool(head.grad.any())


def test_features_can_be_named():
    recipe = guided(features=["4"])
    run([recipe])
    assert recipe.compared == ("4",)
    with pytest.raises(ValueError, match="guided_training: unknown module whose output is compared 'relu'"):
        run([guided(features=["relu"])])


def test_nothing_watches_the_model_between_steps():
    recipe = guided()
    model, _ = run([recipe])
    for net in (model, recipe.teacher):
        assert not any(module._forward_hooks for module in net.modules())


def test_with_two_step_it_trains():
    _, result = run([guided(), two_step(W2A2, steps=STEPS, pretraining=0.2)], emulated_model())
    assert result.status == "completed"
    measured = result.epochs[-1].measurements
    assert {"guided_training.feature_distance", "guided_training.teacher_train_accuracy"} <= measured.keys()


@pytest.mark.parametrize("make", [grid_model, emulated_model])
def test_a_run_goes_on_bit_for_bit(make, tmp_path):
    settings = replace(SETTINGS, epochs=3, accumulation=2)

    def whole(**options):
        recipe = guided(settings, power=2, feature_weight=100.0)
        model, result = run([recipe, dorefa(W2A2, steps=9)], make(), settings, **options)
        return parameter_bits(model), parameter_bits(recipe.teacher), result.epochs[-1].measurements

    def stop(metrics):
        if metrics.epoch == 1:
            raise KeyboardInterrupt

    checkpoint = Checkpoint(path=tmp_path / "run")
    with pytest.raises(KeyboardInterrupt):
        whole(checkpoint=checkpoint, on_epoch=stop)
    assert whole(checkpoint=checkpoint) == whole()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bits": 20}, "activation_bits must be from 1 to 16"),
        ({"feature_weight": 0.0}, "feature_weight must not be 0"),
        ({"teacher_weight": -1.0}, "teacher_weight must be at least 0 and finite, got -1.0"),
        ({"power": 3}, "power is 1 or 2, got 3"),
        ({"clip": -1.0}, "clip, the upper end of the inputs' range, must be positive"),
        (
            {"teacher_learning_rate": float("inf")},
            "teacher_learning_rate must be positive and finite, got inf",
        ),
    ],
    ids=["bits", "feature_weight", "teacher_weight", "power", "clip", "rate"],
)
def test_what_can_not_be_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        guided(**options)


def test_it_stands_before_what_changes_the_model():
    with pytest.raises(ValueError, match="guided_training: staged_precision before it changes the model"):
        run([dorefa(W2A2, steps=STEPS), guided()])
    with pytest.raises(ValueError, match="features is empty"):
        run([guided(features=[])])
    with pytest.raises(ValueError, match="guided training needs prepare"):
        guided().measurements()
