import os
from pathlib import Path

import numpy as np
import pytest
import torch

from lowbit_sim.study.data import load
from lowbit_sim.study.data.dataset import RawImages
from lowbit_sim.study.data.side_by_side import COLUMNS, SIZE, load_side_by_side, side_by_side
from tests.study.data.files import random_pixels, write_idx_set


def source(count: int = 40) -> RawImages:
    """Digit i is grey of brightness i, so that an image tells which digits it is made of."""
    pixels = np.broadcast_to(np.arange(1, count + 1, dtype=np.uint8).reshape(-1, 1, 1, 1), (count, 1, 28, 28))
    return RawImages(pixels=pixels.copy(), labels=np.arange(count, dtype=np.int64) % 10)


@pytest.mark.parametrize("digits", [2, 3])
def test_every_digit_is_at_every_place_once_and_the_label_is_the_number(digits):
    made = side_by_side(source(), digits, None, seed=5)
    assert made.pixels.shape == (40, 1, SIZE, SIZE)
    left = (SIZE - digits * COLUMNS[digits]) // 2
    at = [left + place * COLUMNS[digits] for place in range(digits)]
    brightness = made.pixels[:, 0, SIZE // 2, :][:, at].astype(int)  # [N, digits]
    assert all(sorted(column) == list(range(1, 41)) for column in brightness.T)
    labels = (brightness - 1) % 10
    expected = sum(labels[:, place] * 10 ** (digits - 1 - place) for place in range(digits))
    assert made.labels.tolist() == expected.tolist()
    rows = np.flatnonzero(made.pixels[0, 0].any(axis=1))
    assert (rows[0], rows[-1]) == (9, 22)


def test_a_digit_is_the_means_of_two_by_two_pixels():
    pixels = random_pixels(1, 1, 28, 28)
    made = side_by_side(RawImages(pixels=pixels, labels=np.array([7])), 2, None, seed=0)
    assert made.labels.tolist() == [77]
    means = [
        [np.rint(pixels[0, 0, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].mean()) for j in range(14)]
        for i in range(14)
    ]
    for start in (2, 16):
        assert made.pixels[0, 0, 9:23, start : start + 14].tolist() == means
    three = side_by_side(RawImages(pixels=pixels, labels=np.array([7])), 3, None, seed=0)
    assert three.pixels[0, 0, 9:23, 11:21].tolist() == [row[2:12] for row in means]


def test_limits_keep_the_first_and_the_seed_decides():
    whole, part = side_by_side(source(), 2, None, seed=1), side_by_side(source(), 2, 7, seed=1)
    assert part.labels.tolist() == whole.labels[:7].tolist()
    assert np.array_equal(part.pixels, whole.pixels[:7])
    assert whole.labels.tolist() != side_by_side(source(), 2, None, seed=2).labels.tolist()


def test_the_sets_are_read_by_name(tmp_path):
    write_idx_set(tmp_path, random_pixels(30, 28, 28), random_pixels(30) % 10)
    pairs, triples = (load(name, tmp_path, limit=20) for name in ("mnist_pairs", "mnist_triples"))
    assert (pairs.classes, triples.classes) == (100, 1000)
    assert (len(pairs.train), len(pairs.test), pairs.image_size, pairs.in_channels) == (20, 30, 32, 1)
    assert pairs.description == "MNIST pairs (digits side by side, 32x32 grey, 100 classes)"
    assert triples.name == "mnist_triples"
    again = load_side_by_side(2, tmp_path, limit=20)
    assert torch.equal(again.train.inputs, pairs.train.inputs)


@pytest.mark.data
@pytest.mark.parametrize(("name", "classes"), [("mnist_pairs", 100), ("mnist_triples", 1000)])
def test_the_real_sets_have_every_class(name, classes):
    root = os.environ.get("LOWBIT_DATA")
    if not root or not Path(root).is_dir():
        pytest.skip("LOWBIT_DATA names no folder with data sets")
    data = load(name, Path(root))
    assert (len(data.train), len(data.test)) == (60_000, 10_000)
    counts = data.train.targets.bincount(minlength=classes)
    assert 0.5 < float(counts.min()) / (60_000 / classes) < float(counts.max()) / (60_000 / classes) < 1.7
