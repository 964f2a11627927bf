from pathlib import Path

import numpy as np
import pytest

from lowbit_sim.study.data.dataset import DataError, RawImages, data_root, normalized
from tests.study.data.files import random_pixels


def raw(pixels: np.ndarray, labels: list[int] | None = None) -> RawImages:
    return RawImages(pixels=pixels, labels=np.array(labels if labels is not None else [0] * len(pixels)))


def test_training_channels_have_mean_zero_and_deviation_one_and_test_uses_the_same_figures():
    train, test = random_pixels(50, 3, 6, 6), random_pixels(5, 3, 6, 6, seed=1)
    data = normalized(name="x", description="X", train=raw(train), test=raw(test), classes=2)
    mean, deviation = (f(train.astype(np.float64), axis=(0, 2, 3)) for f in (np.mean, np.std))
    for part, pixels in ((data.train, train), (data.test, test)):
        expected = (pixels - mean[:, None, None]) / deviation[:, None, None]
        np.testing.assert_allclose(part.inputs.numpy(), expected, atol=1e-6)
        assert part.inputs.numpy().dtype == np.float32
        assert part.inputs.is_contiguous()
    assert (data.in_channels, data.image_size) == (3, 6)


def test_a_channel_without_contrast_becomes_zero():
    flat = raw(np.full((4, 1, 2, 2), 9, dtype=np.uint8))
    data = normalized(name="x", description="X", train=flat, test=flat, classes=1)
    assert not data.train.inputs.any()


@pytest.mark.parametrize("label", [-1, 2])
def test_labels_outside_the_classes_are_an_error(label):
    bad = raw(random_pixels(2, 1, 2, 2), [0, label])
    with pytest.raises(DataError, match=f"x: labels run from .*{label}.*expected 0 to 1"):
        normalized(name="x", description="X", train=bad, test=bad, classes=2)


def test_the_root_is_the_one_given_else_the_environments(monkeypatch, tmp_path):
    given, other = tmp_path / "given", tmp_path / "other"
    given.mkdir()
    other.mkdir()
    monkeypatch.setenv("LOWBIT_DATA", str(other))
    assert data_root(given, "mnist") == given
    assert data_root(None, "mnist") == other


def test_no_root_says_how_to_give_one(monkeypatch):
    monkeypatch.delenv("LOWBIT_DATA", raising=False)
    with pytest.raises(
        DataError, match="mnist is read from files: pass --data-root FOLDER or set LOWBIT_DATA"
    ):
        data_root(None, "mnist")


def test_a_root_that_is_no_folder_is_named(tmp_path):
    with pytest.raises(DataError, match="absent is not a folder: expected one that holds mnist"):
        data_root(tmp_path / Path("absent"), "mnist")
