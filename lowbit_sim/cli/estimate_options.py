"""The options of `lowbit-sim estimate` together: which of them go with which, and what is wrong with them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import typer

#: Which figure the mappings are chosen by, and a sweep is sorted by.
OBJECTIVES = ("cycles", "energy", "edp")

#: What a roofline is written as, by its file's ending.
ROOFLINE_ENDINGS = (".html", ".csv")

#: What is priced, and how it is asked for.
SOURCES = {"--model": "NAME", "--gemm": "M,N,K", "--workload": "FILE", "--record": "FILE.json"}

#: The sources that an option has an effect on, where that is not all of them.
_GOES_WITH = {
    "--data-shape": ("--model",),
    "--classes": ("--model",),
    "--forward-only": ("--model", "--workload"),
    "--batch": ("--model", "--workload"),
    "--format": ("--model", "--gemm", "--workload"),
    "--sweep": ("--model", "--gemm", "--workload"),
    "--per-layer": ("--model", "--gemm", "--workload"),
    "--roofline": ("--model", "--gemm", "--workload"),
    "--accuracy": ("--record",),
    "--data-root": ("--record",),
}

#: What one machine is looked at with, and many are not.
_OF_ONE_MACHINE = ("--per-layer", "--roofline")


@dataclass(frozen=True, kw_only=True)
class Options:
    """What was given on the command line; None, False or [] is what was not."""

    profile: str | None
    model: str | None
    gemm: str | None
    workload: Path | None
    forward_only: bool
    batch: int | None
    data_shape: str | None
    classes: int | None
    format: str | None
    objective: str | None
    devices: int | None
    sweep: list[str] | None
    per_layer: bool
    csv: Path | None
    roofline: Path | None
    json: Path | None
    record: Path | None
    accuracy: float | None
    data_root: Path | None

    def given(self, option: str) -> bool:
        """Whether an option, such as "--data-root", was given."""
        value = getattr(self, option.removeprefix("--").replace("-", "_"))
        return value is not None and value is not False and value != []


def checked(options: Options) -> str:
    """What is priced, such as "--model", once all options are known to fit it and one another.

    Raises:
        typer.BadParameter: They do not; the message names them and what would be right.
        StudyError: A file can't be written.
    """
    from lowbit_sim.study.records import require_writable

    what = _only_source(options)
    _refuse_beside(what, [o for o, sources in _GOES_WITH.items() if what not in sources], options)
    if options.given("--sweep"):
        _refuse_beside("--sweep", _OF_ONE_MACHINE, options)
    if what == "--record":
        _check_record(options)
    elif options.profile is None:
        raise typer.BadParameter("name the machine: --profile NAME|FILE (lowbit-sim profiles list)")
    _check_values(options)
    for path in (options.csv, options.roofline, options.json):
        if path is not None:
            require_writable(path)
    return what


def _only_source(options: Options) -> str:
    given = [option for option in SOURCES if options.given(option)]
    if len(given) != 1:
        *others, last = (f"{option} {metavar}" for option, metavar in SOURCES.items())
        got = f"; got {' and '.join(given)}" if given else ""
        raise typer.BadParameter(f"give one of {', '.join(others)} or {last}{got}")
    return given[0]


def _refuse_beside(chosen: str, without_effect: list[str] | tuple[str, ...], options: Options) -> None:
    """Options that would be left without effect are errors."""
    given = [option for option in without_effect if options.given(option)]
    if given:
        verb, them = ("has", "it") if len(given) == 1 else ("have", "them")
        raise typer.BadParameter(f"{' and '.join(given)} {verb} no effect beside {chosen}: leave {them} out")


def _check_record(options: Options) -> None:
    """A record's costs are what they are; on a machine that is named its steps are priced anew."""
    given = [o for o in ("--objective", "--devices", "--data-root") if options.given(o)]
    if given and options.profile is None:
        raise typer.BadParameter(
            f"{' and '.join(given)} beside --record: name the machine too (--profile NAME|FILE), on which the steps "
            "are priced anew; the record's own costs can't change"
        )
    if options.accuracy is None:
        raise typer.BadParameter("--record goes with --accuracy PERCENT, such as --accuracy 97")


def _check_values(options: Options) -> None:
    roofline, objective = options.roofline, options.objective
    if roofline is not None and roofline.suffix.lower() not in ROOFLINE_ENDINGS:
        raise typer.BadParameter(
            f"--roofline writes a page (.html) or its points (.csv): name it so, got {roofline}"
        )
    if objective not in (None, *OBJECTIVES):
        raise typer.BadParameter(f"--objective is one of {', '.join(OBJECTIVES)}; got {objective!r}")


def three(text: str, what: str) -> tuple[int, int, int]:
    """Three sizes with commas between.

    Args:
        text: What was given.
        what: The option and its form, as in "--gemm M,N,K".

    Raises:
        typer.BadParameter: It is something else.
    """
    parts = text.split(",")
    if len(parts) != 3 or not all(part.strip().isdecimal() and int(part) >= 1 for part in parts):
        raise typer.BadParameter(
            f"{what} is three whole numbers, each at least 1, with commas between; got {text!r}"
        )
    first, second, third = map(int, parts)
    return first, second, third
