import math
from typing import Any

import pytest

from lowbit_sim.training.settings import TrainingSettings, build_optimizer, learning_rate
from tests.training.toys import toy_model

GOOD: dict[str, Any] = {"epochs": 1, "batch_size": 4, "learning_rate": 0.5}


def test_cosine_starts_at_the_rate_halves_midway_and_ends_near_zero():
    settings = TrainingSettings(**GOOD, schedule="cosine")
    rates = [learning_rate(settings, step, 100) for step in range(100)]
    assert rates[0] == 0.5
    assert rates[50] == pytest.approx(0.25)
    assert rates[99] == pytest.approx(0.25 * (1 + math.cos(math.pi * 0.99)))
    assert rates == sorted(rates, reverse=True)


def test_constant_stays():
    settings = TrainingSettings(**GOOD, schedule="constant")
    assert {learning_rate(settings, step, 10) for step in range(10)} == {0.5}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("epochs", 0),
        ("batch_size", 0),
        ("learning_rate", 0.0),
        ("learning_rate", math.inf),
        ("momentum", 1.0),
        ("weight_decay", -1e-4),
        ("seed", -1),
        ("accumulation", 0),
        ("accumulation", 5),
    ],
)
def test_values_out_of_range_are_named(key, value):
    with pytest.raises(ValueError, match=f"{key}.*{value}"):
        TrainingSettings(**{**GOOD, key: value})


def test_an_unknown_schedule_names_the_nearest():
    with pytest.raises(ValueError, match="did you mean 'cosine'"):
        TrainingSettings(**GOOD, schedule="cosin")  # pyright: ignore[reportArgumentType]


def test_the_optimizer_has_the_settings():
    settings = TrainingSettings(**GOOD, momentum=0.8, weight_decay=0.01)
    group = build_optimizer(toy_model(), settings).param_groups[0]
    assert (group["lr"], group["momentum"], group["weight_decay"]) == (0.5, 0.8, 0.01)


@pytest.mark.parametrize(
    ("batch_size", "accumulation", "size"), [(8, 1, 8), (8, 2, 4), (10, 4, 3), (10, 10, 1)]
)
def test_micro_batches_divide_the_batch(batch_size, accumulation, size):
    settings = TrainingSettings(**{**GOOD, "batch_size": batch_size}, accumulation=accumulation)
    assert settings.micro_batch_size == size


def test_steps_of_a_run():
    assert TrainingSettings(epochs=3, batch_size=8, learning_rate=0.1).steps(20) == 9
