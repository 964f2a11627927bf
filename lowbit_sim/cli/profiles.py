"""`lowbit-sim profiles`: list, show, check and start machine profiles."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lowbit_sim.cli.app import USER_ERROR, JsonFile, output

profiles_app = typer.Typer(help="List, show, check and start machine profiles.", no_args_is_help=True)

#: Exit code of `check --strict` for a profile with warnings alone.
HAS_WARNINGS = 1


@profiles_app.command("list", epilog="Example: lowbit-sim profiles list")
def list_profiles() -> None:
    """List the profiles that come with the package, and what each was compared with."""
    import hw_models
    from hw_models.show import list_table

    output().print(list_table([hw_models.load(name) for name in hw_models.profile_names()]))


@profiles_app.command("show", epilog="Example: lowbit-sim profiles show tpu_v1")
def show_profile(
    name: Annotated[str, typer.Argument(metavar="NAME|FILE", help="A profile's name or file.")],
    toml: Annotated[bool, typer.Option("--toml", help="Print the profile's TOML instead.")] = False,
    json: JsonFile = None,
) -> None:
    """Show a machine: peak rates, efficiency, balance, memories, numerics, and where its numbers come from."""
    import hw_models
    from hw_models.show import machine_tables
    from hw_models.summary import summary
    from lowbit_sim.study.records import profile_text, write_json

    profile = hw_models.load(name)
    if toml:
        typer.echo(profile_text(name), nl=False)
        return
    machine = summary(profile)
    output().print(machine_tables(machine))
    if json is not None:
        write_json(json, machine.to_dict())


@profiles_app.command("check", epilog="Example: lowbit-sim profiles check my_machine.toml --strict")
def check_profile(
    file: Annotated[str, typer.Argument(metavar="FILE|NAME", help="A profile's file or name.")],
    strict: Annotated[
        bool, typer.Option("--strict", help=f"Exit with code {HAS_WARNINGS} if there are warnings.")
    ] = False,
) -> None:
    """Say what is wrong or inconsistent in a profile, with the file, the line and the key of each.

    Exits with code 2 if there are errors; warnings alone are told and pass.
    """
    from hw_models.check import check
    from hw_models.load import profile_path, profile_toml
    from lowbit_sim.study.quantities import counted

    path = profile_path(file)
    findings = check(profile_toml(path), path.parent)
    console = output()
    for finding in findings:
        style = "red" if finding.severity == "error" else "yellow"
        where, _, message = finding.at(str(path)).partition(": ")
        console.print(
            f"{where}: {finding.severity}: {message}",
            style=style,
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
    errors = sum(finding.severity == "error" for finding in findings)
    warnings = len(findings) - errors
    told = (
        f"{counted(errors, 'error')} and {counted(warnings, 'warning')}"
        if findings
        else "a valid profile, and nothing to remark"
    )
    console.print(f"{path}: {told}", markup=False, highlight=False, soft_wrap=True)
    if errors:
        raise typer.Exit(USER_ERROR)
    if warnings and strict:
        raise typer.Exit(HAS_WARNINGS)


@profiles_app.command(
    "schema", epilog="Example: lowbit-sim profiles schema --out lowbit-sim-profile.schema.json"
)
def schema(
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write it into a file; by default it is printed.")
    ] = None,
) -> None:
    """Print the JSON schema of profiles, with which editors complete and check the TOML."""
    from hw_models.json_schema import json_schema_text

    if out is None:
        typer.echo(json_schema_text(), nl=False)
        return
    _write(out, json_schema_text(), "w")
    typer.echo(f"Wrote {out}. Editors with Taplo take it from a profile's first line: #:schema ./{out.name}")


@profiles_app.command("new", epilog="Example: lowbit-sim profiles new my_machine")
def new_profile(name: Annotated[str, typer.Argument(help="Name of the new machine.")]) -> None:
    """Write NAME.toml: every key with its meaning and an example value, to be edited."""
    import hw_models

    try:
        text = hw_models.template(name)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    path = Path(f"{name}.toml")
    try:
        _write(path, text, "x")
    except FileExistsError:
        raise typer.BadParameter(f"{path} exists already: choose another name or remove it") from None
    typer.echo(f"Wrote {path}. Edit it, then: lowbit-sim profiles check {path}")


def _write(path: Path, text: str, mode: str) -> None:
    """Write a text file.

    Raises:
        FileExistsError: In mode "x", a file that is there already.
        StudyError: A file that can't be written.
    """
    from lowbit_sim.study.records import cannot_write

    try:
        with path.open(mode, encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise
    except OSError as error:
        raise cannot_write(path, error) from None
