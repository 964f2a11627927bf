import gzip
from pathlib import Path

import numpy as np
import pytest

from lowbit_sim.study.data.dataset import DataError
from lowbit_sim.study.data.idx import EMNIST_BALANCED, FASHION_MNIST, MNIST, IdxSet, load_idx, read_idx
from tests.study.data.files import idx_bytes, random_pixels, write_idx_set

IMAGES = random_pixels(6, 5, 5)
LABELS = np.arange(6)


@pytest.mark.parametrize("gz", [True, False])
@pytest.mark.parametrize(
    ("source", "folder", "names"),
    [
        (MNIST, "mnist", {}),
        (MNIST, ".", {}),
        (MNIST, "MNIST/raw", {}),
        (FASHION_MNIST, "FashionMNIST/raw", {}),
        (EMNIST_BALANCED, "gzip", {"prefix": "emnist-balanced-", "test": "test"}),
    ],
    ids=lambda v: v.name if isinstance(v, IdxSet) else str(v),
)
def test_a_set_is_read_from_its_usual_folders(tmp_path, source, folder, names, gz):
    write_idx_set(tmp_path / folder, IMAGES, LABELS, gz=gz, **names)
    data = load_idx(source, tmp_path)
    assert (data.name, data.classes) == (source.name, source.classes)
    assert data.train.inputs.shape == (6, 1, 5, 5)
    assert data.test.targets.tolist() == list(range(6))
    # Normalising keeps the order of the pixels' values.
    assert (
        data.train.inputs.flatten().argsort(stable=True).numpy() == IMAGES.flatten().argsort(kind="stable")
    ).all()


def test_names_with_dots_are_found_too(tmp_path):
    write_idx_set(tmp_path, IMAGES, LABELS, gz=False)
    for path in list(tmp_path.iterdir()):
        path.rename(path.with_name(path.name.replace("-idx", ".idx")))
    assert len(load_idx(MNIST, tmp_path).train) == 6


def test_limits_keep_the_first_images(tmp_path):
    write_idx_set(tmp_path, IMAGES, LABELS)
    data = load_idx(MNIST, tmp_path, limit=4, test_limit=2)
    assert data.train.targets.tolist() == [0, 1, 2, 3]
    assert data.test.targets.tolist() == [0, 1]


def test_a_missing_file_is_named_with_the_places_looked_in(tmp_path):
    with pytest.raises(
        DataError, match=r"mnist: no file train-images-idx3-ubyte \(or .gz\) in any of .*MNIST/raw"
    ):
        load_idx(MNIST, tmp_path)


def test_as_many_labels_as_images(tmp_path):
    write_idx_set(tmp_path, IMAGES, LABELS[:5])
    with pytest.raises(DataError, match="holds 6 images but .* 5 labels"):
        load_idx(MNIST, tmp_path)


def test_no_images_at_all(tmp_path):
    write_idx_set(tmp_path, IMAGES[:0], LABELS[:0])
    with pytest.raises(DataError, match=r"holds no pixels: its axes are \[0, 5, 5\]"):
        load_idx(MNIST, tmp_path)


def damaged(tmp_path: Path, content: bytes, name: str = "images") -> Path:
    path = tmp_path / name
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", r"starts with bytes \(none\), expected 00 00 08 03"),
        (idx_bytes(IMAGES)[:10], "starts with bytes 00 00 08 03"),
        (idx_bytes(LABELS.astype(np.uint8)), "starts with bytes 00 00 08 01, expected 00 00 08 03"),
        (idx_bytes(IMAGES)[:-1], r"truncated or damaged: .*\[6, 5, 5\] and so 150 bytes, it holds 149"),
        (idx_bytes(IMAGES) + b"x", "it holds 151"),
        (b"<html>Not found</html>" * 3, "starts with bytes 3c 68 74 6d"),
    ],
)
def test_a_damaged_file_is_named_with_what_is_wrong(tmp_path, content, expected):
    path = damaged(tmp_path, content)
    with pytest.raises(DataError, match=f"{path}.*{expected}"):
        read_idx(path, axes=3)


@pytest.mark.parametrize(
    "content",
    [
        gzip.compress(idx_bytes(IMAGES), mtime=0)[:-9],
        b"not gzip",
        gzip.compress(b"x", mtime=0)[:12] + b"\xff\xff\xff\xff\xff",
    ],
    ids=["cut off", "not gzip", "body destroyed"],
)
def test_a_damaged_gzip_file_is_named(tmp_path, content):
    path = damaged(tmp_path, content, "images.gz")
    with pytest.raises(DataError, match=f"{path} is damaged or can't be read .*expected an IDX file"):
        read_idx(path, axes=3)
