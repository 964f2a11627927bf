"""One file of what the queue left: taken from a machine that is not kept, unpacked where the next call runs.

tar xf FILE     in the root of the repository
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.gpu.task import ROOT, tell

#: Files above this stay behind: a checkpoint of ResNet-20 has 4 MiB, one of VGG-16 225 MiB.
LARGEST_BYTES = 16 << 20

#: What is taken, relative to the root.
_FOLDERS = ("experiments/records/gpu", "runs/gpu")


def write_archive(path: Path, root: Path = ROOT) -> None:
    """Pack the records and the small states of runs; told are the size and what stays behind."""
    path.parent.mkdir(parents=True, exist_ok=True)
    left_out = []
    with tarfile.open(path, "w:gz") as archive:
        for file in _files(root):
            if file.stat().st_size > LARGEST_BYTES:
                left_out.append(file)
            else:
                archive.add(file, arcname=str(file.relative_to(root)))
    tell(f"packed {path}: {path.stat().st_size / 2**20:.1f} MiB")
    for file in left_out:
        tell(f"  too large, left out: {file.relative_to(root)}, {file.stat().st_size / 2**20:.0f} MiB")


def _files(root: Path) -> Iterator[Path]:
    for folder in _FOLDERS:
        yield from sorted(file for file in (root / folder).rglob("*") if file.is_file())
