"""CIFAR-10 as tensors on the disk: decoding 60,000 images anew takes every piece of every arm some seconds.

The tensors are those of `study.data.load_cifar10`, kept under a digest of the files that they came from.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.gpu.task import tell
from lowbit_sim.study.data import FROM_FILES, Dataset
from lowbit_sim.training.examples import Examples

NAME = "cifar10"

#: The forms of the set that `study.data.cifar` reads, as files.
_FORMS = ("train-*.parquet", "test-*.parquet", "cifar-10-python.tar.gz", "data_batch_*", "test_batch")

_PARTS = ("train", "test")


def why_no_data(table: Mapping[str, Any]) -> str | None:
    """Why a study's data, its table [data], can't be read here, or None."""
    if table["name"] != NAME:
        return None
    root = os.environ.get("LOWBIT_DATA")
    if not root:
        return f"{NAME} is read from files and LOWBIT_DATA is not set: set it to the folder that holds them"
    return None if files_of(Path(root)) else f"no {NAME} under LOWBIT_DATA ({root})"


def files_of(root: Path) -> list[Path]:
    """The set's files in a folder, or two levels down in one that bears its name."""
    named = [*root.glob("cifar10*"), *root.glob("cifar-10*")]
    named = [folder for folder in named if not folder.name.startswith(("cifar100", "cifar-100"))]
    folders = [root, *(each for folder in named for each in (folder, *folder.glob("*/")))]
    return sorted({file for folder in folders for form in _FORMS for file in folder.glob(form)})


@contextmanager
def kept_data(folder: Path) -> Iterator[None]:
    """While it lasts, `study.data.load` finds CIFAR-10 in a folder once it has read it.

    Args:
        folder: Where the tensors are kept; made when they are.
    """
    read = FROM_FILES[NAME]

    def load(root: Path, *, limit: int | None = None, test_limit: int | None = None) -> Dataset:
        path = folder / f"{NAME}-{_digest(root, limit, test_limit)}.safetensors"
        if not path.exists():
            _write(path, read(root, limit=limit, test_limit=test_limit))
        return _read(path)

    FROM_FILES[NAME] = load
    try:
        yield
    finally:
        FROM_FILES[NAME] = read


def _digest(root: Path, *limits: int | None) -> str:
    """Of the files' names, sizes and times, and of the limits."""
    known = [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files_of(root)]
    return hashlib.sha256(repr((known, limits)).encode()).hexdigest()[:12]


def _write(path: Path, data: Dataset) -> None:
    from safetensors.torch import save_file

    tensors = {}
    for part in _PARTS:
        examples: Examples = getattr(data, part)
        tensors |= {f"{part}.inputs": examples.inputs, f"{part}.targets": examples.targets}
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".partial")
    save_file(tensors, unfinished, metadata={"description": data.description, "classes": str(data.classes)})
    os.replace(unfinished, path)
    tell(f"kept {data.description} in {path}")


def _read(path: Path) -> Dataset:
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        known = file.metadata()
        parts = {
            part: Examples(
                inputs=file.get_tensor(f"{part}.inputs"), targets=file.get_tensor(f"{part}.targets")
            )
            for part in _PARTS
        }
    return Dataset(name=NAME, description=known["description"], classes=int(known["classes"]), **parts)
