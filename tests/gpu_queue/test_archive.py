import tarfile
from pathlib import Path

import pytest

from benchmarks.gpu import archive
from benchmarks.gpu.archive import write_archive


def test_records_and_small_states_are_packed_and_what_is_left_out_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(archive, "LARGEST_BYTES", 10)
    sizes = {
        "experiments/records/gpu/a.json": 10,
        "runs/gpu/x/checkpoints/arm.safetensors": 5,
        "runs/gpu/data/cifar10.safetensors": 11,
        "runs/other": 1,
    }
    for name, size in sizes.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x" * size)
    write_archive(tmp_path / "out" / "all.tar.gz", tmp_path)
    with tarfile.open(tmp_path / "out" / "all.tar.gz") as packed:
        assert packed.getnames() == list(sizes)[:2]
    told = capsys.readouterr().out
    assert "too large, left out: runs/gpu/data/cifar10.safetensors" in told
    assert "arm.safetensors" not in told


def test_there_may_be_nothing_yet(tmp_path: Path):
    write_archive(tmp_path / "all.tar.gz", tmp_path)
    with tarfile.open(tmp_path / "all.tar.gz") as packed:
        assert packed.getnames() == []
