"""Which run folder a study goes on in: the unfinished one of the same study, or a new one.

A run goes on only where its remaining steps compute the bits that they would have computed: with the same study, the
same code, libraries, processor and number of threads. A folder that a process is at work in is left alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import torch

from lowbit_sim.study.config import Study
from lowbit_sim.study.environment import deciding, environment
from lowbit_sim.study.errors import StudyError
from lowbit_sim.study.run_files import STUDY_FILE, run_files
from lowbit_sim.study.run_folder import LAYOUT, RunFolder
from lowbit_sim.training.device import CPU, device_name


def unfinished_run(
    out: Path, study: Study, data: str, tell: Callable[[str], None], device: torch.device = CPU
) -> RunFolder | None:
    """The newest run of a study on a device, if it is unfinished and can go on here; else None.

    Args:
        out: The folder of the run folders.
        study: The study, resolved.
        data: Description of its data set.
        tell: Told why an unfinished run of the study is not taken up, and of damaged folders of other studies.
        device: What the study is to train on.

    Raises:
        StudyError: The run to go on is damaged; the message names the file.
    """
    files = run_files(study)
    runs = (each for each in _newest_first(out) if _is_run_of(each, study, files, tell))
    folder = next((each for each in runs if _device(each) == device_name(device)), None)
    if folder is None:
        return None
    if folder.status == "completed":
        folder.remove_checkpoints()  # which a kill right after the end has left
        return None
    reason = why_not(folder, files, data, device)
    if reason is None:
        _require_whole(folder)
        return folder
    tell(f"{folder.path} is an unfinished run of this study, but can't be continued: {reason}; starting anew")
    return None


def named_run(path: Path, study: Study, data: str, device: torch.device = CPU) -> RunFolder:
    """The run folder of a path, to go on in.

    Raises:
        StudyError: It is none or is damaged, or its run has ended or can't go on with this study here.
    """
    folder = RunFolder(path=path)
    if not (path / STUDY_FILE).is_file() or not (path / "environment.json").is_file():
        raise StudyError(
            f"{path} is no run folder of lowbit-sim compare: it has no study.toml and environment.json"
        )
    if folder.status == "completed":
        raise StudyError(f"the study in {path} has run to its end: there is nothing to continue")
    reason = why_not(folder, run_files(study), data, device)
    if reason is not None:
        raise StudyError(f"can't continue {path}: {reason}; run the study without --resume to start anew")
    _require_whole(folder)
    return folder


def _require_whole(folder: RunFolder) -> None:
    try:
        folder.require_whole()
    except StudyError as error:
        raise _damaged(folder, error) from None


def _damaged(folder: RunFolder, error: StudyError) -> StudyError:
    """A damaged run of the study may hold hours of work, so the user decides what becomes of it."""
    return StudyError(f"can't continue {folder.path}: {error}; put it back, or start anew with --fresh")


def why_not(folder: RunFolder, files: dict[str, bytes], data: str, device: torch.device = CPU) -> str | None:
    """Why a run can't go on with a study's files here, or None if it can.

    Raises:
        StudyError: Its environment.json can't be read.
    """
    try:
        known = folder.environment()
    except StudyError as error:
        raise _damaged(folder, error) from None
    if known.get("layout") != LAYOUT:
        return "it was written by another version of lowbit-sim, whose run folders are laid out differently"
    differ = [name for name, content in files.items() if _content(folder.path / name) != content]
    if differ:
        return f"it is a run of another study: {differ[0]} differs"
    kept, now = deciding(known), deciding(environment(datetime.now(UTC), device))
    both = [key for key in now if key in kept]
    changed = [f"the {key} was {kept[key]} and is {now[key]}" for key in both if kept[key] != now[key]]
    was = _recorded_data(folder)
    if was is not None and was != data:
        changed.append(f"the data were {was} and are {data}")
    return "; ".join(changed) + ", so that the results would be of neither" if changed else None


def _newest_first(out: Path) -> Iterator[RunFolder]:
    """The run folders in a folder: their names begin with the time."""
    folders = (
        (path for path in out.iterdir() if (path / "environment.json").is_file()) if out.is_dir() else ()
    )
    for path in sorted(folders, key=lambda path: path.name, reverse=True):
        yield RunFolder(path=path)


def _is_run_of(folder: RunFolder, study: Study, files: dict[str, bytes], tell: Callable[[str], None]) -> bool:
    """Whether a folder holds a run of the study; of another layout, by the study's title.

    Raises:
        StudyError: It does and has not ended, but its environment.json is damaged.
    """
    is_same = all(_content(folder.path / name) == content for name, content in files.items())
    try:
        known = folder.environment()
    except StudyError as error:
        if is_same and folder.status != "completed":
            raise _damaged(folder, error) from None
        tell(f"{error}; the run folder is passed over")
        return False
    if known.get("layout") != LAYOUT:
        title = f"title = {json.dumps(study.title, ensure_ascii=False)}\n"
        return title.encode() in _content(folder.path / STUDY_FILE)
    return is_same


def _device(folder: RunFolder) -> str:
    """What a run trained on; runs of before that was recorded are the CPU's."""
    return str(folder.environment().get("device", "cpu"))


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _recorded_data(folder: RunFolder) -> str | None:
    try:
        return json.loads((folder.path / "result.json").read_text(encoding="utf-8"))["data"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
