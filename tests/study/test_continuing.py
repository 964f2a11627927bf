"""A study that was stopped goes on as if it had not been: by `kill -9`, by an interrupt, by an error."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lowbit_sim.study.config import Study
from lowbit_sim.study.continuing import named_run, unfinished_run
from lowbit_sim.study.data import load
from lowbit_sim.study.errors import StudyError
from lowbit_sim.study.load_study import load_study, study_toml
from lowbit_sim.study.resolve import resolved
from lowbit_sim.study.run import Outcome, Progress, run_study
from lowbit_sim.study.run_files import run_files, study_digest
from lowbit_sim.study.run_folder import RunFolder, create_run_folder
from tests.study.examples import study

ROOT = Path(__file__).parents[2]

#: What a clock decides.
CLOCK = {"seconds", "seconds_per_step", "time_ratio_to_baseline", "median_step_seconds", "environment"}

#: Arms with every kind of state: running scales, random bits in layers and update, momentum, a recipe that learns.
ARMS: list[dict[str, Any]] = [
    {"name": "fp32", "native": True},
    {
        "name": "int4",
        "format": "int4",
        "scale": "ema",
        "gradient_rounding": {"mode": "stochastic", "random_bits": 8},
        "update": {
            "weight": "bf16",
            "momentum": "bf16",
            "rounding": {"mode": "stochastic", "random_bits": 8},
        },
        "recipes": [{"name": "metagrad"}, {"name": "clip_gradient_norm", "max_norm": 1.0}],
        "training": {"learning_rate": 0.05, "accumulation": 2},
    },
]

SUBJECT = study(arms=ARMS, seeds=[3, 4], training={"epochs": 3, "batch_size": 32, "learning_rate": 0.1})

DATA = load("digits", limit=64, test_limit=50).description


def timeless(value: Any) -> Any:
    """Without what a clock decides."""
    if isinstance(value, dict):
        return {key: timeless(inner) for key, inner in value.items() if key not in CLOCK}
    return [timeless(inner) for inner in value] if isinstance(value, list) else value


def record(folder: Path) -> Any:
    return timeless(json.loads((folder / "result.json").read_text()))


def metrics(folder: Path) -> Any:
    return timeless([json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()])


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory) -> Path:
    return run_study(SUBJECT, out=tmp_path_factory.mktemp("whole")).folder


def assert_same_results(outcome: Outcome, uninterrupted: Path) -> None:
    assert outcome.result.status == "completed"
    assert record(outcome.folder) == record(uninterrupted)
    assert metrics(outcome.folder) == metrics(uninterrupted)
    names = {path.name for path in outcome.folder.iterdir()}
    assert names == {"study.toml", "environment.json", "metrics.jsonl", "result.json"}


#: Runs the study of a file once for each moment, in a process of its own which kills itself there as `kill -9` does.
#: The processes are forked before anything is computed, so that all is imported once.
KILLED = """
import json, os, signal, sys
from pathlib import Path
import sklearn.datasets
import torch._dynamo  # which the first optimiser would import
import lowbit_sim.numerics.kernels, lowbit_sim.ops.counts_kernel
from lowbit_sim.study.load_study import load_study
from lowbit_sim.study.run import run_study

def run_and_die(out, module, path, calls):
    owner, count = sys.modules[module], 0
    *inside, name = path.split(".")
    for part in inside:
        owner = getattr(owner, part)
    original = getattr(owner, name)

    def counted(*arguments, **keywords):
        nonlocal count
        count += 1
        if count == calls:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*arguments, **keywords)

    setattr(owner, name, counted)
    run_study(load_study(Path("study.toml")), out=Path(out))

for out, (module, path, calls, _) in json.loads(sys.argv[1]).items():
    process = os.fork()
    if not process:
        run_and_die(out, module, path, calls)
        os._exit(0)
    _, status = os.waitpid(process, 0)
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL, (out, status)
"""

#: Where it is killed, and how many runs had ended then. A run has 3 epochs of 2 steps; a checkpoint syncs twice.
MOMENTS = {
    "in_the_middle_of_an_epoch": ("lowbit_sim.training.loop", "_Run._step", 22, 3),
    "while_a_checkpoint_takes_its_place": ("lowbit_sim.training.checkpoint", "sync_folder", 8, 2),
    "before_the_result_is_written": ("lowbit_sim.study.run_folder", "RunFolder.write_result", 4, 3),
}


@pytest.fixture(scope="module")
def killed(tmp_path_factory) -> Path:
    """A folder with a folder of runs for each moment, in which the study was killed there."""
    folder = tmp_path_factory.mktemp("killed")
    (folder / "study.toml").write_text(study_toml(SUBJECT))
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", KILLED, json.dumps(MOMENTS)]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize("moment", MOMENTS)
def test_after_kill_9_the_results_are_those_of_an_uninterrupted_run(killed, uninterrupted, moment):
    out = killed / moment
    [folder] = out.iterdir()
    told: list[str] = []
    outcome = run_study(SUBJECT, out=out, tell=told.append)
    assert list(out.iterdir()) == [folder], told
    assert told[0] == f"continuing {folder}: {MOMENTS[moment][3]} of its 4 runs have ended"
    assert_same_results(outcome, uninterrupted)


#: Where the runs below are stopped: two have ended, and the third has one epoch with a checkpoint and one without.
STOP = ("int4", 3, 1)


def stopped(out: Path, error: type[BaseException]) -> Path:
    """The run folder of a study that an error ended."""

    def stop(progress: Progress) -> None:
        if (progress.arm, progress.seed, progress.metrics.epoch) == STOP:
            raise error

    with contextlib.suppress(RuntimeError):
        run_study(SUBJECT, out=out, on_epoch=stop)
    [folder] = out.iterdir()
    return folder


@pytest.fixture(scope="module")
def template(tmp_path_factory) -> Path:
    return stopped(tmp_path_factory.mktemp("stopped"), KeyboardInterrupt)


@pytest.fixture
def interrupted(template, tmp_path) -> Path:
    """A run folder in which the study was interrupted."""
    folder = tmp_path / "runs" / template.name
    shutil.copytree(template, folder)
    return folder


def found(
    out: Path, tell: Callable[[str], None] = lambda text: None, subject: Study = SUBJECT
) -> Path | None:
    """The folder in which a study would go on."""
    folder = unfinished_run(out, resolved(subject), DATA, tell)
    return folder and folder.path


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_after_an_interrupt_or_an_error_the_study_goes_on(tmp_path, uninterrupted, error):
    folder = stopped(tmp_path, error)
    seen: list[tuple[str, int, int]] = []
    told: list[str] = []
    outcome = run_study(
        SUBJECT,
        out=tmp_path,
        on_epoch=lambda p: seen.append((p.arm, p.seed, p.metrics.epoch)),
        tell=told.append,
    )
    assert outcome.folder == folder
    assert told == [
        f"continuing {folder}: 2 of its 4 runs have ended",
        "int4, seed 3: going on after epoch 1",
    ]
    assert seen == [("int4", 3, 1), ("int4", 3, 2), ("int4", 4, 0), ("int4", 4, 1), ("int4", 4, 2)]
    assert len(json.loads((folder / "environment.json").read_text())["continued_utc"]) == 1
    assert_same_results(outcome, uninterrupted)


def test_a_damaged_file_of_a_run_that_ended_is_run_again(interrupted, uninterrupted):
    kept, _ = sorted((interrupted / "checkpoints").glob("*.finished.safetensors"))
    kept.write_bytes(kept.read_bytes()[:-1])
    told: list[str] = []
    outcome = run_study(SUBJECT, out=interrupted.parent, tell=told.append)
    assert any("is cut off or damaged" in text and "run again" in text for text in told)
    assert outcome.folder == interrupted
    assert record(outcome.folder) == record(uninterrupted)


def test_fresh_starts_anew_and_after_a_study_that_ended_so_does_the_next(interrupted):
    fresh = run_study(SUBJECT, out=interrupted.parent, fresh=True).folder
    assert fresh != interrupted
    assert found(interrupted.parent) is None
    shutil.rmtree(fresh)
    assert found(interrupted.parent) == interrupted


def test_a_run_of_another_study_is_left_alone(interrupted):
    told: list[str] = []
    assert found(interrupted.parent, told.append, SUBJECT.model_copy(update={"seeds": (3,)})) is None
    assert told == []
    assert found(interrupted.parent / "absent") is None


def test_the_newest_run_goes_on(interrupted):
    newer = interrupted.with_name("99" + interrupted.name)
    shutil.copytree(interrupted, newer)
    assert found(interrupted.parent) == newer


def test_a_named_folder_goes_on_also_by_its_own_study(interrupted, tmp_path, uninterrupted):
    outcome = run_study(load_study(interrupted / "study.toml"), out=tmp_path / "unused", resume=interrupted)
    assert outcome.folder == interrupted
    assert_same_results(outcome, uninterrupted)
    with pytest.raises(StudyError, match="has run to its end: there is nothing to continue"):
        named_run(interrupted, resolved(SUBJECT), DATA)


def test_copied_profiles_are_the_same_study(tmp_path):
    """A resolved study's own folder gives the same files again."""
    arms = [{"name": "machine", "profile": "rapid_training"}]
    subject = resolved(study(profiles=["tpu_v1", "edge_npu"], arms=arms))
    folder = create_run_folder(tmp_path, subject).path
    assert run_files(load_study(folder / "study.toml")) == run_files(subject)
    assert study_digest(load_study(folder / "study.toml")) == study_digest(subject)
    assert study_digest(subject) != study_digest(resolved(study(profiles=["tpu_v1"], arms=arms)))


def test_what_can_not_be_continued_by_name_says_why(interrupted, tmp_path):
    with pytest.raises(StudyError, match="absent is no run folder"):
        run_study(SUBJECT, out=tmp_path, resume=tmp_path / "absent")
    other = SUBJECT.model_copy(update={"seeds": (3,)})
    with pytest.raises(StudyError, match="it is a run of another study: study.toml differs"):
        run_study(other, out=tmp_path, resume=interrupted)


CHANGES = {
    "code": ("code_sha256", "abc", "the code was abc and is"),
    "torch": ("packages", {"torch": "1.0"}, "the torch was 1.0 and is"),
    "threads": ("torch_threads", 99, "the number of torch threads was 99 and is"),
    "processor": ("processor", "Z80", "the processor was Z80 and is"),
    "layout": ("layout", 1, "another version of lowbit-sim, whose run folders are laid out differently"),
}


@pytest.mark.parametrize(("key", "value", "message"), CHANGES.values(), ids=list(CHANGES))
def test_a_run_of_other_code_or_another_machine_is_never_mixed_in(interrupted, key, value, message):
    known = json.loads((interrupted / "environment.json").read_text())
    (interrupted / "environment.json").write_text(json.dumps({**known, key: value}))
    with pytest.raises(StudyError, match=f"can't continue {interrupted}: .*{message}.*start anew"):
        named_run(interrupted, resolved(SUBJECT), DATA)
    told: list[str] = []
    assert found(interrupted.parent, told.append) is None
    assert "is an unfinished run of this study, but can't be continued" in told[0]
    assert message in told[0]


def test_other_data_are_never_mixed_in(interrupted):
    result = json.loads((interrupted / "result.json").read_text())
    (interrupted / "result.json").write_text(json.dumps({**result, "data": "other images"}))
    with pytest.raises(StudyError, match="the data were other images and are scikit-learn digits"):
        named_run(interrupted, resolved(SUBJECT), DATA)


def test_a_study_that_is_running_is_not_run_twice(interrupted):
    with RunFolder(path=interrupted).locked():
        for arguments in ({}, {"resume": interrupted}):
            with pytest.raises(
                StudyError, match=rf"is running in {interrupted} \(process {os.getpid()}\).*--fresh"
            ):
                run_study(SUBJECT, out=interrupted.parent, **arguments)
    with RunFolder(path=interrupted).locked():
        pass


#: What may stand in an environment.json, and the words for it.
NO_ENVIRONMENT = {
    "cut_off": (b'{"layout": 2, "star', "cut off or damaged"),
    "a_list": (b"[]", "it is not what a run writes there"),
    "packages": (b'{"layout": 2, "packages": []}', "it is not what a run writes there"),
    "no_text": (b"\xff\xfe", "cut off or damaged"),
}


@pytest.mark.parametrize(("content", "why"), NO_ENVIRONMENT.values(), ids=list(NO_ENVIRONMENT))
def test_a_damaged_folder_of_another_study_is_passed_over(interrupted, content, why):
    other = interrupted.with_name("99-other")
    other.mkdir()
    (other / "environment.json").write_bytes(content)
    told: list[str] = []
    assert found(interrupted.parent, told.append) == interrupted
    assert told == [f"can't read {other / 'environment.json'}: {why}; the run folder is passed over"]


@pytest.mark.parametrize(("content", "why"), NO_ENVIRONMENT.values(), ids=list(NO_ENVIRONMENT))
def test_a_damaged_environment_of_the_run_itself_is_named(interrupted, content, why):
    (interrupted / "environment.json").write_bytes(content)
    message = f"can't continue {interrupted}: can't read .*environment.json: {why}; .*--fresh"
    with pytest.raises(StudyError, match=message):
        found(interrupted.parent)
    with pytest.raises(StudyError, match=message):
        named_run(interrupted, resolved(SUBJECT), DATA)


def test_files_that_a_continuation_writes_to_are_asked_for(interrupted):
    (interrupted / "metrics.jsonl").rename(interrupted / "kept.jsonl")
    for go_on in (lambda: found(interrupted.parent), lambda: named_run(interrupted, resolved(SUBJECT), DATA)):
        with pytest.raises(StudyError, match="can't continue .*metrics.jsonl is missing; .*--fresh"):
            go_on()
    (interrupted / "kept.jsonl").rename(interrupted / "metrics.jsonl")
    shutil.rmtree(interrupted / "checkpoints")
    (interrupted / "checkpoints").touch()
    with pytest.raises(StudyError, match="can't continue .*checkpoints is no folder; .*--fresh"):
        found(interrupted.parent)


def test_lines_that_are_no_metrics_are_taken_out(tmp_path):
    folder = RunFolder(path=tmp_path)
    kept = '{"arm": "a", "seed": 0, "epoch": 0}\n'
    (tmp_path / "metrics.jsonl").write_bytes(kept.encode() + b'[]\n{"arm": "a"}\n"\xff"\n{"arm"')
    folder.keep_metrics("a", 0, 1)
    assert (tmp_path / "metrics.jsonl").read_text() == kept


@pytest.mark.parametrize("content", ["[]", '{"data": ', "null"])
def test_a_damaged_result_is_written_anew(interrupted, content):
    (interrupted / "result.json").write_text(content)
    assert found(interrupted.parent) == interrupted


def test_what_a_kill_after_the_end_left_is_cleared_away(uninterrupted, tmp_path):
    folder = tmp_path / "runs" / uninterrupted.name
    shutil.copytree(uninterrupted, folder)
    (folder / "checkpoints").mkdir()
    assert found(folder.parent) is None
    assert not (folder / "checkpoints").exists()
