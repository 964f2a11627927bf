"""Small models and data that the training tests share."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from lowbit_sim.training.checkpoint import Checkpoint
from lowbit_sim.training.examples import Examples
from lowbit_sim.training.loop import train
from lowbit_sim.training.metrics import EpochMetrics
from lowbit_sim.training.settings import TrainingSettings

SETTINGS = TrainingSettings(epochs=2, batch_size=8, learning_rate=0.1, seed=3)


def toy_model(seed: int = 0) -> nn.Module:
    """A convolutional classifier of 3 classes of 1x4x4 images."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1, bias=False),
            nn.BatchNorm2d(4),
            nn.ReLU(inplace=True),
            nn.AvgPool2d(4),
            nn.Flatten(),
            nn.Linear(4, 3),
        )


def toy_examples(count: int = 20, seed: int = 0) -> Examples:
    """Images whose class is the row that is brightest among the first three."""
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(count, 1, 4, 4, generator=generator)
    return Examples(inputs=inputs, targets=inputs[:, 0, :3].mean(dim=2).argmax(dim=1))


def parameter_bits(model: nn.Module) -> list[bytes]:
    """The bits of everything that training changes."""
    return [t.detach().numpy().tobytes() for t in model.state_dict().values()]


def check_resumes_bit_for_bit(recipe: Callable[[], Any], folder: Path) -> None:
    """A run with such a recipe that is stopped after its second epoch goes on with the bits it would have had."""
    settings = replace(SETTINGS, epochs=3)

    def run(**options: Any) -> tuple[list[bytes], dict[str, float]]:
        model, own = toy_model(), recipe()
        train(model, toy_examples(), toy_examples(5), settings, recipes=[own], **options)
        return parameter_bits(model), own.measurements()

    def stop(metrics: EpochMetrics) -> None:
        if metrics.epoch == 1:
            raise KeyboardInterrupt

    checkpoint = Checkpoint(path=folder / "run")
    with pytest.raises(KeyboardInterrupt):
        run(checkpoint=checkpoint, on_epoch=stop)
    assert run(checkpoint=checkpoint) == run()
