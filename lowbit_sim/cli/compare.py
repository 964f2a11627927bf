"""`lowbit-sim compare`: train under several arithmetics and compare."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from lowbit_sim.cli.app import INTERRUPTED, TO_BE_CONTINUED, DataRoot, JsonFile, output

if TYPE_CHECKING:
    from lowbit_sim.study.config import Study
    from lowbit_sim.study.run import Outcome

EXAMPLE = "lowbit-sim compare --profile edge_npu --profile my_machine.toml --seeds 3"


def compare(
    study: Annotated[
        Path | None,
        typer.Argument(metavar="[STUDY.toml]", help="The study; by default the packaged one on digits."),
    ] = None,
    data: Annotated[
        str | None, typer.Option(metavar="NAME", help="Another data set than the study's.")
    ] = None,
    profile: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME|FILE", help="Machines to price on, in place of the study's. Repeatable."),
    ] = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="Run seeds 0 to N - 1.")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Another number of epochs.")] = None,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the run folder is made.")] = Path("runs"),
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Start anew, also where an unfinished run of the study is.")
    ] = False,
    resume: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Continue this run folder; its own study, if none is named."),
    ] = None,
    arms: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Run this arm; the others can be run later. Repeatable."),
    ] = None,
    device: Annotated[str, typer.Option(metavar="cpu|cuda", help="What to train on.")] = "cpu",
    seconds: Annotated[
        float | None,
        typer.Option(
            min=0,
            help=f"Stop at the first epoch's end after so many seconds, with exit status {TO_BE_CONTINUED}.",
        ),
    ] = None,
    data_root: DataRoot = None,
    json: JsonFile = None,
) -> None:
    """Train one model under several arithmetics and compare accuracy, speed and the cost on machines.

    A study that was stopped goes on when it is run again: its unfinished run folder is found, the runs that ended are
    kept, and the others come out as they would have without the stop.
    """
    from lowbit_sim.study.load_study import load_study
    from lowbit_sim.study.records import require_writable
    from lowbit_sim.training.device import DeviceError, find_device

    if fresh and resume is not None:
        raise typer.BadParameter("--fresh starts anew and --resume continues: give one of them")
    try:
        where = {"device": find_device(device), "arms": arms or None, "time_limit_s": seconds}
    except DeviceError as error:
        raise typer.BadParameter(str(error), param_hint="--device") from None
    if json is not None:
        require_writable(json)
    try:
        chosen = _overridden(load_study(_study_file(study, resume)), data, profile, seeds, epochs)
        outcome = _run_with_progress(
            chosen, out=out, data_root=data_root, fresh=fresh, resume=resume, **where
        )
    except KeyboardInterrupt:  # before the first run, when there is nothing to show
        raise typer.Exit(INTERRUPTED) from None
    _show(outcome, json)
    for line in _renderings(outcome, study, json):
        typer.echo(line)
    if outcome.result.status == "interrupted":
        raise typer.Exit(TO_BE_CONTINUED if outcome.out_of_time else INTERRUPTED)


def _study_file(study: Path | None, resume: Path | None) -> Path:
    from lowbit_sim.study.load_study import default_study_path

    if study is not None:
        return study
    return default_study_path() if resume is None else resume / "study.toml"


def _overridden(
    study: Study, data: str | None, profiles: list[str] | None, seeds: int | None, epochs: int | None
) -> Study:
    """The study with the command line's values in place of its own, checked like a file's."""
    from lowbit_sim.study.load_study import parse_study

    table = study.model_dump(exclude_none=True)
    if data is not None:
        table["data"]["name"] = data
    if profiles:
        table["profiles"] = profiles
    if seeds is not None:
        table["seeds"] = list(range(seeds))
    if epochs is not None:
        table["training"]["epochs"] = epochs
        for arm in table["arms"]:
            arm.get("training", {}).pop("epochs", None)
    return parse_study(table, "command line", Path())


def _run_with_progress(study: Study, **where: Any) -> Outcome:
    """Run a study under a progress bar on stderr, which stays quiet where that is no terminal.

    Args:
        study: The study.
        where: What `run_study` is told about folders, the device, the arms and the time.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from lowbit_sim.study.run import Progress as EpochEnd
    from lowbit_sim.study.run import run_study

    console = Console(stderr=True, emoji=False)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bar:
        total = len(study.seeds) * sum(study.training_of(arm).epochs for arm in study.arms)
        task = bar.add_task(f"{study.title}: preparing", total=total)

        def on_epoch(end: EpochEnd) -> None:
            accuracy = f"{100 * end.metrics.test_accuracy:.1f} %"
            done = _epochs_done(study, end.arm, end.seed, end.metrics.epoch)
            text = f"{end.arm}, seed {end.seed}, epoch {end.metrics.epoch + 1}: test accuracy {accuracy}"
            bar.update(task, completed=done, description=text)

        def tell(text: str) -> None:
            console.print(text, markup=False, highlight=False, soft_wrap=True)

        return run_study(study, on_epoch=on_epoch, tell=tell, **where)


def _epochs_done(study: Study, arm: str, seed: int, epoch: int) -> int:
    """Epochs up to and with this one, also counting those that a diverged run left out."""
    number = [each.name for each in study.arms].index(arm)
    epochs = [study.training_of(each).epochs for each in study.arms]
    return len(study.seeds) * sum(epochs[:number]) + study.seeds.index(seed) * epochs[number] + epoch + 1


def _state(outcome: Outcome) -> str:
    """What the run folder's path is introduced by."""
    if outcome.out_of_time:
        return "Out of time; run the same command again to continue:"
    if outcome.result.status == "interrupted":
        return "Interrupted; run the same command again to continue:"
    return "Run folder:"


def _renderings(outcome: Outcome, study: Path | None, json: Path | None) -> Iterator[str]:
    """The commands that render the record of a study that ended: as Markdown, and in the page beside its file."""
    from lowbit_sim.study.markdown_table import has_table

    if outcome.result.status != "completed":
        return
    yield f"As Markdown: lowbit-sim report {quote(str(outcome.folder))} --markdown"
    if study is None or not has_table(study.parent / "README.md", study.stem):
        return
    record = study.parent / "records" / f"{study.stem}.json"
    copy = f"cp {quote(str(outcome.folder / 'result.json'))} {quote(str(record))} && "
    page = quote(str(study.parent / "README.md"))
    yield f"In {page}: {'' if json == record else copy}lowbit-sim report --update {page}"


def _show(outcome: Outcome, json: Path | None) -> None:
    from lowbit_sim.study.records import write_json
    from lowbit_sim.study.report import study_table
    from lowbit_sim.study.run_folder import RunFolder

    console = output()
    console.print(study_table(outcome.result))
    console.print(f"{_state(outcome)} {outcome.folder}", markup=False, highlight=False, soft_wrap=True)
    if json is not None:
        write_json(json, RunFolder(path=outcome.folder).record(outcome.result))
