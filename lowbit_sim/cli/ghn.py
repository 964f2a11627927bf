"""`lowbit-sim ghn`: graph hypernetworks, which predict the weights of networks that were never trained."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from lowbit_sim.cli.app import INTERRUPTED, TO_BE_CONTINUED, DataRoot, JsonFile, output

if TYPE_CHECKING:
    from lowbit_sim.study.ghn.config import GhnStudy
    from lowbit_sim.study.ghn.run import Outcome
    from lowbit_sim.study.ghn.tables import Table

EXAMPLE = "lowbit-sim ghn run experiments/ghn_digits.toml"

ghn_app = typer.Typer(
    help=f"Graph hypernetworks: train, test and show studies of predicted weights.\n\nExample: {EXAMPLE}",
    no_args_is_help=True,
)

StudyFile = Annotated[Path, typer.Argument(metavar="STUDY.toml", help="The study.")]


@ghn_app.command("run", epilog=f"Example: {EXAMPLE}")
def run(
    study: StudyFile,
    profile: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME|FILE", help="Machines to price on, in place of the study's. Repeatable."),
    ] = None,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the run folder is made.")] = Path("runs"),
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Start anew, also where an unfinished run of the study is.")
    ] = False,
    resume: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Continue this run folder of the study.")
    ] = None,
    arms: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Run this arm; the others can be run later. Repeatable."),
    ] = None,
    device: Annotated[str, typer.Option(metavar="cpu|cuda", help="What to train and test on.")] = "cpu",
    seconds: Annotated[
        float | None,
        typer.Option(
            min=0, help=f"Stop at the first pause after so many seconds, with exit status {TO_BE_CONTINUED}."
        ),
    ] = None,
    data_root: DataRoot = None,
    json: JsonFile = None,
) -> None:
    """Train hypernetworks, test the networks that they predict at several precisions, and price both.

    A study that was stopped, also by kill -9, goes on when it is run again, with the results that it would have had.
    """
    from lowbit_sim.study.ghn.load import load_ghn_study
    from lowbit_sim.study.records import require_writable, write_json
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
        chosen = _priced_on(load_ghn_study(study), study, profile)
        outcome = _run_with_progress(
            chosen, out=out, data_root=data_root, fresh=fresh, resume=resume, **where
        )
    except KeyboardInterrupt:  # before the first run, when there is nothing to show
        raise typer.Exit(INTERRUPTED) from None
    _show(outcome)
    if json is not None:
        write_json(json, outcome.folder.record(outcome.result))
    if outcome.result.status == "interrupted":
        raise typer.Exit(TO_BE_CONTINUED if outcome.out_of_time else INTERRUPTED)


@ghn_app.command(
    "networks", epilog="Example: lowbit-sim ghn networks experiments/ghn_digits.toml --split deep"
)
def networks(
    study: StudyFile,
    split: Annotated[
        str, typer.Option(metavar="NAME", help="A held-out split of the study, or train.")
    ] = "train",
    count: Annotated[int, typer.Option(min=1, help="How many.")] = 10,
    data_root: DataRoot = None,
) -> None:
    """Show the first networks of a split: cells, nodes, parameters and multiply-accumulates of an image."""
    from lowbit_sim.study.ghn.load import load_ghn_study
    from lowbit_sim.study.ghn.networks import networks_table

    _print(networks_table(load_ghn_study(study), split, count, data_root))


@ghn_app.command("report", epilog="Example: lowbit-sim ghn report runs/20261121-223947-ghn-digits --markdown")
def report(
    records: Annotated[
        list[Path],
        typer.Argument(metavar="RECORD...", help="Run folders, their result.json, or what --json wrote."),
    ],
    markdown: Annotated[bool, typer.Option("--markdown", help="Tables in Markdown.")] = False,
) -> None:
    """Show what studies found, from the records of their runs: nothing is run again.

    The tables of a page that names a record between marks are rewritten by lowbit-sim report --update.
    """
    from lowbit_sim.study.ghn.record import read_ghn_result
    from lowbit_sim.study.ghn.tables import markdown as as_markdown
    from lowbit_sim.study.ghn.tables import tables_of

    for table in [table for path in records for table in tables_of(read_ghn_result(path))]:
        if markdown:
            typer.echo(f"{table.title}\n\n{as_markdown(table)}")
        else:
            _print(table)


def _priced_on(study: GhnStudy, path: Path, profiles: list[str] | None) -> GhnStudy:
    """The study with the command line's machines in place of its own, checked like a file's."""
    from lowbit_sim.study.ghn.load import parse_ghn_study

    if not profiles:
        return study
    table = {**study.model_dump(exclude_none=True), "profiles": profiles}
    return parse_ghn_study(table, str(path), Path())


def _run_with_progress(study: GhnStudy, **where: Any) -> Outcome:
    """Run a study under a progress bar on stderr, which stays quiet where that is no terminal.

    Args:
        study: The study.
        where: What `run_ghn_study` is told about folders, the device, the arms and the time.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from lowbit_sim.study.ghn.run import Progress as Done
    from lowbit_sim.study.ghn.run import run_ghn_study

    console = Console(stderr=True, emoji=False)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bar:
        task = bar.add_task(f"{study.title}: preparing", total=None)

        def on_progress(done: Done) -> None:
            bar.update(task, completed=done.done, total=done.total, description=done.text)

        def tell(text: str) -> None:
            console.print(text, markup=False, highlight=False, soft_wrap=True)

        return run_ghn_study(study, on_progress=on_progress, tell=tell, **where)


def _state(outcome: Outcome) -> str:
    """What the run folder's path is introduced by."""
    if outcome.out_of_time:
        return "Out of time; run the same command again to continue:"
    if outcome.result.status == "interrupted":
        return "Interrupted; run the same command again to continue:"
    return "Run folder:"


def _show(outcome: Outcome) -> None:
    from lowbit_sim.study.ghn.tables import tables_of

    for table in tables_of(outcome.result):
        _print(table)
    output().print(f"{_state(outcome)} {outcome.folder.path}", markup=False, highlight=False, soft_wrap=True)


def _print(shown: Table) -> None:
    """A table on the console."""
    from rich.table import Table as RichTable
    from rich.text import Text

    table = RichTable(title=Text(shown.title), header_style="bold")
    for number, heading in enumerate(shown.headings):
        table.add_column(heading, justify="right" if number else "left")
    for row in shown.rows:
        table.add_row(*map(Text, row))
    output().print(table)
