"""`lowbit-sim vectors`: golden vectors of a layer."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

EXAMPLE = "lowbit-sim vectors --format int8 --accumulator-bits 16 --sizes 2,3,4 --out vectors"


def vectors(
    profile: Annotated[
        str | None, typer.Option(metavar="NAME|FILE", help="The arithmetic of this machine.")
    ] = None,
    format: Annotated[
        str | None, typer.Option(metavar="NAME", help="Operands' format, in place of a profile.")
    ] = None,
    numerics: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Or a TOML file with the keys of a study's arm.")
    ] = None,
    accumulator_bits: Annotated[int | None, typer.Option(help="With --format.")] = None,
    overflow: Annotated[str | None, typer.Option(help="With --format: wrap or saturate.")] = None,
    chunk: Annotated[int | None, typer.Option(help="With --format: products in a chunk.")] = None,
    outer_bits: Annotated[int | None, typer.Option(help="With --format: outer accumulator.")] = None,
    random_bits: Annotated[
        int | None,
        typer.Option(min=1, help="With --format: round gradients stochastically with so many bits."),
    ] = None,
    layer: Annotated[
        str, typer.Option(metavar="KIND|PATH", help="linear, conv2d, or a layer of --model.")
    ] = "linear",
    sizes: Annotated[
        str | None,
        typer.Option(metavar="M,N,K|N,C,H,W,O,R", help="Sizes of a linear layer or a convolution."),
    ] = None,
    model: Annotated[str | None, typer.Option(metavar="NAME", help="Take the layer from this model.")] = None,
    data: Annotated[
        str, typer.Option(metavar="NAME", help="And its tensors from a step on this data.")
    ] = "digits",
    batch: Annotated[int, typer.Option(min=1, help="Images in that step.")] = 1,
    trace: Annotated[
        str, typer.Option(help="Accumulators after all additions, chunks, or none.")
    ] = "additions",
    traced: Annotated[int, typer.Option(min=0, help="Of so many results of each GEMM.")] = 64,
    seed: Annotated[int, typer.Option(min=0, help="Of the numbers and of the random bits.")] = 0,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the file and its schema go.")] = Path(
        "vectors"
    ),
    memh: Annotated[
        bool, typer.Option("--memh", help="Write plain .hex files too, for Verilog's $readmemh.")
    ] = False,
    schema: Annotated[bool, typer.Option("--schema", help="Print the file's JSON schema and stop.")] = False,
) -> None:
    """Write golden vectors of a layer: operands, accumulators and results of its three GEMMs, as hex in JSON."""
    from lowbit_sim.study.vectors.dot import TRACES
    from lowbit_sim.study.vectors.layer import layer_vectors
    from lowbit_sim.study.vectors.options import spec_of_file, spec_of_options
    from lowbit_sim.study.vectors.sample import DEFAULT_SIZES, model_sample, random_sample
    from lowbit_sim.study.vectors.schema import json_schema
    from lowbit_sim.study.vectors.write import write_vectors

    if schema:
        typer.echo(json_schema(), nl=False)
        return
    if random_bits is not None and format is None:
        raise typer.BadParameter("--random-bits goes with --format: a profile brings its own rounding")
    if model is None and layer not in DEFAULT_SIZES:
        raise typer.BadParameter(f"--layer is linear or conv2d, or with --model a layer of it; got {layer!r}")
    if model is not None and sizes is not None:
        raise typer.BadParameter("--sizes are those of a random layer: leave them or --model out")
    if trace not in TRACES:
        raise typer.BadParameter(f"--trace is one of {', '.join(TRACES)}; got {trace!r}")
    options = {
        "profile": profile,
        "format": format,
        "accumulator_bits": accumulator_bits,
        "overflow": overflow,
        "chunk": chunk,
        "outer_bits": outer_bits,
        "gradient_rounding": (
            None if random_bits is None else {"mode": "stochastic", "random_bits": random_bits}
        ),
    }
    if numerics is not None:
        given = [f"--{key.replace('_', '-')}" for key, value in options.items() if value is not None]
        if given:
            raise typer.BadParameter(f"--numerics is a whole table: write {', '.join(given)} into it")
        spec = spec_of_file(numerics)
    else:
        spec = spec_of_options(options | {"format": format or (None if profile else "int8")})
    if model is None:
        sample = random_sample(layer, sizes or DEFAULT_SIZES[layer], seed)
    else:
        sample = model_sample(model, layer, spec, data=data, batch=batch, seed=seed)
    written = layer_vectors(sample, spec, seed=seed, trace=trace, traced=traced)  # type: ignore[arg-type]
    path = write_vectors(written, out, memh=memh)
    overflows = sum(gemm.overflows for gemm in written.gemms)
    typer.echo(f"Wrote {path}: {len(written.gemms)} GEMMs, {overflows} additions overflowed")
