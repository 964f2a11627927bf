import dataclasses
import json
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
import torch

from benchmarks.gpu import __main__ as command
from benchmarks.gpu import runner
from benchmarks.gpu import task as task_module
from benchmarks.gpu.rows import FILE
from benchmarks.gpu.runner import GRACE_SECONDS, listing, run_queue, run_task, start_process
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
        clock, works = lambda: self.now, lambda: None
        return run_queue(tasks, records=records, start=self, clock=clock, **{"preflight": works, **options})


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


def test_the_queue_ends_with_its_time_and_counts_what_a_piece_takes_to_end(tmp_path, capsys):
    processes = Processes([TO_BE_CONTINUED] * 9, takes=100)
    seconds = 200 + GRACE_SECONDS + 50
    code = processes.run(task(in_pieces=True), records=tmp_path, seconds=seconds)
    assert code == TO_BE_CONTINUED
    assert processes.started == [("subject", 100), ("subject", 100), ("subject", 50)]
    assert "subject: left for the next call: no time" in capsys.readouterr().out


def test_a_task_gets_what_is_left_down_to_its_least(tmp_path):
    processes = Processes(takes=60)
    code = processes.run(*(task(name) for name in "abc"), records=tmp_path, seconds=140)
    assert code == TO_BE_CONTINUED
    assert processes.started == [("a", 100), ("b", 80)]  # 20 s are less than a task is worth


def test_no_study_is_started_while_a_benchmark_waits(tmp_path, capsys):
    processes = Processes()
    study = task("study", in_pieces=True, least=1)
    assert processes.run(task("benchmark"), study, records=tmp_path) == 0
    assert processes.started == [("benchmark", 100), ("study", 100)]
    processes.started.clear()
    code = processes.run(task("benchmark", least=100), study, records=tmp_path, seconds=99)
    assert (code, processes.started) == (TO_BE_CONTINUED, [])
    assert "study: left for the next call: others come first" in capsys.readouterr().out


def test_only_what_is_asked_for_is_run(tmp_path):
    processes = Processes()
    assert processes.run(task("a"), task("b"), records=tmp_path, only=["b"]) == 0
    assert processes.started == [("b", 100)]


def test_nothing_is_run_where_the_preflight_fails(tmp_path, capsys):
    processes = Processes()
    code = processes.run(task(), records=tmp_path, preflight=lambda: "numba does not work here: no LLVM")
    assert (code, processes.started) == (1, [])
    assert "nothing was run: numba does not work here" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("record", "runs"),
    [
        ({"complete": True, "limit_s": 40}, False),
        ({"complete": False, "limit_s": 40}, True),
        ({"complete": False, "limit_s": 100}, False),
        ({"complete": False, "limit_s": 100, "ended": "out of time"}, False),
        ({"complete": False, "limit_s": 100, "ended": "failed with code -11"}, True),
    ],
)
def test_a_record_in_part_is_made_again_with_more_time_or_after_a_failure(tmp_path, record, runs):
    (tmp_path / "subject.json").write_text(json.dumps(record))
    processes = Processes()
    processes.run(task(), records=tmp_path)
    assert bool(processes.started) == runs


def test_a_task_that_came_to_a_part_in_less_than_its_time_goes_on(tmp_path, capsys):
    def start(subject: Task, seconds: int) -> int:
        run_task(dataclasses.replace(subject, work=lambda _: dict(PART)), seconds, tmp_path)
        return 0

    options = {"records": tmp_path, "start": start, "preflight": lambda: None}
    assert run_queue([task()], seconds=60, **options) == TO_BE_CONTINUED
    assert "subject: recorded in part, 2 rows failed: goes on with more time" in capsys.readouterr().out
    assert run_queue([task()], **options) == 0


PART = {"environment": {}, "complete": False, "failed_rows": 2, "rows": []}


def test_a_process_that_is_out_of_time_is_ended_with_its_children_and_its_rows_stay(tmp_path, monkeypatch):
    child, script = tmp_path / "child.pid", tmp_path / "task"
    script.write_text(
        f"""#!{sys.executable}
import os, pathlib, subprocess, sys, time
pathlib.Path(os.environ["{FILE}"]).write_text('{{"row": 1}}\\n{{"row":')
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
pathlib.Path({str(child)!r}).write_text(str(child.pid))
time.sleep(600)
"""
    )
    script.chmod(0o755)
    monkeypatch.setattr(runner.sys, "executable", str(script))
    monkeypatch.setattr(runner, "environment", dict)
    assert start_process(task(), 3, tmp_path / "records") is None
    [path] = (tmp_path / "records").iterdir()
    record = json.loads(path.read_text())
    assert record["rows"] == [{"row": 1}]
    assert (record["complete"], record["ended"], record["limit_s"]) == (False, "out of time", 3)
    status = Path(f"/proc/{child.read_text()}/stat")
    assert not status.exists() or status.read_text().split()[2] == "Z"


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
