"""The run folder of a hypernetwork study: that of `study.run_folder`, with other contents.

study.toml           the study with every default; it names the profiles below, so it runs again as it is
profiles/*.toml      every profile used
environment.json     versions, commit, machine, threads, start
metrics.jsonl        one line an epoch of a hypernetwork's training, written as it ends
result.json          all results so far and the status; replaced as a whole, never half written
hypernetworks/       the trained hypernetworks, one file an arm and seed

and, until the study has run to the end, lock and checkpoints/.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from lowbit_sim.ghn.metrics import MetaEpoch
from lowbit_sim.study.continuing import why_not
from lowbit_sim.study.environment import environment
from lowbit_sim.study.errors import StudyError
from lowbit_sim.study.ghn.config import GhnStudy
from lowbit_sim.study.ghn.load import ghn_study_toml, with_profiles
from lowbit_sim.study.ghn.results import GhnResult, to_dict
from lowbit_sim.study.records import plain, profile_text, write_json
from lowbit_sim.study.run_files import STUDY_FILE
from lowbit_sim.study.run_folder import LAYOUT, RunFolder
from lowbit_sim.training.device import device_name


@dataclass(frozen=True, kw_only=True)
class GhnFolder:
    """A run folder.

    Attributes:
        base: What it shares with other studies' folders: its lock, its environment, its checkpoints' places.
    """

    base: RunFolder

    @property
    def path(self) -> Path:
        """The folder."""
        return self.base.path

    def append_metrics(self, arm: str, seed: int, epoch: MetaEpoch) -> None:
        """Add one line to metrics.jsonl."""
        line = json.dumps(plain({"arm": arm, "seed": seed, **asdict(epoch)}), allow_nan=False)
        with (self.path / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    def record(self, result: GhnResult) -> dict[str, Any]:
        """A result with its study, and the versions and the machine that it holds for."""
        ran = tomllib.loads((self.path / STUDY_FILE).read_text(encoding="utf-8"))
        return {**to_dict(result), "study": ran, "environment": self.base.environment()}

    def write_result(self, result: GhnResult) -> None:
        """Replace result.json."""
        write_json(self.path / "result.json", self.record(result))

    def hypernetwork_path(self, arm: int, seed: int) -> Path:
        """Where a trained hypernetwork is kept, by the arm's number in the study."""
        folder = self.path / "hypernetworks"
        folder.mkdir(exist_ok=True)
        return folder / f"arm{arm}-seed{seed}.safetensors"


def study_files(study: GhnStudy) -> dict[str, bytes]:
    """What a run folder holds of a study: `study.toml`, and copies of the profiles that it then names."""
    copies: dict[str, str] = {}
    for number, name in enumerate(study.profiles):
        stem = Path(name).name.removesuffix(".toml")
        taken = f"profiles/{stem}.toml" in copies.values()
        copies[name] = f"profiles/{stem}-{number}.toml" if taken else f"profiles/{stem}.toml"
    files = {copy: profile_text(name).encode() for name, copy in copies.items()}
    return {STUDY_FILE: ghn_study_toml(with_profiles(study, copies.__getitem__)).encode(), **files}


def create_folder(parent: Path, study: GhnStudy, device: torch.device) -> GhnFolder:
    """Make a new folder `<UTC time>-<title>` with what is known before the first run.

    Raises:
        StudyError: The folder can't be made.
    """
    now = datetime.now(UTC)
    slug = re.sub(r"[^a-z0-9]+", "-", study.title.lower()).strip("-") or "study"
    try:
        path = _fresh(parent, f"{now:%Y%m%d-%H%M%S}-{slug}")
    except OSError as error:
        raise StudyError(f"can't make a run folder in {parent}: {error}") from error
    for name, content in study_files(study).items():
        (path / name).parent.mkdir(exist_ok=True)
        (path / name).write_bytes(content)
    (path / "metrics.jsonl").touch()
    write_json(path / "environment.json", {"layout": LAYOUT, **environment(now, device)})
    return GhnFolder(base=RunFolder(path=path))


def _fresh(parent: Path, name: str) -> Path:
    """A folder that did not exist; with a number behind its name if two runs start in one second."""
    parent.mkdir(parents=True, exist_ok=True)
    for number in range(1, 1000):
        path = parent / (name if number == 1 else f"{name}-{number}")
        try:
            path.mkdir()
            return path
        except FileExistsError:
            continue
    raise OSError(f"there are too many folders {name}")


def folder_to_continue(
    out: Path,
    study: GhnStudy,
    data: str,
    device: torch.device,
    tell: Callable[[str], None],
    named: Path | None = None,
) -> GhnFolder | None:
    """The folder of an unfinished run of a study that can go on here; None to start anew.

    Args:
        out: The folder of the run folders.
        study: The study.
        data: Description of its data set.
        device: What it is to run on.
        tell: Told why an unfinished run is not taken up.
        named: The folder to go on in, in place of one found in `out`.

    Raises:
        StudyError: The named folder can't be continued, or the one found is damaged.
    """
    files = study_files(study)
    if named is not None:
        reason = _why_not(RunFolder(path=named), files, data, device)
        if reason is not None:
            raise StudyError(
                f"can't continue {named}: {reason}; run the study without --resume to start anew"
            )
        return GhnFolder(base=RunFolder(path=named))
    folder = next((each for each in _newest_first(out) if _is_of(each, files, device)), None)
    if folder is None or folder.status == "completed":
        return None
    reason = _why_not(folder, files, data, device)
    if reason is None:
        return GhnFolder(base=folder)
    tell(f"{folder.path} is an unfinished run of this study, but can't be continued: {reason}; starting anew")
    return None


def _why_not(folder: RunFolder, files: dict[str, bytes], data: str, device: torch.device) -> str | None:
    if not (folder.path / STUDY_FILE).is_file() or not (folder.path / "environment.json").is_file():
        return "it is no run folder: it has no study.toml and environment.json"
    if folder.status == "completed":
        return "the study in it has run to its end"
    reason = why_not(folder, files, data, device)
    if reason is None:
        folder.require_whole()
    return reason


def _newest_first(out: Path) -> Iterator[RunFolder]:
    found = [path for path in out.iterdir() if (path / STUDY_FILE).is_file()] if out.is_dir() else []
    for path in sorted(found, key=lambda path: path.name, reverse=True):
        yield RunFolder(path=path)


def _is_of(folder: RunFolder, files: dict[str, bytes], device: torch.device) -> bool:
    """Whether a folder holds a run of the study on the device."""
    try:
        same = all((folder.path / name).read_bytes() == content for name, content in files.items())
        return same and folder.environment().get("device", "cpu") == device_name(device)
    except (OSError, StudyError):
        return False
