"""Runs the command line as its tests do."""

import sys

import pytest
from typer.testing import CliRunner

from lowbit_sim import cli

RUNNER = CliRunner()


def invoke(*arguments: str):
    """What a command prints at 100 columns; errors of ours come through as exceptions."""
    return RUNNER.invoke(cli.app, list(arguments), env={"COLUMNS": "100"}, catch_exceptions=False)


def words(result) -> str:
    """All output in one line, without the frames that break sentences."""
    return " ".join(result.output.replace("│", " ").split())


def run_main(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int | str | None:
    """Exit code of `lowbit-sim ARGUMENTS`."""
    monkeypatch.setattr(sys, "argv", ["lowbit-sim", *arguments])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    return caught.value.code
