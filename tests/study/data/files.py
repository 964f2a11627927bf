"""Writers of tiny data files in the formats that the readers read."""

import gzip
import io
import pickle
import struct
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image


def random_pixels(count: int, *shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)


def idx_bytes(array: np.ndarray) -> bytes:
    return bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def write_idx_set(
    folder: Path,
    images: np.ndarray,
    labels: np.ndarray,
    *,
    prefix: str = "",
    test: str = "t10k",
    gz: bool = True,
) -> None:
    """The same images as training and as test part."""
    folder.mkdir(parents=True, exist_ok=True)
    for part in ("train", test):
        for array, kind in ((images, "images-idx3-ubyte"), (labels, "labels-idx1-ubyte")):
            content = idx_bytes(array.astype(np.uint8))
            path = folder / f"{prefix}{part}-{kind}{'.gz' if gz else ''}"
            path.write_bytes(gzip.compress(content) if gz else content)


def encoded(pixels: np.ndarray, kind: str) -> bytes:
    """An image [3, H, W] as a file's bytes."""
    buffer = io.BytesIO()
    Image.fromarray(pixels.transpose(1, 2, 0)).save(buffer, kind)
    return buffer.getvalue()


def write_parquet(path: Path, images: np.ndarray, labels: list[int], *, kind: str = "PNG") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [{"bytes": encoded(image, kind), "path": f"{i}.png"} for i, image in enumerate(images)]
    pq.write_table(pa.table({"img": rows, "label": labels}), path)


def batch_bytes(pixels: np.ndarray, labels: list[int], *, protocol: int = 2) -> bytes:
    content: dict[bytes, Any] = {b"data": pixels.reshape(len(pixels), -1), b"labels": labels}
    return pickle.dumps(content, protocol=protocol)


def cifar_batches(pixels: np.ndarray, labels: list[int]) -> dict[str, bytes]:
    """Five training batches with the images dealt in order, and the test batch with all of them."""
    fifths = np.array_split(np.arange(len(pixels)), 5)
    files = {
        f"data_batch_{i}": batch_bytes(pixels[part], [labels[j] for j in part])
        for i, part in enumerate(fifths, start=1)
    }
    return {**files, "test_batch": batch_bytes(pixels, labels)}


def write_batches_folder(root: Path, pixels: np.ndarray, labels: list[int]) -> Path:
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    for name, content in cifar_batches(pixels, labels).items():
        (folder / name).write_bytes(content)
    return folder


def write_batches_archive(root: Path, pixels: np.ndarray, labels: list[int]) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    path = root / "cifar-10-python.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        for name, content in cifar_batches(pixels, labels).items():
            member = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path
