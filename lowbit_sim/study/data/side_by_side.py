"""Real digits side by side, for tasks of many classes: two of them are one of 100, three of them one of 1,000.

    image   k digits in a row, each halved to 14x14 by the means of 2x2 pixels, on black, 32x32
    label   the number that the digits read as

The images are MNIST's, each digit as often at every place as there are images: at place p the i-th image of a set is
digit number order_p(i), and order_p is a permutation of the set that a seed fixes. Training and test images are made
of MNIST's training and test images, so that no digit is in both. Of three digits the middle 10 of 14 columns are
kept: MNIST's digits fill a box of 20x20 pixels, centred by their mass, so that few lose a stroke.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lowbit_sim.study.data.dataset import Dataset, RawImages, normalized
from lowbit_sim.study.data.idx import MNIST, IdxSet, read_part

#: Height and width of an image.
SIZE = 32

#: Columns that are kept of each halved digit, by the number of digits.
COLUMNS = {2: 14, 3: 10}

#: Seeds the permutations. Changing it changes every record of a study with these sets.
SEED = 1998


def load_side_by_side(
    digits: int,
    root: Path,
    *,
    source: IdxSet = MNIST,
    limit: int | None = None,
    test_limit: int | None = None,
) -> Dataset:
    """Read MNIST and put its digits side by side.

    Args:
        digits: How many: 2 or 3.
        root: The folder that holds the data sets.
        source: The digits.
        limit: Keep the first `limit` training images.
        test_limit: Keep the first `test_limit` test images.

    Raises:
        DataError: A file is missing, damaged or not what it should be.
    """
    word = {2: "pairs", 3: "triples"}[digits]
    return normalized(
        name=f"{source.name}_{word}",
        description=f"{source.description} {word} (digits side by side, 32x32 grey, {10**digits:,} classes)",
        train=side_by_side(read_part(source, root, "train"), digits, limit, seed=SEED),
        test=side_by_side(read_part(source, root, source.test), digits, test_limit, seed=SEED + 1),
        classes=10**digits,
    )


def side_by_side(source: RawImages, digits: int, limit: int | None, *, seed: int) -> RawImages:
    """As many images as there are digits, or the first `limit` of them.

    Args:
        source: uint8 [N, 1, 28, 28] and labels 0 to 9.
        digits: Digits in an image.
        limit: How many images to make; None for N.
        seed: Of the permutations.
    """
    # The legacy generator: numpy promises that its numbers never change.
    random = np.random.RandomState(seed)  # noqa: NPY002
    orders = [random.permutation(len(source.labels))[:limit] for _ in range(digits)]
    pixels = np.zeros((len(orders[0]), 1, SIZE, SIZE), dtype=np.uint8)
    labels = np.zeros(len(orders[0]), dtype=np.int64)
    columns = COLUMNS[digits]
    left, top = (SIZE - digits * columns) // 2, (SIZE - 14) // 2
    for place, order in enumerate(orders):
        start = left + place * columns
        pixels[:, :, top : top + 14, start : start + columns] = _halved(source.pixels[order], columns)
        labels = 10 * labels + source.labels[order]
    return RawImages(pixels=pixels, labels=labels)


def _halved(pixels: np.ndarray, columns: int) -> np.ndarray:
    """The means of 2x2 pixels, rounded half to even, and the middle columns of them."""
    n, channels, height, width = pixels.shape
    blocks = pixels.reshape(n, channels, height // 2, 2, width // 2, 2)
    halved = np.rint(blocks.mean(axis=(3, 5))).astype(np.uint8)
    cut = (halved.shape[-1] - columns) // 2
    return halved[..., cut : cut + columns]
