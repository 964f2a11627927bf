"""`lowbit-sim diverge`: where two runs part."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lowbit_sim.cli.app import DataRoot, JsonFile, output

EXAMPLE = "lowbit-sim diverge int8 int8@reference --steps 2"


def diverge(
    a: Annotated[str, typer.Argument(metavar="A", help="FORMAT, PROFILE, native, STUDY.toml:ARM or FILE.")],
    b: Annotated[str | None, typer.Argument(metavar="[B]", help="The same; left out with --record.")] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Training steps to compare: a recording's, or 1.")
    ] = None,
    tolerance: Annotated[
        float, typer.Option(min=0, help="Let pass differences of this share of a tensor's largest value.")
    ] = 0.0,
    record: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Run A alone and keep its GEMMs in FILE.safetensors.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(metavar="NAME", help="Model, where a side names none: small_cnn.")
    ] = None,
    width: Annotated[int | None, typer.Option(min=1, help="Channels of its first stage.")] = None,
    data: Annotated[str | None, typer.Option(metavar="NAME", help="Data set, likewise: digits.")] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Images in a step, likewise: 32.")] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Seed of weights, order and random bits: 0.")
    ] = None,
    data_root: DataRoot = None,
    json: JsonFile = None,
) -> None:
    """Run two configurations side by side and name the first layer, GEMM and element where they part.

    A side may end in @BACKEND, which forces every GEMM on it. Exit code 1 where they part.
    """
    from dataclasses import asdict

    from lowbit_sim.study.diverge import diverge as run
    from lowbit_sim.study.diverge import record_side, setup_for
    from lowbit_sim.study.diverge_report import text
    from lowbit_sim.study.recordings import save_recording
    from lowbit_sim.study.records import require_writable, write_json

    if (b is None) == (record is None):
        raise typer.BadParameter("give either two sides, or one side and --record FILE.safetensors")
    if record is not None and record.suffix != ".safetensors":
        raise typer.BadParameter(f"--record writes FILE.safetensors, got {record}")
    given = {
        "model": model,
        "width": width,
        "data": data,
        "data_root": data_root,
        "batch_size": batch,
        "seed": seed,
        "steps": steps,
    }
    setup = setup_for([a] if b is None else [a, b], given)
    if record is not None:
        require_writable(record)
        save_recording(record, record_side(a, setup))
        typer.echo(f"Wrote {record}. Compare with it: lowbit-sim diverge {record} B")
        return
    if json is not None:
        require_writable(json)
    report = run(a, str(b), setup, tolerance)
    output().print(text(report), highlight=False, markup=False, soft_wrap=True)
    if json is not None:
        write_json(json, asdict(report))
    if report.divergence is not None:
        raise typer.Exit(1)
