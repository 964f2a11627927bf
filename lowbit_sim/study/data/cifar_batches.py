"""CIFAR-10's official batches: pickles, read from their folder or straight from the archive.

A pickle can run any code, so the reader admits only what a batch is made of: NumPy arrays and plain values.
"""

from __future__ import annotations

import io
import pickle
import tarfile
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from lowbit_sim.study.data.dataset import DataError, RawImages

BATCHES_FOLDER = "cifar-10-batches-py"
BATCHES = {"train": [f"data_batch_{i}" for i in range(1, 6)], "test": ["test_batch"]}
_ROW = 3 * 32 * 32

#: What the pickle of a NumPy array names, by the old and the new module path.
_ALLOWED = {
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy.core.numeric", "_frombuffer"),
    ("numpy._core.numeric", "_frombuffer"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("_codecs", "encode"),
}


class _BatchUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which no CIFAR-10 batch does")
        # NumPy 2 moved the module and warns about the old name.
        return super().find_class(module.replace("numpy.core.", "numpy._core."), name)


def folder_reader(folder: Path) -> Callable[[str], bytes]:
    """A function from a batch's name to its bytes, out of the official folder."""
    return partial(_read_file, folder)


def _read_file(folder: Path, name: str) -> bytes:
    try:
        return (folder / name).read_bytes()
    except OSError as error:
        raise DataError(f"{folder / name} can't be read ({error}): expected a CIFAR-10 batch") from error


def archive_reader(archive: Path) -> Callable[[str], bytes]:
    """A function from a batch's name to its bytes, out of the official archive.

    Raises:
        DataError: The archive is damaged, or not one.
    """
    try:
        with tarfile.open(archive, "r:gz") as tar:
            members = {Path(m.name).name: tar.extractfile(m) for m in tar.getmembers() if m.isfile()}
            contents = {name: handle.read() for name, handle in members.items() if handle is not None}
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise DataError(f"{archive} is damaged ({error}): expected CIFAR-10's tar.gz") from error
    return partial(_read_member, archive, contents)


def _read_member(archive: Path, contents: dict[str, bytes], name: str) -> bytes:
    if name not in contents:
        raise DataError(f"{archive} holds no file {BATCHES_FOLDER}/{name}")
    return contents[name]


def read_part(read: Callable[[str], bytes], names: list[str], limit: int | None) -> RawImages:
    """The images of several batches, in order, up to the first `limit`.

    Raises:
        DataError: A batch is missing or damaged.
    """
    pixels, labels, count = [], [], 0
    for name in names:
        batch_pixels, batch_labels = _parse(name, read(name))
        pixels.append(batch_pixels)
        labels.append(batch_labels)
        count += len(batch_labels)
        if limit is not None and count >= limit:
            break
    return RawImages(pixels=np.concatenate(pixels)[:limit], labels=np.concatenate(labels)[:limit])


def _parse(name: str, content: bytes) -> tuple[np.ndarray, np.ndarray]:
    try:
        batch = _BatchUnpickler(io.BytesIO(content), encoding="bytes").load()
    except Exception as error:  # a damaged pickle raises nearly anything
        raise DataError(f"{name} is not a CIFAR-10 batch: {error}") from error
    if not isinstance(batch, dict) or b"data" not in batch or b"labels" not in batch:
        raise DataError(f"{name} is not a CIFAR-10 batch: expected a dict with data and labels")
    data, labels = np.asarray(batch[b"data"]), np.asarray(batch[b"labels"], dtype=np.int64)
    if data.dtype != np.uint8 or data.ndim != 2 or data.shape[1] != _ROW or len(data) != len(labels):
        raise DataError(
            f"{name} is not a CIFAR-10 batch: data is {data.dtype} {list(data.shape)} with {len(labels)} labels, "
            f"expected uint8 [n, {_ROW}] with n labels"
        )
    return data.reshape(-1, 3, 32, 32), labels
