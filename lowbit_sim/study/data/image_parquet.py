"""Images in parquet files as Hugging Face stores them: column img {bytes, path}, column label."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lowbit_sim.study.data.dataset import DataError, RawImages

_EXPECTED = "expected columns img {bytes, path} and label"


def read_parquet(paths: Sequence[Path], limit: int | None) -> tuple[RawImages, set[str]]:
    """The RGB images of several files, in order, up to the first `limit`.

    Args:
        paths: At least one file.
        limit: How many images to decode, or None for all.

    Returns:
        The images, and the encodings that they had ("JPEG", "PNG").

    Raises:
        DataError: A file is damaged, lacks a column, or holds images of different sizes or of another kind.
    """
    images: list[np.ndarray] = []
    labels: list[int] = []
    kinds: set[str] = set()
    for path in paths:
        for row, (content, label) in enumerate(_rows(path, None if limit is None else limit - len(labels))):
            pixels, kind = _decode(path, row, content)
            if images and pixels.shape != images[0].shape:
                raise DataError(
                    f"{path}: row {row} is {list(pixels.shape)}, expected {list(images[0].shape)}"
                )
            images.append(pixels)
            labels.append(label)
            kinds.add(kind)
    if not images:
        raise DataError(f"{paths[0]} holds no images: {_EXPECTED}")
    return RawImages(pixels=np.stack(images), labels=np.asarray(labels, dtype=np.int64)), kinds


def _rows(path: Path, limit: int | None) -> list[tuple[bytes, int]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        columns = pq.read_schema(path).names
        if not {"img", "label"} <= set(columns):
            raise DataError(f"{path} has columns {', '.join(columns)}: {_EXPECTED}")
        table = pq.read_table(path, columns=["img", "label"]).slice(0, limit)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} is damaged or not parquet ({error}): {_EXPECTED}") from error
    images, labels = table.column("img").to_pylist(), table.column("label").to_pylist()
    if any(not isinstance(image, dict) or not image.get("bytes") for image in images) or None in labels:
        raise DataError(f"{path} holds rows without image or label: {_EXPECTED}")
    return [(image["bytes"], label) for image, label in zip(images, labels, strict=True)]


def _decode(path: Path, row: int, content: bytes) -> tuple[np.ndarray, str]:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(content), formats=["JPEG", "PNG"]) as image:
            kind = str(image.format)
            pixels = np.asarray(image.convert("RGB"), dtype=np.uint8)  # [H, W, 3]
    except (UnidentifiedImageError, OSError, SyntaxError) as error:  # Pillow's PNG reader raises SyntaxError
        raise DataError(
            f"{path}: row {row} holds no readable image ({error}): expected JPEG or PNG"
        ) from error
    return pixels.transpose(2, 0, 1), kind
