"""What the commands share: exit codes, the console that tables go to, and the options `--json` and `--data-root`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

INTERRUPTED = 130  # 128 + SIGINT, as shells report it
TO_BE_CONTINUED = 75  # EX_TEMPFAIL: the same command again goes on
USER_ERROR = 2
TABLE_COLUMNS = 100

app = typer.Typer(
    help="Bit-accurate emulation of low-precision training hardware, with its cycles and energy.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)

JsonFile = Annotated[
    Path | None, typer.Option("--json", metavar="FILE", help="Also write the result as JSON.")
]

DataRoot = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Folder of the data sets; by default LOWBIT_DATA.")
]


def output() -> Console:
    """Stdout; into a file or a pipe at the 100 columns that the tables are made for.

    Without emoji: ":100:" in a message is line 100 of a file.
    """
    console = Console(emoji=False)
    if console.is_terminal or "COLUMNS" in os.environ:
        return console
    return Console(width=TABLE_COLUMNS, emoji=False)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"lowbit-sim {version('lowbit-sim')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options that stand before a command."""
