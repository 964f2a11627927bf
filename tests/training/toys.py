"""Small models and data that the training tests share."""

import torch
from torch import nn

from lowbit_sim.training.examples import Examples
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
