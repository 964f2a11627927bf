"""`lowbit-sim estimate`: what work costs on a machine."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from lowbit_sim.cli import estimate_options
from lowbit_sim.cli.app import JsonFile
from lowbit_sim.cli.estimate_options import OBJECTIVES

EXAMPLE = """lowbit-sim estimate --profile tpu_v1 --model resnet20 --batch 128

Inference: lowbit-sim estimate --profile tpu_v1 --model resnet20 --forward-only

Sweep: lowbit-sim estimate --profile edge_npu --gemm 512,512,512 --sweep array.rows=8,16,32 --csv sweep.csv"""

_what, _how, _output, _training = (
    partial(typer.Option, rich_help_panel=panel)
    for panel in ("What is priced", "How", "Output", "Training to an accuracy")
)


def estimate(
    profile: Annotated[
        str | None, typer.Option(metavar="NAME|FILE", help="The machine; may be left out with --record.")
    ] = None,
    model: Annotated[
        str | None, _what(metavar="NAME", help="A training step of this model, or its inference.")
    ] = None,
    gemm: Annotated[str | None, _what(metavar="M,N,K", help="One GEMM.")] = None,
    workload: Annotated[
        Path | None,
        _what(
            metavar="FILE",
            help="A file's layers: ONNX (.onnx), SCALE-Sim topology or list of GEMMs (.csv, .toml).",
        ),
    ] = None,
    forward_only: Annotated[
        bool,
        _what("--forward-only", help="Inference in place of training: no backward pass, fixed batch norms."),
    ] = False,
    batch: Annotated[
        int | None,
        _what(
            metavar="N", help="Images that a model takes at once (32), or that a file's layers run at once."
        ),
    ] = None,
    data_shape: Annotated[
        str | None,
        _what(metavar="C,H,W", help="Shape of a model's image: 3,32,32, or 3,224,224 of those for ImageNet."),
    ] = None,
    classes: Annotated[int | None, _what(metavar="N", help="Its classes: 10, or 1000.")] = None,
    format: Annotated[
        str | None, _what(metavar="NAME", help="Operands' format (or fp32), in place of the machine's.")
    ] = None,
    objective: Annotated[
        str | None,
        _how(
            metavar="|".join(OBJECTIVES),
            help="What mappings are chosen for and a sweep is sorted by: cycles, energy or their product.",
        ),
    ] = None,
    devices: Annotated[
        int | None,
        _how(
            min=1,
            help="Machines that train together, each with such a batch; those of a record share its batch.",
        ),
    ] = None,
    sweep: Annotated[
        list[str] | None,
        _how(
            metavar="KEY=V,V,...",
            help="Price it for other values of a key, such as memory.sram.kib=64,128. Repeatable.",
        ),
    ] = None,
    per_layer: Annotated[
        bool, _output("--per-layer", help="Also every GEMM: tiles, loop order, bound.")
    ] = False,
    csv: Annotated[
        Path | None,
        _output(
            metavar="FILE",
            help="Write a line for each layer's GEMM, each point of a sweep or each run of a record.",
        ),
    ] = None,
    roofline: Annotated[
        Path | None, _output(metavar="FILE.html|.csv", help="Write a roofline with every GEMM.")
    ] = None,
    json: JsonFile = None,
    record: Annotated[
        Path | None,
        _training(
            metavar="FILE.json|DIR",
            help="What compare wrote: time and energy of its arms to --accuracy, on its machines or on --profile.",
        ),
    ] = None,
    accuracy: Annotated[float | None, _training(metavar="PERCENT", help="With --record.")] = None,
    data_root: Annotated[
        Path | None,
        _training(
            metavar="DIR",
            help="With --record and --profile: folder of the data sets; by default LOWBIT_DATA.",
        ),
    ] = None,
) -> None:
    """Price a model's training step or inference, a GEMM or a file's layers on a machine, or on many.

    Energy is given as its nominal value and as the range that published figures leave open.
    """
    options = estimate_options.Options(
        profile=profile,
        model=model,
        gemm=gemm,
        workload=workload,
        forward_only=forward_only,
        batch=batch,
        data_shape=data_shape,
        classes=classes,
        format=format,
        objective=objective,
        devices=devices,
        sweep=sweep,
        per_layer=per_layer,
        csv=csv,
        roofline=roofline,
        json=json,
        record=record,
        accuracy=accuracy,
        data_root=data_root,
    )
    what = estimate_options.checked(options)
    from lowbit_sim.cli import estimating

    estimating.run(what, options)
