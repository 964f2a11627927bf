import math
from dataclasses import replace

import pytest
import torch
from torch import nn

import lowbit_sim as lb
from lowbit_sim.training.examples import Examples
from lowbit_sim.training.loop import evaluate, train
from lowbit_sim.training.metrics import EpochMetrics
from lowbit_sim.training.recipe import Step
from lowbit_sim.training.settings import TrainingSettings
from tests.training.toys import SETTINGS, parameter_bits, toy_examples, toy_model

STOCHASTIC = lb.OpSpec.uniform(lb.INT4, gradient_rounding=lb.Rounding("stochastic", random_bits=8))
NARROW = lb.OpSpec.uniform(lb.INT8, mac=lb.MacUnit(accumulator_bits=16, overflow="saturate"))


def without_times(epochs: tuple[EpochMetrics, ...]) -> list[EpochMetrics]:
    return [replace(epoch, seconds=0.0) for epoch in epochs]


@pytest.mark.parametrize("spec", [None, STOCHASTIC, NARROW], ids=["native", "int4_stochastic", "int8_acc16"])
def test_the_same_seed_twice_gives_the_same_bits_and_metrics(spec):
    runs = []
    for global_seed in (0, 1):  # the caller's generator must not matter
        torch.manual_seed(global_seed)
        model = lb.convert(toy_model(), [lb.Rule("*", spec)], seed=5)
        result = train(model, toy_examples(), toy_examples(5, seed=1), SETTINGS)
        runs.append((parameter_bits(model), without_times(result.epochs)))
    assert runs[0] == runs[1]


@pytest.mark.usefixtures("torch_threads")
def test_the_number_of_threads_changes_no_bit_of_emulated_training():
    # Emulation fixes the GEMMs' bits; the toy's batch-norm is left out, as torch sums it in an order of its own.
    bits = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        model = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 3))
        model.load_state_dict(
            {k: torch.linspace(-1, 1, v.numel()).reshape(v.shape) for k, v in model.state_dict().items()}
        )
        lb.convert(model, [lb.Rule("*", STOCHASTIC)], seed=5)
        train(model, toy_examples(), toy_examples(5, seed=1), SETTINGS)
        bits.append(parameter_bits(model))
    assert bits[0] == bits[1]


def test_another_seed_gives_another_order():
    models = [toy_model(), toy_model()]
    for seed, model in enumerate(models):
        train(model, toy_examples(), toy_examples(5), replace(SETTINGS, seed=seed))
    assert parameter_bits(models[0]) != parameter_bits(models[1])


def test_training_equals_a_loop_written_out():
    """Independent of the loop: full-batch steps, where the order of the examples is the only freedom."""
    settings = TrainingSettings(
        epochs=3,
        batch_size=20,
        learning_rate=0.1,
        momentum=0.5,
        weight_decay=0.01,
        schedule="constant",
        seed=1,
    )
    data, model, expected = toy_examples(20), toy_model(), toy_model()
    train(model, data, toy_examples(5), settings)

    generator = torch.Generator().manual_seed(1)
    optimizer = torch.optim.SGD(expected.parameters(), lr=0.1, momentum=0.5, weight_decay=0.01)
    for _ in range(3):
        order = torch.randperm(20, generator=generator)
        optimizer.zero_grad()
        nn.functional.cross_entropy(expected(data.inputs[order]), data.targets[order]).backward()
        optimizer.step()
    assert parameter_bits(model) == parameter_bits(expected)


def test_it_learns():
    settings = TrainingSettings(epochs=30, batch_size=16, learning_rate=0.1, seed=0)
    separable = toy_examples(60)
    separable = Examples(inputs=separable.inputs, targets=(separable.inputs.mean(dim=(1, 2, 3)) > 0).long())
    result = train(toy_model(), separable, separable, settings)
    assert result.status == "completed"
    assert result.epochs[-1].train_loss < result.epochs[0].train_loss
    assert result.epochs[-1].test_accuracy > 0.9


def test_metrics_of_each_epoch_are_told_as_it_ends():
    told: list[EpochMetrics] = []
    result = train(toy_model(), toy_examples(20), toy_examples(5), SETTINGS, on_epoch=told.append)
    assert tuple(told) == result.epochs
    assert [epoch.epoch for epoch in told] == [0, 1]
    assert len(result.step_seconds) == 6
    assert told[-1].learning_rate == pytest.approx(0.05 * (1 + math.cos(math.pi * 5 / 6)))


def test_evaluate_is_in_evaluation_mode_over_all_examples_and_puts_the_mode_back():
    model, data = toy_model().train(), toy_examples(300)
    before = parameter_bits(model)
    loss, accuracy = evaluate(model, data)
    assert model.training
    assert parameter_bits(model) == before
    with torch.no_grad():
        logits = model.eval()(data.inputs)
    assert loss == pytest.approx(float(nn.functional.cross_entropy(logits, data.targets)), rel=1e-5)
    assert accuracy == int((logits.argmax(1) == data.targets).sum()) / 300


def batch_norm(model: nn.Module) -> nn.BatchNorm2d:
    [norm] = (module for module in model.modules() if isinstance(module, nn.BatchNorm2d))
    return norm


@pytest.mark.parametrize("root_trains", [True, False])
def test_evaluate_puts_back_the_mode_of_every_module(root_trains):
    model = toy_model().train(root_trains)
    batch_norm(model).train(not root_trains)
    before = [module.training for module in model.modules()]
    evaluate(model, toy_examples(5))
    assert [module.training for module in model.modules()] == before


def test_a_module_frozen_in_evaluation_mode_stays_frozen_through_training():
    model = toy_model().train()
    norm = batch_norm(model).eval()
    mean = norm.running_mean
    assert mean is not None
    before = mean.clone()
    train(model, toy_examples(20), toy_examples(5), SETTINGS)
    assert not norm.training
    assert torch.equal(mean, before)


def test_a_model_in_evaluation_mode_is_trained_in_training_mode():
    model = toy_model().eval()
    train(model, toy_examples(20), toy_examples(5), SETTINGS)
    assert all(module.training for module in model.modules())


@pytest.mark.parametrize(
    "spec", [None, lb.OpSpec.uniform(lb.INT8)], ids=["native", "nan_reaches_a_quantizer"]
)
def test_divergence_is_a_result(spec):
    poisoned = toy_examples(20)
    poisoned.inputs[11] = math.nan
    model = lb.convert(toy_model(), [lb.Rule("*", spec)])
    result = train(model, poisoned, toy_examples(5), SETTINGS)
    assert result.status == "diverged"
    assert result.reason.startswith("epoch 0: ")
    assert "nan" in result.reason.lower()
    assert result.epochs == ()
    assert not torch.are_deterministic_algorithms_enabled()


def test_a_test_loss_that_is_not_finite_is_divergence():
    data = toy_examples(5)
    data.inputs[0] = math.inf
    result = train(toy_model(), toy_examples(20), data, SETTINGS)
    assert (result.status, result.reason) == ("diverged", "epoch 0: the test loss is nan")


def test_other_errors_are_not_divergence():
    with pytest.raises(RuntimeError):
        train(nn.Linear(3, 3), toy_examples(), toy_examples(5), SETTINGS)


def test_overflows_are_counted_in_one_step_of_each_epoch():
    mac = lb.MacUnit(accumulator_bits=8, overflow="saturate")
    model = lb.convert(toy_model(), [lb.Rule("*", lb.OpSpec.uniform(lb.INT8, mac=mac))])
    result = train(model, toy_examples(20), toy_examples(5), SETTINGS)
    for epoch in result.epochs:
        # conv: output 8*16*4 sums of 9, grad_weight 4*9 sums of 8*16; linear: 8*3 of 4, 8*4 of 3, 3*4 of 8
        assert epoch.additions == 8 * 16 * 4 * 9 + 4 * 9 * 8 * 16 + 8 * 3 * 4 + 8 * 4 * 3 + 3 * 4 * 8
        assert epoch.overflows is not None
        assert 0 < epoch.overflows < epoch.additions


def test_native_training_counts_no_additions():
    result = train(toy_model(), toy_examples(20), toy_examples(5), SETTINGS)
    assert [(epoch.additions, epoch.overflows) for epoch in result.epochs] == [(0, 0), (0, 0)]


def plain_model() -> nn.Module:
    """Without batch normalisation, which sees micro-batches and not the batch."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 3)).double()


def doubled(examples: Examples) -> Examples:
    return Examples(inputs=examples.inputs.double(), targets=examples.targets)


@pytest.mark.parametrize("accumulation", [2, 3, 8])
def test_accumulated_gradients_are_those_of_the_batchs_mean_loss(accumulation):
    """In float64, where the order of the additions shows in the last digits only; 20 examples in batches of 8."""
    results, models = [], []
    for parts in (1, accumulation):
        models.append(plain_model())
        settings = replace(SETTINGS, accumulation=parts)
        results.append(train(models[-1], doubled(toy_examples(20)), doubled(toy_examples(5)), settings))
    for one, several in zip(*(model.parameters() for model in models), strict=True):
        torch.testing.assert_close(one, several, rtol=1e-10, atol=1e-12)
    for one, several in zip(*(result.epochs for result in results), strict=True):
        assert one.train_loss == pytest.approx(several.train_loss, rel=1e-10)
        assert one.train_accuracy == several.train_accuracy
    assert parameter_bits(models[0]) != parameter_bits(models[1])


def test_accumulation_is_one_step_of_the_optimizer_and_of_the_recipes():
    seen: list[tuple[int, int]] = []

    class Witness:
        def before_step(self, step: Step) -> None: ...

        def on_gradients(self, step: Step) -> None:
            seen.append((step.index, len(step.batch)))

        def after_step(self, step: Step) -> None: ...

    settings = replace(SETTINGS, epochs=1, accumulation=4)
    result = train(
        plain_model(), doubled(toy_examples(20)), doubled(toy_examples(5)), settings, recipes=[Witness()]
    )
    assert seen == [(0, 8), (1, 8), (2, 4)]
    assert len(result.step_seconds) == 3
