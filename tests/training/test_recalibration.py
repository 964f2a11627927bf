"""Recalibrated batch-norms are those of the weights as they are, and leave nothing behind."""

import copy

import pytest
import torch
from torch import nn

import lowbit_sim as lb
from lowbit_sim.training.examples import Examples
from lowbit_sim.training.loop import evaluate, train
from lowbit_sim.training.recalibration import recalibrated, running_norms
from lowbit_sim.training.settings import TrainingSettings

INT8 = [lb.Rule("*", lb.OpSpec.uniform(lb.INT8, gradient_rounding=lb.Rounding("stochastic", random_bits=8)))]


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Dropout(0.5), nn.Linear(4 * 36, 3)
    )


def examples(count: int, seed: int = 0) -> Examples:
    generator = torch.Generator().manual_seed(seed)
    inputs = 2 + 3 * torch.randn(count, 1, 8, 8, generator=generator)
    return Examples(inputs=inputs, targets=torch.randint(0, 3, (count,), generator=generator))


def batches(count: int = 3) -> list[Examples]:
    return [examples(16, seed) for seed in range(count)]


def bits(model: nn.Module) -> dict[str, bytes]:
    return {name: t.numpy().tobytes() for name, t in model.state_dict().items()}


def test_the_statistics_are_the_mean_over_the_batches():
    model = net()
    maps = [model[0](batch.inputs).detach() for batch in batches()]
    with recalibrated(model, batches()):
        norm = model[1]
        expected = torch.stack([x.mean((0, 2, 3)) for x in maps]).mean(0)
        torch.testing.assert_close(norm.running_mean, expected)
        expected = torch.stack([x.transpose(0, 1).flatten(1).var(1) for x in maps]).mean(0)
        torch.testing.assert_close(norm.running_var, expected)


def test_they_are_those_of_torchs_own_recalibration():
    """Without dropout, which `update_bn` leaves on, and which stands behind the only norm here."""
    ours, torchs = net(), net()
    torch.optim.swa_utils.update_bn([batch.inputs for batch in batches()], torchs)
    with recalibrated(ours, batches()):
        assert torch.equal(ours[1].running_mean, torchs[1].running_mean)
        assert torch.equal(ours[1].running_var, torchs[1].running_var)


def test_everything_is_put_back():
    model = net()
    lb.convert(model, INT8)
    model[4].eval()
    before, modes = bits(model), [m.training for m in model.modules()]
    momentum = model[1].momentum
    drawn = torch.get_rng_state()
    with recalibrated(model, batches()):
        assert not any(m.training for m in model.modules())
        assert bits(model) != before
    assert bits(model) == before
    assert [m.training for m in model.modules()] == modes
    assert model[1].momentum == momentum
    assert torch.equal(torch.get_rng_state(), drawn)


def test_it_is_put_back_after_an_error_too():
    model = net()
    before = bits(model)
    with (
        pytest.raises(RuntimeError),
        recalibrated(
            model,
            [
                *batches(1),
                examples(4).__class__(
                    inputs=torch.zeros(4, 2, 8, 8), targets=torch.zeros(4, dtype=torch.int64)
                ),
            ],
        ),
    ):
        pass
    assert bits(model) == before
    assert model.training


def test_frozen_norms_stay_as_they_are():
    model = net()
    model[1].eval()
    assert running_norms(model) == []
    before = bits(model)
    with recalibrated(model, batches()):
        assert bits(model) == before


def test_no_batch_is_refused():
    with pytest.raises(ValueError, match="at least one batch"), recalibrated(net(), []):
        pass


def trained(recalibration_batches: int, model: nn.Module | None = None, **options):
    model = lb.convert(net(), INT8) if model is None else model
    settings = TrainingSettings(
        epochs=2, batch_size=8, learning_rate=0.1, recalibration_batches=recalibration_batches, **options
    )
    return model, train(model, examples(40), examples(24, 1), settings)


def test_training_is_the_same_with_and_without():
    """Weights, running statistics and metrics; a second evaluation changes no random bit."""
    (plain, without), (second, with_them) = trained(0), trained(3)
    assert bits(plain) == bits(second)
    assert [e.test_loss for e in without.epochs] == [e.test_loss for e in with_them.epochs]
    assert [e.train_loss for e in without.epochs] == [e.train_loss for e in with_them.epochs]
    assert all(e.measurements == {} for e in without.epochs)
    assert all(e.measurements["recalibrated_loss"] != e.test_loss for e in with_them.epochs)


def test_the_second_evaluation_is_that_of_recalibrated_statistics():
    model, result = trained(3)
    twin = copy.deepcopy(model)
    train_set = examples(40)
    parts = [
        Examples(inputs=train_set.inputs[i : i + 8], targets=train_set.targets[i : i + 8]) for i in (0, 8, 16)
    ]
    with recalibrated(twin, parts):
        loss, accuracy = evaluate(twin, examples(24, 1))
    assert result.epochs[-1].measurements == {"recalibrated_loss": loss, "recalibrated_accuracy": accuracy}


def test_a_model_without_norms_has_none():
    _, result = trained(3, nn.Sequential(nn.Flatten(), nn.Linear(64, 3)))
    assert result.epochs[-1].measurements == {}


@pytest.mark.parametrize("optimizer", ["adam", "adamw"])
def test_the_optimizer_is_the_one_that_was_named(optimizer):
    """Three steps by hand, with torch's."""
    own = {"learning_rate": 0.01, "momentum": 0.8, "second_moment_decay": 0.95, "weight_decay": 0.1}
    data = examples(24)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    by_hand = copy.deepcopy(model)
    settings = TrainingSettings(epochs=3, batch_size=24, optimizer=optimizer, schedule="constant", **own)
    train(model, data, data, settings)
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[optimizer]
    steps = kind(by_hand.parameters(), lr=0.01, betas=(0.8, 0.95), weight_decay=0.1)
    generator = torch.Generator().manual_seed(0)
    for _ in range(3):
        order = torch.randperm(24, generator=generator)
        steps.zero_grad()
        nn.functional.cross_entropy(by_hand(data.inputs[order]), data.targets[order]).backward()
        steps.step()
    assert bits(model) == bits(by_hand)


def test_an_unknown_optimizer_is_refused():
    with pytest.raises(ValueError, match="unknown optimizer 'adm'.*did you mean 'adam'"):
        TrainingSettings(epochs=1, batch_size=1, learning_rate=0.1, optimizer="adm")  # type: ignore[arg-type]
