"""A run's state at the end of an epoch, in a file from which the run goes on bit for bit.

    model and emulation (random steps, running scales), optimiser, recipes, random generators, metrics so far

The file before it is kept as `<name>.previous` until the next epoch: where the newest one is cut off or damaged, the
run goes on from there. A checkpoint says what it belongs to; under anything else it is refused, as a run that changed
its arithmetic, data or torch half-way would be no run of either.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lowbit_sim.training.state_file import StateFileError, read_state, sync_folder, write_state

_KIND = "lowbit-sim checkpoint 1"


class CheckpointError(ValueError):
    """A checkpoint that belongs to another run; the message says in what they differ."""


def _nothing(*_: Any) -> None:
    """Nobody is told."""


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """Where a run keeps its state, and whether it goes on from there.

    Args:
        path: The file. Its folder exists.
        identity: What the run is, in words, beyond what the loop knows itself (settings, sizes, versions):
            for example the study, the arm and the data.
        on_resume: Called once before the first step, with the number of epochs that the run already has.
        on_saved: Called when the state of an epoch is on the disk; what it raises ends the run there.
        on_refused: Called with the reason for each file that was left out as cut off or damaged.
    """

    path: Path
    identity: Mapping[str, str] = field(default_factory=dict)
    on_resume: Callable[[int], None] = _nothing
    on_saved: Callable[[], None] = _nothing
    on_refused: Callable[[str], None] = _nothing

    @property
    def previous(self) -> Path:
        """The file of the epoch before."""
        return self.path.with_name(f"{self.path.name}.previous")

    def save(self, state: dict[str, Any], identity: Mapping[str, str]) -> None:
        """Write a state in the place of the newest one, which becomes the previous one.

        Args:
            state: As `state_file.write_state` takes it.
            identity: What the run is.
        """
        fresh = self.path.with_name(f"{self.path.name}.next")
        write_state(fresh, {"identity": dict(identity), "state": state}, kind=_KIND)
        if self.path.exists():
            os.replace(self.path, self.previous)
        os.replace(fresh, self.path)
        sync_folder(self.path.parent)
        self.on_saved()

    def load(self, identity: Mapping[str, str]) -> dict[str, Any] | None:
        """The newest state that is whole; None where there is none.

        Args:
            identity: What the run is.

        Raises:
            CheckpointError: The state of another run.
        """
        for path in (self.path, self.previous):
            try:
                kept = read_state(path, kind=_KIND)
            except FileNotFoundError:
                continue
            except StateFileError as error:
                self.on_refused(str(error))
                continue
            _check_same(path, kept["identity"], identity)
            return kept["state"]
        return None

    def remove(self) -> None:
        """Delete the files of the run."""
        for path in (self.path, self.previous):
            path.unlink(missing_ok=True)


def _check_same(path: Path, kept: Mapping[str, str], wanted: Mapping[str, str]) -> None:
    """Raise CheckpointError where a checkpoint's run is not the one that is to go on."""
    differ = [
        f"its {key} is {kept.get(key, 'not known')}, this run's {wanted.get(key, 'not known')}"
        for key in dict.fromkeys([*wanted, *kept])
        if kept.get(key) != wanted.get(key)
    ]
    if differ:
        raise CheckpointError(f"the checkpoint {path} belongs to another run: {'; '.join(differ)}")
