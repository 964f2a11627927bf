"""`lowbit-sim validate`: the cost model against published figures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lowbit_sim.cli.app import JsonFile, output

EXAMPLE = "lowbit-sim validate gemmini eyeriss --points"


def validate(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME]...", help="Comparisons, as gemmini or tpu; all of them by default."),
    ] = None,
    points: Annotated[
        bool, typer.Option("--points", help="Show every point in place of statistics.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE.md", help="Write the comparisons as a Markdown page.")
    ] = None,
    json: JsonFile = None,
) -> None:
    """Compare the cost model with published silicon, RTL and other tools, and show each point's error.

    The profiles that come with the package are run on the workloads of the publications.
    """
    from hw_models.validation.document import console_tables, markdown
    from hw_models.validation.table import to_json
    from lowbit_sim.study.records import cannot_write, write_json
    from lowbit_sim.study.validation import comparisons

    try:
        chosen = comparisons(names)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    if out is not None:
        try:
            out.write_text(markdown(chosen), encoding="utf-8")
        except OSError as error:
            raise cannot_write(out, error) from None
    if json is not None:
        write_json(json, to_json(chosen))
    console = output()
    for table in console_tables(chosen, every_point=points):
        console.print(table)
