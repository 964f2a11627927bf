"""The command line: `lowbit-sim compare`, `estimate`, `diverge`, `vectors` and `profiles`.

Commands import what they need when they run, so that help is instant. A user's error is one message on stderr
and exit code 2; anything unexpected keeps its traceback.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

if TYPE_CHECKING:
    from lowbit_sim.study.config import Study
    from lowbit_sim.study.run import Outcome

INTERRUPTED = 130  # 128 + SIGINT, as shells report it
USER_ERROR = 2
TABLE_COLUMNS = 100

#: The training step that `estimate` prices unless told otherwise.
BATCH, DATA_SHAPE, CLASSES = 32, "3,32,32", 10

app = typer.Typer(
    help="Bit-accurate emulation of low-precision training hardware, with its cycles and energy.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
profiles_app = typer.Typer(help="List, show, check and start machine profiles.", no_args_is_help=True)
app.add_typer(profiles_app, name="profiles")


def main() -> None:
    """The entry point of `lowbit-sim`."""
    # torch and numba each bring an OpenMP runtime, whose idle threads spin by default and take the cores from the
    # other's. The setting is read when the runtime is loaded, so it comes before the first import of torch.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        app()
    except ValueError as error:
        if not _is_users(error):
            raise
        Console(stderr=True, soft_wrap=True).print(
            f"Error: {error}", style="red", markup=False, highlight=False
        )
        sys.exit(USER_ERROR)


def _is_users(error: ValueError) -> bool:
    """Whether an error is about what the user asked for, and its message all that there is to say."""
    import hw_models
    from lowbit_sim.study.errors import StudyError

    return isinstance(error, StudyError | hw_models.ProfileError | hw_models.UnsupportedOperandError)


def _output() -> Console:
    """Stdout; into a file or a pipe at the 100 columns that the tables are made for."""
    console = Console()
    return console if console.is_terminal or "COLUMNS" in os.environ else Console(width=TABLE_COLUMNS)


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


JsonFile = Annotated[
    Path | None, typer.Option("--json", metavar="FILE", help="Also write the result as JSON.")
]


@app.command(epilog="Example: lowbit-sim compare --profile edge_npu --profile my_machine.toml --seeds 3")
def compare(
    study: Annotated[
        Path | None,
        typer.Argument(metavar="[STUDY.toml]", help="The study; by default the packaged one on digits."),
    ] = None,
    data: Annotated[
        str | None, typer.Option(metavar="NAME", help="Another data set than the study's.")
    ] = None,
    profile: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME|FILE", help="Machines to price on, in place of the study's. Repeatable."),
    ] = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="Run seeds 0 to N - 1.")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Another number of epochs.")] = None,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the run folder is made.")] = Path("runs"),
    data_root: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of the data sets; by default LOWBIT_DATA.")
    ] = None,
    json: JsonFile = None,
) -> None:
    """Train one model under several arithmetics and compare accuracy, speed and the cost on machines."""
    from lowbit_sim.study.load_study import default_study_path, load_study
    from lowbit_sim.study.records import require_writable

    if json is not None:
        require_writable(json)
    try:
        chosen = _overridden(load_study(study or default_study_path()), data, profile, seeds, epochs)
        outcome = _run_with_progress(chosen, out, data_root)
    except KeyboardInterrupt:  # before the first run, when there is nothing to show
        raise typer.Exit(INTERRUPTED) from None
    _show(outcome, json)
    if outcome.result.status == "interrupted":
        raise typer.Exit(INTERRUPTED)


def _overridden(
    study: Study, data: str | None, profiles: list[str] | None, seeds: int | None, epochs: int | None
) -> Study:
    """The study with the command line's values in place of its own, checked like a file's."""
    from lowbit_sim.study.load_study import parse_study

    table = study.model_dump(exclude_none=True)
    if data is not None:
        table["data"]["name"] = data
    if profiles:
        table["profiles"] = profiles
    if seeds is not None:
        table["seeds"] = list(range(seeds))
    if epochs is not None:
        table["training"]["epochs"] = epochs
    return parse_study(table, "command line", Path())


def _run_with_progress(study: Study, out: Path, data_root: Path | None) -> Outcome:
    """Run a study under a progress bar on stderr, which stays quiet where that is no terminal."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from lowbit_sim.study.run import Progress as EpochEnd
    from lowbit_sim.study.run import run_study

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bar:
        total = len(study.arms) * len(study.seeds) * study.training.epochs
        task = bar.add_task(f"{study.title}: preparing", total=total)

        def on_epoch(end: EpochEnd) -> None:
            accuracy = f"{100 * end.metrics.test_accuracy:.1f} %"
            done = _epochs_done(study, end.arm, end.seed, end.metrics.epoch)
            text = f"{end.arm}, seed {end.seed}, epoch {end.metrics.epoch + 1}: test accuracy {accuracy}"
            bar.update(task, completed=done, description=text)

        return run_study(study, out=out, data_root=data_root, on_epoch=on_epoch)


def _epochs_done(study: Study, arm: str, seed: int, epoch: int) -> int:
    """Epochs up to and with this one, also counting those that a diverged run left out."""
    runs_before = [a.name for a in study.arms].index(arm) * len(study.seeds) + study.seeds.index(seed)
    return runs_before * study.training.epochs + epoch + 1


def _show(outcome: Outcome, json: Path | None) -> None:
    from lowbit_sim.study.records import RunFolder, write_json
    from lowbit_sim.study.report import study_table

    console = _output()
    console.print(study_table(outcome.result))
    state = (
        "Interrupted; the runs that ended are in" if outcome.result.status == "interrupted" else "Run folder:"
    )
    console.print(f"{state} {outcome.folder}", markup=False, highlight=False, soft_wrap=True)
    if json is not None:
        write_json(json, RunFolder(path=outcome.folder).record(outcome.result))


@app.command(epilog="Example: lowbit-sim estimate --profile tpu_v1 --model resnet20 --batch 128")
def estimate(
    profile: Annotated[str, typer.Option(metavar="NAME|FILE", help="The machine.")],
    model: Annotated[
        str | None, typer.Option(metavar="NAME", help="Price a training step of this model.")
    ] = None,
    batch: Annotated[
        int | None, typer.Option(metavar="N", help="Images in the training step.", show_default=str(BATCH))
    ] = None,
    data_shape: Annotated[
        str | None, typer.Option(metavar="C,H,W", help="Shape of an image.", show_default=DATA_SHAPE)
    ] = None,
    classes: Annotated[
        int | None, typer.Option(metavar="N", help="Number of classes.", show_default=str(CLASSES))
    ] = None,
    gemm: Annotated[str | None, typer.Option(metavar="M,N,K", help="Price one GEMM.")] = None,
    format: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Operands' format (or fp32), in place of the machine's."),
    ] = None,
    json: JsonFile = None,
) -> None:
    """Price one GEMM, or one training step of a model, on a machine."""
    import hw_models
    from lowbit_sim.study import price
    from lowbit_sim.study.quantities import counted
    from lowbit_sim.study.records import require_writable, write_json

    if (model is None) == (gemm is None):
        raise typer.BadParameter("give either --model NAME or --gemm M,N,K")
    if gemm is not None:
        _refuse_beside_gemm({"--batch": batch, "--data-shape": data_shape, "--classes": classes})
    if json is not None:
        require_writable(json)
    machine = hw_models.load(profile)
    spec = price.machine_spec(machine, format)
    if gemm is not None:
        trace, title = price.gemm_trace(*_three(gemm, "--gemm M,N,K"), spec), f"GEMM {gemm}"
    else:
        shape = _three(data_shape or DATA_SHAPE, "--data-shape C,H,W")
        images = BATCH if batch is None else batch
        outputs = CLASSES if classes is None else classes
        trace = price.model_trace(str(model), batch=images, shape=shape, classes=outputs, spec=spec)
        title = f"One training step of {model}, {counted(images, 'image')} of {data_shape or DATA_SHAPE}"
    report = hw_models.estimate(trace, machine)
    _output().print(price.cost_table(report, f"{title} on {machine.machine.name}"))
    if json is not None:
        write_json(json, report.to_dict())


def _refuse_beside_gemm(options: dict[str, object]) -> None:
    """Options that a single GEMM would leave without effect are errors."""
    given = [option for option, value in options.items() if value is not None]
    if given:
        verb, them = ("describes", "it") if len(given) == 1 else ("describe", "them")
        raise typer.BadParameter(f"{' and '.join(given)} {verb} a model's step: leave {them} or --gemm out")


def _three(text: str, what: str) -> tuple[int, int, int]:
    parts = text.split(",")
    if len(parts) != 3 or not all(part.strip().isdecimal() for part in parts):
        raise typer.BadParameter(f"{what} is three whole numbers with commas between, got {text!r}")
    first, second, third = map(int, parts)
    return first, second, third


@app.command(epilog="Example: lowbit-sim diverge int8 int8@reference --steps 2")
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
    data_root: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of the data sets; by default LOWBIT_DATA.")
    ] = None,
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
        path = record.with_suffix(".safetensors")
        require_writable(path)
        save_recording(path, record_side(a, setup))
        typer.echo(f"Wrote {path}. Compare with it: lowbit-sim diverge {path} B")
        return
    if json is not None:
        require_writable(json)
    report = run(a, str(b), setup, tolerance)
    _output().print(text(report), highlight=False, markup=False, soft_wrap=True)
    if json is not None:
        write_json(json, asdict(report))
    if report.divergence is not None:
        raise typer.Exit(1)


@app.command(
    epilog="Example: lowbit-sim vectors --format int8 --accumulator-bits 16 --sizes 2,3,4 --out vectors"
)
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


@profiles_app.command("list", epilog="Example: lowbit-sim profiles list")
def list_profiles() -> None:
    """List the profiles that come with the package."""
    import hw_models

    for name in hw_models.profile_names():
        typer.echo(f"{name:<20} {hw_models.load(name).machine.description}")


@profiles_app.command("show", epilog="Example: lowbit-sim profiles show tpu_v1 > my_machine.toml")
def show_profile(name: Annotated[str, typer.Argument(help="Name or file.")]) -> None:
    """Print a profile's TOML."""
    import hw_models
    from lowbit_sim.study.records import profile_text

    hw_models.load(name)
    typer.echo(profile_text(name), nl=False)


@profiles_app.command("check", epilog="Example: lowbit-sim profiles check my_machine.toml")
def check_profile(file: Annotated[Path, typer.Argument(help="A profile's file.")]) -> None:
    """Say whether a file is a valid profile, and if not, what is wrong."""
    import hw_models

    typer.echo(f"{file}: {hw_models.load(file).machine.name} is a valid profile")


@profiles_app.command("new", epilog="Example: lowbit-sim profiles new my_machine")
def new_profile(name: Annotated[str, typer.Argument(help="Name of the new machine.")]) -> None:
    """Write NAME.toml: every key with its meaning and an example value, to be edited."""
    import hw_models
    from lowbit_sim.study.errors import StudyError

    try:
        text = hw_models.template(name)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    path = Path(f"{name}.toml")
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise typer.BadParameter(f"{path} exists already: choose another name or remove it") from None
    except OSError as error:
        raise StudyError(f"can't write {path}: {error}") from None
    typer.echo(f"Wrote {path}. Edit it, then: lowbit-sim profiles check {path}")
