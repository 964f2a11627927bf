import pickle

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lowbit_sim.study.data.cifar import load_cifar10
from lowbit_sim.study.data.dataset import DataError, Dataset
from tests.study.data.files import (
    batch_bytes,
    encoded,
    random_pixels,
    write_batches_archive,
    write_batches_folder,
    write_parquet,
)

PIXELS = random_pixels(10, 3, 32, 32)
LABELS = [3, 1, 4, 1, 5, 9, 2, 6, 5, 0]


def assert_is_the_set(data: Dataset, description: str = "CIFAR-10") -> None:
    assert (data.name, data.description, data.classes) == ("cifar10", description, 10)
    for part in (data.train, data.test):
        assert part.targets.tolist() == LABELS
        assert part.inputs.shape == (10, 3, 32, 32)
    # Channels are red, green, blue in this order, rows before columns.
    means = PIXELS.astype(np.float64).mean(axis=(0, 2, 3), keepdims=True)
    deviations = PIXELS.astype(np.float64).std(axis=(0, 2, 3), keepdims=True)
    np.testing.assert_allclose(data.train.inputs.numpy(), (PIXELS - means) / deviations, atol=1e-5)


def write_both_parquets(folder, kind="PNG"):
    for part in ("train", "test"):
        write_parquet(folder / f"{part}-00000-of-00001.parquet", PIXELS, LABELS, kind=kind)


@pytest.mark.parametrize("subfolder", [".", "cifar10", "cifar-10"])
def test_the_official_folder(tmp_path, subfolder):
    write_batches_folder(tmp_path / subfolder, PIXELS, LABELS)
    assert_is_the_set(load_cifar10(tmp_path))


def test_the_official_folder_itself_as_the_root(tmp_path):
    assert_is_the_set(load_cifar10(write_batches_folder(tmp_path, PIXELS, LABELS)))


@pytest.mark.parametrize("subfolder", [".", "cifar10"])
def test_the_official_archive(tmp_path, subfolder):
    write_batches_archive(tmp_path / subfolder, PIXELS, LABELS)
    assert_is_the_set(load_cifar10(tmp_path))


@pytest.mark.parametrize("subfolder", [".", "cifar10", "cifar10/plain_text", "cifar10-png"])
def test_hugging_face_parquet(tmp_path, subfolder):
    write_both_parquets(tmp_path / subfolder)
    assert_is_the_set(load_cifar10(tmp_path))


def test_several_parquet_files_in_order(tmp_path):
    write_parquet(tmp_path / "train-00000-of-00002.parquet", PIXELS[:6], LABELS[:6])
    write_parquet(tmp_path / "train-00001-of-00002.parquet", PIXELS[6:], LABELS[6:])
    write_parquet(tmp_path / "test-00000-of-00001.parquet", PIXELS, LABELS)
    assert_is_the_set(load_cifar10(tmp_path))
    assert load_cifar10(tmp_path, limit=8).train.targets.tolist() == LABELS[:8]


def test_jpeg_images_are_said_to_be_re_encoded(tmp_path):
    write_both_parquets(tmp_path, kind="JPEG")
    data = load_cifar10(tmp_path)
    assert data.description == "CIFAR-10 (JPEG re-encoded)"
    assert data.train.targets.tolist() == LABELS


def test_originals_are_preferred_to_re_encoded_images(tmp_path):
    write_both_parquets(tmp_path / "cifar10-jpeg", kind="JPEG")
    write_batches_folder(tmp_path, PIXELS, LABELS)
    assert load_cifar10(tmp_path).description == "CIFAR-10"


@pytest.mark.parametrize("write", [write_batches_folder, write_batches_archive])
def test_limits_keep_the_first_images(tmp_path, write):
    write(tmp_path, PIXELS, LABELS)
    data = load_cifar10(tmp_path, limit=3, test_limit=2)
    assert data.train.targets.tolist() == LABELS[:3]
    assert data.test.targets.tolist() == LABELS[:2]


def test_nothing_there_says_what_was_looked_for(tmp_path):
    (tmp_path / "cifar100").mkdir()
    with pytest.raises(
        DataError, match=r"none of cifar-10-batches-py/, cifar-10-python.tar.gz, train-\*.parquet in"
    ):
        load_cifar10(tmp_path)


def test_cifar_100_is_not_mistaken_for_it(tmp_path):
    write_both_parquets(tmp_path / "cifar100")
    with pytest.raises(DataError, match="none of"):
        load_cifar10(tmp_path)


def test_a_missing_batch_is_named(tmp_path):
    folder = write_batches_folder(tmp_path, PIXELS, LABELS)
    (folder / "data_batch_3").unlink()
    with pytest.raises(DataError, match="data_batch_3 can't be read"):
        load_cifar10(tmp_path)


class Attack:
    def __reduce__(self):
        return (print, ("this pickle ran code",))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (batch_bytes(PIXELS, LABELS)[:-50], "data_batch_1 is not a CIFAR-10 batch"),
        (b"", "data_batch_1 is not a CIFAR-10 batch"),
        (pickle.dumps([1, 2]), "expected a dict with data and labels"),
        (pickle.dumps({b"labels": [1]}), "expected a dict with data and labels"),
        (
            batch_bytes(PIXELS[:, :, :16], LABELS),
            r"data is uint8 \[10, 1536\] with 10 labels, expected uint8",
        ),
        (batch_bytes(PIXELS, LABELS[:4]), r"\[10, 3072\] with 4 labels"),
        (pickle.dumps(Attack()), "it names builtins.print, which no CIFAR-10 batch does"),
    ],
)
def test_a_damaged_batch_is_named(tmp_path, capsys, content, expected):
    folder = write_batches_folder(tmp_path, PIXELS, LABELS)
    (folder / "data_batch_1").write_bytes(content)
    with pytest.raises(DataError, match=expected):
        load_cifar10(tmp_path)
    assert "this pickle ran code" not in capsys.readouterr().out


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_batches_of_every_pickle_protocol(tmp_path, protocol):
    folder = write_batches_folder(tmp_path, PIXELS, LABELS)
    (folder / "test_batch").write_bytes(batch_bytes(PIXELS, LABELS, protocol=protocol))
    assert_is_the_set(load_cifar10(tmp_path))


def test_a_truncated_archive_is_named(tmp_path):
    path = write_batches_archive(tmp_path, PIXELS, LABELS)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(DataError, match="cifar-10-python.tar.gz is damaged"):
        load_cifar10(tmp_path)


def test_an_archive_of_something_else_is_named(tmp_path):
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(b"<html>")
    with pytest.raises(DataError, match="cifar-10-python.tar.gz is damaged"):
        load_cifar10(tmp_path)


def rewrite(path, table):
    pq.write_table(pa.table(table), path)


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (lambda p: p.write_bytes(p.read_bytes()[:-9]), "damaged or not parquet"),
        (lambda p: p.write_bytes(b"PAR1"), "damaged or not parquet"),
        (
            lambda p: rewrite(p, {"image": [b"x"], "label": [1]}),
            r"expected columns img \{bytes, path\} and label",
        ),
        (lambda p: rewrite(p, {"img": [b"x"], "label": [1]}), "holds rows without image or label"),
        (
            lambda p: rewrite(p, {"img": [{"bytes": b"GIF89a"}], "label": [1]}),
            "row 0 holds no readable image",
        ),
        (
            lambda p: rewrite(p, {"img": [{"bytes": encoded(PIXELS[0], "PNG")[:60]}], "label": [1]}),
            "row 0 holds no readable image",
        ),
        (
            lambda p: rewrite(p, {"img": [{"bytes": encoded(PIXELS[0], "PNG")}], "label": [None]}),
            "rows without",
        ),
        (
            lambda p: rewrite(
                p,
                {"img": [{"bytes": encoded(PIXELS[i, :, i:], "PNG")} for i in range(2)], "label": [1, 2]},
            ),
            r"row 1 is \[3, 31, 32\], expected \[3, 32, 32\]",
        ),
        (lambda p: rewrite(p, {"img": [{"bytes": encoded(PIXELS[0], "PNG")}][:0], "label": [1][:0]}), ""),
    ],
)
def test_a_damaged_parquet_file_is_named(tmp_path, damage, expected):
    write_both_parquets(tmp_path)
    damage(tmp_path / "train-00000-of-00001.parquet")
    with pytest.raises(DataError, match=f"train-00000-of-00001.parquet.*{expected}"):
        load_cifar10(tmp_path)


def test_a_training_part_without_a_test_part(tmp_path):
    write_parquet(tmp_path / "train-00000-of-00001.parquet", PIXELS, LABELS)
    with pytest.raises(DataError, match="but no test-"):
        load_cifar10(tmp_path)


def test_labels_of_another_set_are_refused(tmp_path):
    for part in ("train", "test"):
        write_parquet(tmp_path / f"{part}-0.parquet", PIXELS, [*LABELS[:-1], 55])
    with pytest.raises(DataError, match="labels run from 1 to 55, expected 0 to 9"):
        load_cifar10(tmp_path)
