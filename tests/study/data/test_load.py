import os
from pathlib import Path

import pytest

from lowbit_sim.study.data import DATASETS, DataError, load
from lowbit_sim.study.data.idx import MNIST
from tests.study.data.files import random_pixels, write_idx_set


def test_an_unknown_set_names_the_nearest():
    with pytest.raises(DataError, match="unknown data set 'cifar': known are .*did you mean 'cifar10'"):
        load("cifar")


def test_digits_need_no_root(monkeypatch):
    monkeypatch.delenv("LOWBIT_DATA", raising=False)
    assert load("digits", limit=20).name == "digits"


@pytest.mark.parametrize("name", [name for name in DATASETS if name != "digits"])
def test_the_others_do(monkeypatch, name):
    monkeypatch.delenv("LOWBIT_DATA", raising=False)
    with pytest.raises(DataError, match=f"{name} is read from files"):
        load(name)


def test_the_environment_is_read_when_called(monkeypatch, tmp_path):
    write_idx_set(tmp_path, random_pixels(4, 5, 5), random_pixels(4) % 10)
    monkeypatch.setenv("LOWBIT_DATA", str(tmp_path))
    assert load("mnist").description == MNIST.description


@pytest.fixture
def real_root() -> Path:
    root = os.environ.get("LOWBIT_DATA")
    if not root or not Path(root).is_dir():
        pytest.skip("LOWBIT_DATA names no folder with data sets")
    return Path(root)


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "train", "test", "shape"),
    [("mnist", 60_000, 10_000, (1, 28, 28)), ("cifar10", 50_000, 10_000, (3, 32, 32))],
)
def test_the_real_sets_are_whole_and_balanced(real_root, name, train, test, shape):
    data = load(name, real_root)
    assert (len(data.train), len(data.test)) == (train, test)
    assert data.train.inputs.shape[1:] == shape
    assert abs(float(data.train.inputs.mean())) < 1e-4
    assert float(data.train.inputs.std()) == pytest.approx(1, abs=1e-3)
    counts = data.train.targets.bincount(minlength=10) / train
    assert 0.08 < float(counts.min()) <= float(counts.max()) < 0.12
