"""A small model with layers to quantise between its first and its last one, and a run of it."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

import lowbit_sim as lb
from lowbit_sim.arith.spec import OpSpec
from lowbit_sim.training.loop import train
from lowbit_sim.training.metrics import TrainingResult
from lowbit_sim.training.settings import TrainingSettings
from tests.training.toys import toy_examples

#: 2 epochs of 3 steps of 20 examples.
SETTINGS = TrainingSettings(epochs=2, batch_size=8, learning_rate=0.1, seed=3)
STEPS = SETTINGS.steps(20)

#: The forward GEMM on integer codes, the backward ones in float32.
FORWARD = OpSpec(output=OpSpec.uniform(lb.INT8).output, grad_input=None, grad_weight=None)


def grid_model(seed: int = 0) -> nn.Sequential:
    """A convolutional classifier of 3 classes of 1x4x4 images, of two blocks between its ends."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1, bias=False),
            nn.Sequential(nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 6, 3, padding=1, bias=False)),
            nn.Sequential(nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 6, 3, padding=1, bias=False)),
            nn.BatchNorm2d(6),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(96, 3),
        )


def emulated_model(seed: int = 0) -> nn.Module:
    """The same with emulated layers."""
    return lb.convert(grid_model(seed), [lb.Rule("*", FORWARD)])


def run(
    recipes: Sequence[Any],
    model: nn.Module | None = None,
    settings: TrainingSettings = SETTINGS,
    **options: Any,
) -> tuple[nn.Module, TrainingResult]:
    """A trained model, and how the run went."""
    model = grid_model() if model is None else model
    return model, train(
        model, toy_examples(20), toy_examples(5, seed=1), settings, recipes=recipes, **options
    )


def weights(model: nn.Module) -> dict[str, torch.Tensor]:
    """Parameters and buffers by the names that they have without pre-processing."""
    return {
        name.replace("parametrizations.", "").replace(".original", ""): value.detach().clone()
        for name, value in model.state_dict().items()
    }


def same_weights(a: nn.Module, b: nn.Module) -> bool:
    """Whether two models have the same bits."""
    first, second = weights(a), weights(b)
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)
