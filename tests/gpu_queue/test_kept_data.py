import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.gpu import kept_data as module
from benchmarks.gpu.kept_data import files_of, kept_data, why_no_data
from lowbit_sim.study.data import FROM_FILES, load

NAMES = (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "data" / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    generator = np.random.default_rng(0)
    for name in NAMES:
        data = generator.integers(0, 256, (4, 3072), dtype=np.uint8)
        (folder / name).write_bytes(pickle.dumps({b"data": data, b"labels": [0, 1, 2, 9]}))
    return folder.parent


def test_kept_data_are_those_that_were_read_and_are_read_once(root, tmp_path, monkeypatch):
    reads = []
    real = FROM_FILES["cifar10"]
    monkeypatch.setitem(FROM_FILES, "cifar10", lambda *a, **k: reads.append(k) or real(*a, **k))
    expected = load("cifar10", root)
    reads.clear()
    with kept_data(tmp_path / "kept"):
        found = [load("cifar10", root) for _ in range(2)]
        assert len(reads) == 1
        assert len(load("cifar10", root, limit=3).train) == 3
    assert len(reads) == 2
    for each in found:
        assert (each.name, each.description, each.classes) == ("cifar10", "CIFAR-10", 10)
        for part in ("train", "test"):
            ours, theirs = getattr(each, part), getattr(expected, part)
            assert torch.equal(ours.inputs, theirs.inputs)
            assert torch.equal(ours.targets, theirs.targets)
    load("cifar10", root)
    assert len(reads) == 3  # as before it


def test_other_files_are_read_anew(root, tmp_path):
    with kept_data(tmp_path / "kept"):
        before = load("cifar10", root, limit=2)
        batch = root / "cifar-10-batches-py" / "data_batch_1"
        content = pickle.loads(batch.read_bytes())
        content[b"data"] = content[b"data"] // 2
        batch.write_bytes(pickle.dumps(content))
        os.utime(batch, ns=(1, 1))
        after = load("cifar10", root, limit=2)
    assert not torch.equal(before.train.inputs, after.train.inputs)


def test_why_there_are_no_data(root, tmp_path, monkeypatch):
    monkeypatch.setenv("LOWBIT_DATA", str(root))
    assert len(files_of(root)) == len(NAMES)
    assert why_no_data({"name": "cifar10"}) is None
    (tmp_path / "cifar100").mkdir()
    (tmp_path / "cifar100" / "train-0.parquet").touch()
    monkeypatch.setenv("LOWBIT_DATA", str(tmp_path))
    assert why_no_data({"name": "cifar10"}) == f"no cifar10 under LOWBIT_DATA ({tmp_path})"
    monkeypatch.delenv("LOWBIT_DATA")
    assert "LOWBIT_DATA is not set" in str(why_no_data({"name": "cifar10"}))
    assert why_no_data({"name": "digits"}) is None
    assert module.NAME in FROM_FILES
