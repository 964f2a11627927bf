"""CIFAR-10 from any of its usual forms.

* the official folder `cifar-10-batches-py`: pickled dicts with b"data" uint8 [n, 3072] (red, green, blue
  planes of 32x32) and b"labels";
* the official archive `cifar-10-python.tar.gz`, which holds that folder;
* Hugging Face's parquet files `train-*.parquet` and `test-*.parquet`: columns img {bytes, path} (PNG, or a
  re-encoded JPEG) and label.

Source: A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009, and its data page.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from lowbit_sim.study.data.cifar_batches import (
    BATCHES,
    BATCHES_FOLDER,
    archive_reader,
    folder_reader,
    read_part,
)
from lowbit_sim.study.data.dataset import DataError, Dataset, normalized
from lowbit_sim.study.data.image_parquet import read_parquet

ARCHIVE = "cifar-10-python.tar.gz"
_JPEG_NOTE = " (JPEG re-encoded)"


def load_cifar10(root: Path, *, limit: int | None = None, test_limit: int | None = None) -> Dataset:
    """Read CIFAR-10: the official folder if there is one, else the archive, else parquet files.

    Args:
        root: The folder that holds one of these, or a folder `cifar10...` or `cifar-10...` with one of these.
        limit: Keep the first `limit` training images.
        test_limit: Keep the first `test_limit` test images.

    Raises:
        DataError: None of them is there, or what is there is damaged.
    """
    for folder in _folders(root):
        if folder.name == BATCHES_FOLDER:
            return _official(folder_reader(folder), limit, test_limit)
        if (folder / ARCHIVE).is_file():
            return _official(archive_reader(folder / ARCHIVE), limit, test_limit)
    for folder in _folders(root):
        if list(folder.glob("train-*.parquet")):
            return _parquet(folder, limit, test_limit)
    raise DataError(
        f"cifar10: none of {BATCHES_FOLDER}/, {ARCHIVE}, train-*.parquet in {root} or its folders cifar10*, cifar-10*"
    )


def _folders(root: Path) -> list[Path]:
    """The root and the folders under it that bear the set's name, two levels down; never CIFAR-100's."""
    named = [p for pattern in ("cifar10*", "cifar-10*") for p in sorted(root.glob(pattern)) if p.is_dir()]
    named = [p for p in named if not p.name.startswith(("cifar100", "cifar-100"))]
    return [root, *named, *(inner for p in named for inner in sorted(p.iterdir()) if inner.is_dir())]


def _official(read: Callable[[str], bytes], limit: int | None, test_limit: int | None) -> Dataset:
    return normalized(
        name="cifar10",
        description="CIFAR-10",
        train=read_part(read, BATCHES["train"], limit),
        test=read_part(read, BATCHES["test"], test_limit),
        classes=10,
    )


def _parquet(folder: Path, limit: int | None, test_limit: int | None) -> Dataset:
    train, train_kinds = read_parquet(sorted(folder.glob("train-*.parquet")), limit)
    tests = sorted(folder.glob("test-*.parquet"))
    if not tests:
        raise DataError(f"cifar10: {folder} holds train-*.parquet but no test-*.parquet")
    test, test_kinds = read_parquet(tests, test_limit)
    note = _JPEG_NOTE if "JPEG" in train_kinds | test_kinds else ""
    return normalized(name="cifar10", description=f"CIFAR-10{note}", train=train, test=test, classes=10)
