"""`lowbit-sim report`: the tables and plots of studies that have run, from their records."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lowbit_sim.cli.app import output

if TYPE_CHECKING:
    from lowbit_sim.study.results import ArmResult, StudyResult

EXAMPLE = "lowbit-sim report runs/20261121-150400-digits --plot digits.html --measurement test_accuracy"

_PAGE_SUFFIXES = (".html", ".htm")
_PLOT_SUFFIXES = (*_PAGE_SUFFIXES, ".svg", ".pdf", ".png")


def report(
    records: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="RECORD...", help="Run folders, their result.json, or what compare --json wrote."
        ),
    ] = None,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Tables in Markdown, a line an arm, to paste or to pipe.")
    ] = False,
    columns: Annotated[
        str | None,
        typer.Option(metavar="A,B,...", help="Columns of the Markdown table; a wrong one lists the known."),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write measurements over the epochs, mean and band: a page (.html) or a picture (.svg, .pdf, .png).",
        ),
    ] = None,
    measurement: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="What is plotted: a recipe's measurement, train_loss, test_accuracy, ... Repeatable.",
        ),
    ] = None,
    arms: Annotated[
        list[str] | None,
        typer.Option("--arms", metavar="NAME", help="Show this arm of each record. Repeatable."),
    ] = None,
    update: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.md", help="Rewrite the tables between marks in a page from the records beside it."
        ),
    ] = None,
) -> None:
    """Show what studies found, from the records of their runs: nothing is run again."""
    _check_options(records, markdown, columns, plot, measurement, update)
    if update is not None:
        _update(update)
    from lowbit_sim.study.recorded import read_result

    results = [_some_arms(read_result(path), arms or []) for path in records or ()]
    for result in results:
        _print(result, markdown, [name.strip() for name in (columns or "").split(",") if name.strip()])
    if plot is not None:
        _plot(plot, results, measurement or [])


def _some_arms(result: StudyResult, names: list[str]) -> StudyResult:
    """A record with the arms that were named; its baseline stays what the others are compared with."""
    from dataclasses import replace

    from lowbit_sim.numerics.suggest import unknown
    from lowbit_sim.study.errors import StudyError

    known = [arm.name for arm in result.arms]
    for name in names:
        if name not in known:
            raise StudyError(unknown("arm", name, known))
    kept = [arm for arm in result.arms if not names or arm.name in names or arm is result.baseline]
    return replace(result, arms=tuple(kept))


def _check_options(
    records: list[Path] | None,
    markdown: bool,
    columns: str | None,
    plot: Path | None,
    measurement: list[str] | None,
    update: Path | None,
) -> None:
    """Refuse what would have no effect."""
    if not records and update is None:
        raise typer.BadParameter("name a run folder or a record, or a page with --update")
    if columns and not markdown:
        raise typer.BadParameter("--columns are those of the Markdown table: add --markdown")
    if measurement and plot is None:
        raise typer.BadParameter("--measurement names what is plotted: add --plot FILE")
    if plot is not None and not records:
        raise typer.BadParameter("--plot needs a run folder or a record")
    if plot is not None and not plot.parent.is_dir():
        raise typer.BadParameter(f"--plot {plot}: there is no folder {plot.parent}")
    if plot is not None and plot.suffix not in _PLOT_SUFFIXES:
        raise typer.BadParameter(
            f"--plot {plot}: the name should end in .html for a page, or in .svg, .pdf or .png for a picture"
        )


def _print(result: StudyResult, markdown: bool, columns: list[str]) -> None:
    from lowbit_sim.study.markdown_table import markdown_table
    from lowbit_sim.study.report import study_table

    if markdown:
        typer.echo(markdown_table(result, columns))
    else:
        output().print(study_table(result))


def _plot(path: Path, results: list[StudyResult], names: list[str]) -> None:
    from lowbit_sim.study.records import write_text
    from lowbit_sim.study.trajectory_picture import trajectory_picture
    from lowbit_sim.study.trajectory_plot import trajectory_html

    title = ", ".join(dict.fromkeys(result.title for result in results))
    arms = _labelled_arms(results)
    if path.suffix in _PAGE_SUFFIXES:
        write_text(path, trajectory_html(title, arms, names))
    else:
        path.write_bytes(trajectory_picture(title, arms, names, format=path.suffix.removeprefix(".")))
    typer.echo(f"Plot: {path}")


def _labelled_arms(results: list[StudyResult]) -> dict[str, ArmResult]:
    """Every arm by its name; with several records behind its study's title, and a number where that is not enough."""
    from lowbit_sim.training.recipe import numbered

    named = (
        (arm.name if len(results) == 1 else f"{result.title}: {arm.name}", arm)
        for result in results
        for arm in result.arms
    )
    return numbered(named, "{name} ({number})")


def _update(page: Path) -> None:
    """Rewrite a page's tables and say whether any has changed."""
    from lowbit_sim.study.errors import StudyError
    from lowbit_sim.study.markdown_table import has_tables, updated_page
    from lowbit_sim.study.records import write_text

    try:
        text = page.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text in UTF-8"
        raise StudyError(f"can't read the page {page}: {why}") from None
    if not has_tables(text):
        raise StudyError(
            f"{page} has no place for a table: mark one with <!-- NAME --> and <!-- end of NAME --> on lines of "
            "their own, for the record records/NAME.json beside the page"
        )
    fresh = updated_page(text, page.parent)
    if fresh == text:
        typer.echo(f"{page}: every table is that of its record")
        return
    write_text(page, fresh)
    typer.echo(f"{page}: tables rewritten from the records")
