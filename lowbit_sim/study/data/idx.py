"""MNIST and the sets that share its IDX files, plain or gzipped.

    bytes 0-1: zero    byte 2: 0x08 (uint8)    byte 3: number of axes
    then one big-endian uint32 for each axis, then the elements in row-major order

Source: Y. LeCun, C. Cortes and C. Burges, "The MNIST database of handwritten digits", section "File formats".
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lowbit_sim.study.data.dataset import DataError, Dataset, RawImages, normalized

_UINT8 = 0x08


@dataclass(frozen=True, kw_only=True)
class IdxSet:
    """Where a set's four files are and what they hold.

    Attributes:
        name, description, classes: As in `Dataset`.
        folders: Folders under the data root to look in, in order.
        prefix: What the files' names start with.
        test: The word for the test part in the files' names.
    """

    name: str
    description: str
    classes: int
    folders: tuple[str, ...]
    prefix: str = ""
    test: str = "t10k"


MNIST = IdxSet(name="mnist", description="MNIST", classes=10, folders=("mnist", "MNIST/raw", "MNIST", "."))
FASHION_MNIST = IdxSet(
    name="fashion_mnist",
    description="Fashion-MNIST",
    classes=10,
    folders=("fashion_mnist", "fashion-mnist", "FashionMNIST/raw", "FashionMNIST"),
)
EMNIST_BALANCED = IdxSet(
    name="emnist_balanced",
    description="EMNIST Balanced (images transposed, as stored)",
    classes=47,
    folders=("emnist", "EMNIST/raw", "EMNIST", "gzip", "."),
    prefix="emnist-balanced-",
    test="test",
)


def load_idx(
    source: IdxSet, root: Path, *, limit: int | None = None, test_limit: int | None = None
) -> Dataset:
    """Read a set's training and test images.

    Raises:
        DataError: A file is missing, damaged or not what it should be.
    """
    return normalized(
        name=source.name,
        description=source.description,
        train=read_part(source, root, "train", limit),
        test=read_part(source, root, source.test, test_limit),
        classes=source.classes,
    )


def read_part(source: IdxSet, root: Path, part: str, limit: int | None = None) -> RawImages:
    """The images of a part as stored, or the first `limit` of them.

    Args:
        source: The set.
        root: The folder that holds the data sets.
        part: The word for the part in the files' names.
        limit: How many to keep.

    Raises:
        DataError: A file is missing, damaged or not what it should be.
    """
    images_path = _find(source, root, f"{source.prefix}{part}-images", "idx3-ubyte")
    labels_path = _find(source, root, f"{source.prefix}{part}-labels", "idx1-ubyte")
    images, labels = read_idx(images_path, axes=3), read_idx(labels_path, axes=1)
    if len(images) != len(labels):
        raise DataError(f"{images_path} holds {len(images)} images but {labels_path} {len(labels)} labels")
    if not images.size:
        raise DataError(f"{images_path} holds no pixels: its axes are {list(images.shape)}")
    return RawImages(pixels=images[:limit, None], labels=labels[:limit].astype(np.int64))


def _find(source: IdxSet, root: Path, stem: str, kind: str) -> Path:
    names = [f"{stem}{dash}{kind}{gz}" for dash in "-." for gz in ("", ".gz")]
    for folder in source.folders:
        for name in names:
            if (root / folder / name).is_file():
                return root / folder / name
    places = ", ".join(str(root / folder) for folder in source.folders)
    raise DataError(f"{source.name}: no file {names[0]} (or .gz) in any of {places}")


def read_idx(path: Path, *, axes: int) -> np.ndarray:
    """The uint8 array of an IDX file.

    Args:
        path: The file; gzipped if its name ends in .gz.
        axes: Number of axes that it must have.

    Raises:
        DataError: The file can't be read, or its header or length is wrong.
    """
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} is damaged or can't be read ({error}): expected an IDX file") from error
    header = 4 + 4 * axes
    if len(content) < header or content[:4] != bytes((0, 0, _UINT8, axes)):
        raise DataError(
            f"{path} is not an IDX file of uint8 with {axes} axes: it starts with bytes "
            f"{content[:4].hex(' ') or '(none)'}, expected 00 00 08 {axes:02x}"
        )
    shape = struct.unpack(f">{axes}I", content[4:header])
    if len(content) - header != math.prod(shape):
        raise DataError(
            f"{path} is truncated or damaged: its header announces axes {list(shape)} and so "
            f"{math.prod(shape)} bytes, it holds {len(content) - header}"
        )
    return np.frombuffer(content, dtype=np.uint8, offset=header).reshape(shape)
