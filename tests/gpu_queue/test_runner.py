import json
from collections.abc import Iterable
from pathlib import Path

import pytest
import torch

from benchmarks.gpu import __main__ as command
from benchmarks.gpu import task as task_module
from benchmarks.gpu.runner import listing, run_queue, run_task
from benchmarks.gpu.task import TO_BE_CONTINUED, Task


def task(name: str = "subject", **changes) -> Task:
    values = {"summary": "Does nothing.", "seconds": 100, "work": lambda seconds: {"value": seconds}}
    return Task(name=name, **{**values, **changes})


class Processes:
    """Stands for the processes of tasks: gives exit statuses in order, and lets time pass."""

    def __init__(self, codes: Iterable[int | None] = (), takes: float = 0) -> None:
        self.codes, self.takes, self.now = iter(codes), takes, 0.0
        self.started: list[tuple[str, int]] = []

    def __call__(self, task: Task, seconds: int) -> int | None:
        self.started.append((task.name, seconds))
        self.now += self.takes
        return next(self.codes, 0)

    def run(self, *tasks: Task, records: Path, **options) -> int:
        return run_queue(tasks, records=records, start=self, clock=lambda: self.now, **options)


def test_a_recorded_task_is_not_run_again_unless_asked_for(tmp_path, capsys):
    (tmp_path / "subject.json").write_text("{}")
    processes = Processes()
    assert processes.run(task(), task("other"), records=tmp_path) == 0
    assert processes.started == [("other", 100)]
    assert "subject: recorded already" in capsys.readouterr().out
    processes.run(task(), records=tmp_path, again=["subject"])
    assert processes.started[-1] == ("subject", 100)


def test_what_can_not_run_is_skipped_with_the_reason_and_the_others_run(tmp_path, capsys):
    processes = Processes()
    refused = task("refused", refusal=lambda: "no kernel for CUDA yet")
    lacking = task("lacking", needs=("no_such_module",), refusal=pytest.fail)
    assert processes.run(refused, lacking, task(), records=tmp_path) == 0
    assert processes.started == [("subject", 100)]
    told = capsys.readouterr().out
    assert "refused: skipped: not available: no kernel for CUDA yet" in told
    assert "lacking: skipped: needs no_such_module, not installed here" in told


def test_what_every_task_needs_is_asked_for_too(monkeypatch):
    monkeypatch.setattr(task_module, "find_spec", lambda name: None if name in ("PIL", "pyarrow") else 1)
    assert task().why_not() == "needs pyarrow, PIL, not installed here"


def test_a_task_in_pieces_goes_on_until_it_ends(tmp_path):
    processes = Processes([TO_BE_CONTINUED, TO_BE_CONTINUED, 0])
    assert processes.run(task(in_pieces=True), records=tmp_path) == 0
    assert processes.started == [("subject", 100)] * 3


def test_the_queue_ends_with_its_time(tmp_path, capsys):
    processes = Processes([TO_BE_CONTINUED] * 9, takes=100)
    code = processes.run(task(in_pieces=True), task("whole"), records=tmp_path, seconds=250)
    assert code == TO_BE_CONTINUED
    assert processes.started == [("subject", 100), ("subject", 100), ("subject", 50)]
    assert "whole: left for the next call: no time" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("code", "said"), [(3, "subject: failed with code 3"), (None, "subject: out of time")]
)
def test_a_failure_is_told_and_the_queue_goes_on(tmp_path, capsys, code, said):
    processes = Processes([code])
    assert processes.run(task(), task("other"), records=tmp_path) == 1
    assert [name for name, _ in processes.started] == ["subject", "other"]
    assert said in capsys.readouterr().out


def test_a_record_is_written_whole_when_the_work_has_ended(tmp_path):
    subject = task(work=lambda seconds: {"environment": {}, "value": seconds})
    assert run_task(subject, 7, tmp_path)
    [path] = tmp_path.iterdir()
    record = json.loads(path.read_text())
    assert (path.name, record["task"], record["value"]) == ("subject.json", "subject", 7)


def test_a_piece_leaves_no_record(tmp_path):
    assert not run_task(task(work=lambda seconds: None), 7, tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_listing_has_a_state_for_each_task(tmp_path):
    (tmp_path / "done.json").write_text("{}")
    tasks = [task("done"), task("open", in_pieces=True), task("lacking", needs=("no_such_module",))]
    lines = [" ".join(line.split()) for line in listing(tasks, tmp_path).splitlines()]
    assert lines == [
        "done recorded 100 s Does nothing.",
        "open pending 100 s a piece Does nothing.",
        "lacking skipped 100 s Does nothing. (needs no_such_module, not installed here)",
    ]


def test_the_command_lists_the_queue_and_runs_nothing_without_a_device(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert command.main(["--list"]) == 0
    assert "exact_products" in capsys.readouterr().out
    assert command.main([]) == 1
    assert "no CUDA device: nothing was run" in capsys.readouterr().err


def test_the_command_runs_a_piece_and_says_that_there_is_more(monkeypatch, tmp_path):
    seen: list[float] = []
    subject = task(work=seen.append, in_pieces=True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(command, "queue", lambda: {"subject": subject})
    assert command.main(["--task", "subject", "--seconds", "30"]) == TO_BE_CONTINUED
    assert command.main(["--task", "subject"]) == TO_BE_CONTINUED
    assert seen == [30, 100]
