"""All that is known of a run that ended, in a file: how it went, its epochs' metrics, the times of its steps."""

from __future__ import annotations

from pathlib import Path

from lowbit_sim.training.metrics import TrainingResult
from lowbit_sim.training.run_state import load_progress_state, progress_state
from lowbit_sim.training.state_file import read_state, write_state

_KIND = "lowbit-sim finished run 1"


def write_ended(path: Path, training: TrainingResult) -> None:
    """Keep a run that ended."""
    progress = progress_state(training.epochs, training.step_seconds)
    write_state(path, {"status": training.status, "reason": training.reason, **progress}, kind=_KIND)


def read_ended(path: Path) -> TrainingResult:
    """What `write_ended` kept.

    Raises:
        FileNotFoundError: There is no such file.
        StateFileError: It is cut off or damaged.
    """
    state = read_state(path, kind=_KIND)
    epochs, step_seconds = load_progress_state(state)
    return TrainingResult(
        status=state["status"],
        reason=state["reason"],
        epochs=tuple(epochs),
        step_seconds=tuple(step_seconds),
    )
