"""The run folder: everything needed to read, check and repeat a study, readable at any moment.

study.toml          the study with every default; it names the profiles below, so it runs again as it is
profiles/*.toml     every profile used
environment.json    versions, commit, machine, threads, start
metrics.jsonl       one line an epoch, written as it ends
result.json         all results so far and the status; replaced as a whole, never half written
"""

from __future__ import annotations

import json
import math
import os
import platform
import re
import sys
import tomllib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

import hw_models
import lowbit_sim
from hw_models.load import profile_path
from lowbit_sim.config.mac_config import product_files
from lowbit_sim.study.checkout import checkout_state
from lowbit_sim.study.config import Study
from lowbit_sim.study.errors import StudyError
from lowbit_sim.study.load_study import profile_references, renamed_product_files, study_toml, with_profiles
from lowbit_sim.study.results import StudyResult, to_dict
from lowbit_sim.training.loop import EpochMetrics

_PACKAGES = ("lowbit-sim", "torch", "numpy", "numba", "pydantic", "scikit-learn", "pyarrow", "pillow")


@dataclass(frozen=True, kw_only=True)
class RunFolder:
    """A folder that a study writes to."""

    path: Path

    def append_metrics(self, arm: str, seed: int, metrics: EpochMetrics) -> None:
        """Add one line to metrics.jsonl; it is on disk when this returns."""
        line = json.dumps(_plain({"arm": arm, "seed": seed, **asdict(metrics)}), allow_nan=False)
        with (self.path / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(line + "\n")
            file.flush()
            os.fsync(file.fileno())

    def write_result(self, result: StudyResult) -> None:
        """Replace result.json."""
        write_json(self.path / "result.json", self.record(result))

    def record(self, result: StudyResult) -> dict[str, Any]:
        """A result with its study, and the versions and the machine that it holds for: what a claim can cite."""
        ran = tomllib.loads((self.path / "study.toml").read_text(encoding="utf-8"))
        known = json.loads((self.path / "environment.json").read_text(encoding="utf-8"))
        return {**to_dict(result), "study": ran, "environment": known}


def create_run_folder(parent: Path, study: Study) -> RunFolder:
    """Make a new folder `<UTC time>-<title>` with what is known before the first run.

    Args:
        parent: Where the folder is made.
        study: The study, written as it is given: resolve it first.

    Raises:
        StudyError: The folder can't be made.
    """
    now = datetime.now(UTC)
    slug = re.sub(r"[^a-z0-9]+", "-", study.title.lower()).strip("-") or "study"
    try:
        path = _fresh(parent / f"{now:%Y%m%d-%H%M%S}-{slug}")
    except OSError as error:
        raise StudyError(f"can't make a run folder in {parent}: {error}") from error
    products = _Copier(path, "products")
    copies = _copy_profiles(study, path / "profiles", products)
    kept = renamed_product_files(with_profiles(study, copies.__getitem__), products)
    (path / "study.toml").write_text(study_toml(kept), encoding="utf-8")
    (path / "metrics.jsonl").touch()
    write_json(path / "environment.json", environment(now))
    return RunFolder(path=path)


def _fresh(path: Path) -> Path:
    """A folder that did not exist: the path, or the path with a number if two runs start in one second."""
    path.parent.mkdir(parents=True, exist_ok=True)
    candidate, number = path, 1
    while True:
        try:
            candidate.mkdir()
            return candidate
        except FileExistsError:
            number += 1
            candidate = path.with_name(f"{path.name}-{number}")


def _copy_profiles(study: Study, folder: Path, products: Callable[[str], str]) -> dict[str, str]:
    """Copy each profile that a study names; its name in the copied study by the name it has now."""
    copies: dict[str, str] = {}
    for _, name in profile_references(study):
        if name in copies:
            continue
        folder.mkdir(exist_ok=True)
        stem, number = Path(name).name.removesuffix(".toml"), 1
        while f"profiles/{stem}.toml" in copies.values():
            number += 1
            stem = f"{Path(name).name.removesuffix('.toml')}-{number}"
        (folder / f"{stem}.toml").write_text(_with_copied_products(name, products), encoding="utf-8")
        copies[name] = f"profiles/{stem}.toml"
    return copies


def _with_copied_products(name: str, products: Callable[[str], str]) -> str:
    """A profile's text that names copies of its files of products, from a folder beside theirs."""
    text, folder = profile_text(name), profile_path(name).parent
    for file in dict.fromkeys(product_files(tomllib.loads(text))):
        copy = f"../{products(str(folder / file))}"
        text = text.replace(f'"{file}"', f'"{copy}"').replace(f"'{file}'", f"'{copy}'")
    return text


class _Copier:
    """Copies each file that it is called with into a folder of the run's, once, and returns its path from there."""

    def __init__(self, run: Path, folder: str) -> None:
        self.run, self.folder, self.copies = run, folder, dict[str, str]()

    def __call__(self, file: str) -> str:
        if file not in self.copies:
            source = Path(file)
            (self.run / self.folder).mkdir(exist_ok=True)
            name, number = f"{self.folder}/{source.name}", 1
            while name in self.copies.values():
                number += 1
                name = f"{self.folder}/{source.stem}-{number}{source.suffix}"
            (self.run / name).write_bytes(source.read_bytes())
            self.copies[file] = name
        return self.copies[file]


def profile_text(name: str) -> str:
    """The TOML text of a profile: the file of a path, or the packaged one of a name."""
    return profile_path(name).read_text(encoding="utf-8")


def environment(started: datetime) -> dict[str, Any]:
    """Versions and machine: what another person needs to know to compare figures."""
    return {
        "started_utc": started.isoformat(timespec="seconds"),
        "python": sys.version.split()[0],
        "packages": {name: _version(name) for name in _PACKAGES},
        **checkout_state(Path(__file__), [_folder(lowbit_sim), _folder(hw_models)]),
        "platform": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "logical_cores": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
    }


def _folder(package: ModuleType) -> Path:
    return Path(str(package.__file__)).parent


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed as a package"


def _processor() -> str:
    """The processor's name; Linux keeps it in a file, where `platform` does not look."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor() or platform.machine()
    match = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return match.group(1) if match else platform.machine()


def require_writable(path: Path) -> None:
    """Find out before hours of work whether `write_text` will be able to write a file; leaves no trace.

    Raises:
        StudyError: It will not.
    """
    if path.is_dir():
        raise StudyError(f"can't write {path}: it is a folder; expected a file's name")
    partial = _partial(path)
    try:
        partial.touch()
        partial.unlink()
    except OSError as error:
        raise cannot_write(path, error) from error


def cannot_write(path: Path, error: OSError) -> StudyError:
    """The error of a file that the system refuses, by the file's own name and without the system's number."""
    if not path.parent.exists():
        return StudyError(f"can't write {path}: there is no folder {path.parent}; make it or name another")
    return StudyError(f"can't write {path}: {error.strerror or error}")


def _partial(path: Path) -> Path:
    """Where a file is written before it takes its place."""
    return path.with_name(path.name + ".partial")


def write_json(path: Path, value: Any) -> None:
    """Write a value as JSON, whole or not at all.

    Raises:
        StudyError: The file can't be written.
    """
    write_text(path, json.dumps(_plain(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a text, whole or not at all.

    Raises:
        StudyError: The file can't be written.
    """
    partial = _partial(path)
    try:
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        raise cannot_write(path, error) from error


def _plain(value: Any) -> Any:
    """Numbers that JSON has no spelling for (a loss that is infinite) as null."""
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
