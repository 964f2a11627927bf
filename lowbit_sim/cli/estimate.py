"""`lowbit-sim estimate`: what work costs on a machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lowbit_sim.cli.app import JsonFile

if TYPE_CHECKING:
    from lowbit_sim.study.workload_source import WorkloadSource

EXAMPLE = """lowbit-sim estimate --profile tpu_v1 --model resnet20 --batch 128

Sweep: lowbit-sim estimate --profile edge_npu --gemm 512,512,512 --sweep array.rows=8,16,32 --csv sweep.csv"""

#: Which figure the mappings are chosen by, and a sweep is sorted by.
OBJECTIVES = ("cycles", "energy", "edp")

#: What a roofline is written as, by its file's ending.
ROOFLINE_ENDINGS = (".html", ".csv")

_WHAT, _HOW, _OUT, _TRAINING = "What is priced", "How", "Output", "Training to an accuracy"


def estimate(
    profile: Annotated[
        str | None, typer.Option(metavar="NAME|FILE", help="The machine; may be left out with --record.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="A training step of this model.", rich_help_panel=_WHAT),
    ] = None,
    gemm: Annotated[
        str | None, typer.Option(metavar="M,N,K", help="One GEMM.", rich_help_panel=_WHAT)
    ] = None,
    workload: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="A file's layers: ONNX (.onnx), SCALE-Sim topology or list of GEMMs (.csv, .toml).",
            rich_help_panel=_WHAT,
        ),
    ] = None,
    forward_only: Annotated[
        bool,
        typer.Option("--forward-only", help="Of a file, no backward pass.", rich_help_panel=_WHAT),
    ] = False,
    batch: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Images in a model's step (32), or that a file's layers run at once.",
            rich_help_panel=_WHAT,
        ),
    ] = None,
    data_shape: Annotated[
        str | None,
        typer.Option(
            metavar="C,H,W",
            help="Shape of a model's image: 3,32,32, or 3,224,224 of those for ImageNet.",
            rich_help_panel=_WHAT,
        ),
    ] = None,
    classes: Annotated[
        int | None, typer.Option(metavar="N", help="Its classes: 10, or 1000.", rich_help_panel=_WHAT)
    ] = None,
    format: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Operands' format (or fp32), in place of the machine's.",
            rich_help_panel=_WHAT,
        ),
    ] = None,
    objective: Annotated[
        str | None,
        typer.Option(
            metavar="|".join(OBJECTIVES),
            help="What mappings are chosen for and a sweep is sorted by: cycles, energy or their product.",
            rich_help_panel=_HOW,
        ),
    ] = None,
    devices: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Machines that train together, each with such a batch; those of a record share its batch.",
            rich_help_panel=_HOW,
        ),
    ] = None,
    sweep: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=V,V,...",
            help="Price it for other values of a key, such as memory.sram.kib=64,128. Repeatable.",
            rich_help_panel=_HOW,
        ),
    ] = None,
    per_layer: Annotated[
        bool,
        typer.Option("--per-layer", help="Also every GEMM: tiles, loop order, bound.", rich_help_panel=_OUT),
    ] = False,
    csv: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write a line for each layer's GEMM, each point of a sweep or each run of a record.",
            rich_help_panel=_OUT,
        ),
    ] = None,
    roofline: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.html|.csv", help="Write a roofline with every GEMM.", rich_help_panel=_OUT
        ),
    ] = None,
    json: JsonFile = None,
    record: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.json",
            help="What compare wrote: time and energy of its arms to --accuracy, on its machines or on --profile.",
            rich_help_panel=_TRAINING,
        ),
    ] = None,
    accuracy: Annotated[
        float | None, typer.Option(metavar="PERCENT", help="With --record.", rich_help_panel=_TRAINING)
    ] = None,
    data_root: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="With --record and --profile: folder of the data sets; by default LOWBIT_DATA.",
            rich_help_panel=_TRAINING,
        ),
    ] = None,
) -> None:
    """Price a model's training step, a GEMM or a file's layers on a machine, or on many.

    Energy is given as its nominal value and as the range that published figures leave open.
    """
    from lowbit_sim.cli import estimating
    from lowbit_sim.study.records import require_writable

    chosen = {"--model": model, "--gemm": gemm, "--workload": workload, "--record": record}
    what = _only_one(chosen)
    model_only = {"--data-shape": data_shape, "--classes": classes}
    views = {"--per-layer": per_layer, "--roofline": roofline}
    if what != "--model":
        _refuse_beside(what, model_only)
    if what != "--workload":
        _refuse_beside(what, {"--forward-only": forward_only})
    if what not in ("--model", "--workload"):
        _refuse_beside(what, {"--batch": batch})
    if what == "--record":
        _refuse_beside(what, {"--format": format, "--sweep": sweep} | views)
        _only_with_profile(profile, {"--objective": objective, "--devices": devices})
    else:
        _refuse_beside(what, {"--accuracy": accuracy, "--data-root": data_root})
    if sweep:
        _refuse_beside("--sweep", views)
    if roofline is not None and roofline.suffix.lower() not in ROOFLINE_ENDINGS:
        raise typer.BadParameter(
            f"--roofline writes a page (.html) or its points (.csv): name it so, got {roofline}"
        )
    if objective not in (None, *OBJECTIVES):
        raise typer.BadParameter(f"--objective is one of {', '.join(OBJECTIVES)}; got {objective!r}")
    for path in (csv, roofline, json):
        if path is not None:
            require_writable(path)
    output = estimating.Output(csv=csv, json=json, roofline=roofline, per_layer=per_layer)
    if record is not None:
        if accuracy is None:
            raise typer.BadParameter("--record goes with --accuracy PERCENT, such as --accuracy 97")
        repricing = profile and estimating.Repricing(
            profile=profile, data_root=data_root, objective=objective or "cycles", devices=devices or 1
        )
        estimating.train_to_accuracy(record, accuracy / 100, repricing or None, output)
        return
    if profile is None:
        raise typer.BadParameter("name the machine: --profile NAME|FILE (lowbit-sim profiles list)")
    source = _source(what, str(chosen[what]), format, forward_only, batch, data_shape, classes)
    question = estimating.Question(
        source=source, profile=profile, objective=objective or "cycles", devices=devices or 1
    )
    if sweep:
        estimating.sweep_machines(question, sweep, output)
    else:
        estimating.price(question, output)


def _only_one(options: dict[str, Any]) -> str:
    given = [option for option, value in options.items() if value is not None]
    if len(given) != 1:
        got = f"; got {' and '.join(given)}" if given else ""
        raise typer.BadParameter(
            f"give one of --model NAME, --gemm M,N,K, --workload FILE or --record FILE.json{got}"
        )
    return given[0]


def _refuse_beside(chosen: str, options: dict[str, Any]) -> None:
    """Options that would be left without effect are errors."""
    given = [option for option, value in options.items() if value not in (None, False, [])]
    if given:
        verb, them = ("has", "it") if len(given) == 1 else ("have", "them")
        raise typer.BadParameter(f"{' and '.join(given)} {verb} no effect beside {chosen}: leave {them} out")


def _only_with_profile(profile: str | None, options: dict[str, Any]) -> None:
    """A record's costs are what they are; on a machine that is named its steps are priced anew."""
    given = [option for option, value in options.items() if value is not None]
    if given and profile is None:
        raise typer.BadParameter(
            f"{' and '.join(given)} beside --record: name the machine too (--profile NAME|FILE), on which the steps "
            "are priced anew; the record's own costs can't change"
        )


def _source(
    what: str,
    value: str,
    format: str | None,
    forward_only: bool,
    batch: int | None,
    data_shape: str | None,
    classes: int | None,
) -> WorkloadSource:
    from lowbit_sim.study import workload_source

    if what == "--gemm":
        return workload_source.gemm(_three(value, "--gemm M,N,K"), format)
    if what == "--workload":
        return workload_source.file(Path(value), format, training=not forward_only, batch=batch)
    shape = None if data_shape is None else _three(data_shape, "--data-shape C,H,W")
    return workload_source.model(value, format, batch=batch, shape=shape, classes=classes)


def _three(text: str, what: str) -> tuple[int, int, int]:
    parts = text.split(",")
    if len(parts) != 3 or not all(part.strip().isdecimal() and int(part) >= 1 for part in parts):
        raise typer.BadParameter(
            f"{what} is three whole numbers, each at least 1, with commas between; got {text!r}"
        )
    first, second, third = map(int, parts)
    return first, second, third
