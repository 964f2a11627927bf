"""A data set in memory: training and test images, normalised, and what to call it in a report."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from lowbit_sim.study.errors import StudyError
from lowbit_sim.training.examples import Examples


class DataError(StudyError):
    """A data set is missing or damaged; the message names the file and what was expected of it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class RawImages:
    """Images as stored.

    Attributes:
        pixels: uint8 [N, C, H, W].
        labels: int64 [N].
    """

    pixels: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True, kw_only=True, eq=False)
class Dataset:
    """Images to train on and to test on.

    Attributes:
        name: The name it is loaded by.
        description: What it is, for reports, including anything that sets it apart from the original.
        train, test: Inputs float32 [N, C, H, W], each channel shifted and scaled by the mean and the standard
            deviation of the training images' channel; targets int64 [N].
        classes: Number of classes.
    """

    name: str
    description: str
    train: Examples
    test: Examples
    classes: int

    @property
    def in_channels(self) -> int:
        """Channels of an image."""
        return self.train.inputs.shape[1]

    @property
    def image_size(self) -> int:
        """Height and width of an image."""
        return self.train.inputs.shape[2]


def normalized(*, name: str, description: str, train: RawImages, test: RawImages, classes: int) -> Dataset:
    """The data set of raw images: (pixel - mean) / deviation by channel, from the training images alone.

    Args:
        name: As in `Dataset`.
        description: As in `Dataset`.
        train: The training images.
        test: The test images.
        classes: Number of classes.

    Raises:
        DataError: A label outside 0 .. classes - 1.
    """
    for part in (train, test):
        if part.labels.min() < 0 or part.labels.max() >= classes:
            raise DataError(
                f"{name}: labels run from {part.labels.min()} to {part.labels.max()}, expected 0 to {classes - 1}"
            )
    mean, deviation = _mean_and_deviation(train.pixels)
    return Dataset(
        name=name,
        description=description,
        train=_examples(train, mean, deviation),
        test=_examples(test, mean, deviation),
        classes=classes,
    )


def _mean_and_deviation(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of each channel, float32 [C, 1, 1]; from exact counts of the 256 values, so that no order matters."""
    values = np.arange(256.0)
    mean: list[float] = []
    deviation: list[float] = []
    for channel in range(pixels.shape[1]):
        counts = np.bincount(pixels[:, channel].ravel(), minlength=256)
        mean.append(float(np.average(values, weights=counts)))
        deviation.append(math.sqrt(np.average((values - mean[-1]) ** 2, weights=counts)))
    # A channel without contrast is shifted only.
    scale = [d if d > 0 else 1.0 for d in deviation]
    return _column(mean), _column(scale)


def _column(values: list[float]) -> np.ndarray:
    return np.array(values, dtype=np.float32).reshape(-1, 1, 1)


def _examples(images: RawImages, mean: np.ndarray, deviation: np.ndarray) -> Examples:
    inputs = np.ascontiguousarray(images.pixels, dtype=np.float32)
    inputs -= mean
    inputs /= deviation
    return Examples(inputs=torch.from_numpy(inputs), targets=torch.from_numpy(images.labels.astype(np.int64)))


def data_root(given: Path | None, name: str) -> Path:
    """The folder that holds the data sets: the one given, else the environment's LOWBIT_DATA.

    Raises:
        DataError: Neither is given, or the folder does not exist.
    """
    chosen = given or (Path(os.environ["LOWBIT_DATA"]) if os.environ.get("LOWBIT_DATA") else None)
    if chosen is None:
        raise DataError(
            f"{name} is read from files: pass --data-root FOLDER or set LOWBIT_DATA to the folder that holds it"
        )
    if not chosen.is_dir():
        raise DataError(f"the data root {chosen} is not a folder: expected one that holds {name}")
    return chosen
