"""What `lowbit-sim estimate` does once its options are known to fit together."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

import hw_models
from hw_models.explore.axis import Axis, grid
from hw_models.explore.roofline import roofline, roofline_csv
from hw_models.explore.roofline_plot import require_plotly, roofline_html
from hw_models.explore.sweep import SweepPoint, sweep
from hw_models.mapping.search import Objective
from lowbit_sim.cli.app import output as table_console
from lowbit_sim.cli.estimate_options import Options, three
from lowbit_sim.study import cost_table, layer_table, sweep_table, to_accuracy_table, workload_source
from lowbit_sim.study.errors import StudyError
from lowbit_sim.study.read_record import read_record
from lowbit_sim.study.records import write_json, write_text
from lowbit_sim.study.repricing import step_costs
from lowbit_sim.study.to_accuracy import StepCost, to_accuracy, to_accuracy_dict
from lowbit_sim.study.workload_source import WorkloadSource


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is priced, on which machine and how."""

    source: WorkloadSource
    profile: str
    objective: Objective
    devices: int


def run(what: str, options: Options) -> None:
    """Price what was asked for, print it, and write the files.

    Args:
        what: What is priced, such as "--model".
        options: The options, which fit together (`estimate_options.checked`).
    """
    objective: Objective = options.objective or "cycles"  # type: ignore[assignment]
    devices = options.devices or 1
    if options.record is not None and options.accuracy is not None:
        repricing = options.profile and Repricing(
            profile=options.profile, data_root=options.data_root, objective=objective, devices=devices
        )
        train_to_accuracy(options.record, options.accuracy / 100, repricing or None, options)
        return
    question = Question(
        source=_source(what, options), profile=str(options.profile), objective=objective, devices=devices
    )
    if options.sweep:
        sweep_machines(question, options.sweep, options)
    else:
        price(question, options)


def _source(what: str, options: Options) -> WorkloadSource:
    if what == "--gemm":
        return workload_source.gemm(three(str(options.gemm), "--gemm M,N,K"), options.format)
    if what == "--workload":
        return workload_source.file(
            Path(str(options.workload)),
            options.format,
            training=not options.forward_only,
            batch=options.batch,
        )
    shape = None if options.data_shape is None else three(options.data_shape, "--data-shape C,H,W")
    return workload_source.model(
        str(options.model),
        options.format,
        batch=options.batch,
        shape=shape,
        classes=options.classes,
        training=not options.forward_only,
    )


def price(question: Question, output: Options) -> None:
    """One machine: the table of costs, and the views that were asked for."""
    if output.roofline is not None and output.roofline.suffix.lower() != ".csv":
        require_plotly()  # before the work, not after it
    machine = _machine(question)
    trace = question.source.trace(machine)
    report = hw_models.estimate(trace, machine, objective=question.objective, devices=question.devices)
    console = table_console()
    console.print(cost_table.cost_table(report, f"{question.source.title} on {machine.machine.name}"))
    if output.per_layer:
        console.print(layer_table.layer_table(report))
    if output.csv is not None:
        write_text(output.csv, layer_table.layer_csv(report))
    if output.roofline is not None:
        line = roofline(trace, machine, objective=question.objective)
        as_csv = output.roofline.suffix.lower() == ".csv"
        write_text(output.roofline, roofline_csv(line) if as_csv else roofline_html(line))
    if output.json is not None:
        write_json(output.json, report.to_dict())


def sweep_machines(question: Question, axes: list[str], output: Options) -> None:
    """Many machines: the table of the best ones, and all of them in the files."""
    machine = _machine(question)
    parsed = [Axis.parse(text) for text in axes]
    points = _sweep_with_progress(question, machine, parsed)
    if all(point.refusal for point in points):
        raise StudyError(f"no point of the sweep has a cost: {points[0].refusal}")
    title = f"{question.source.title} on {machine.machine.name}, swept"
    table_console().print(sweep_table.sweep_table(points, title, question.objective))
    if output.csv is not None:
        write_text(output.csv, sweep_table.sweep_csv(points, question.objective))
    if output.json is not None:
        found: dict[str, Any] = {"machine": machine.machine.name, "objective": question.objective}
        write_json(output.json, found | {"points": sweep_table.sweep_dict(points, question.objective)})


def _machine(question: Question) -> hw_models.HardwareProfile:
    return _linked(hw_models.load(question.profile), question.devices)


def _linked(machine: hw_models.HardwareProfile, devices: int) -> hw_models.HardwareProfile:
    """The machine, if it can train with so many of its kind."""
    if devices > 1 and machine.interconnect is None:
        raise StudyError(
            f"--devices {devices}: {machine.machine.name} has no [interconnect]; give its topology and its "
            "links, or leave --devices out"
        )
    return machine


def _sweep_with_progress(
    question: Question, machine: hw_models.HardwareProfile, axes: list[Axis]
) -> list[SweepPoint]:
    """Sweep under a progress bar on stderr, which stays quiet where that is no terminal."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True, emoji=False)
    columns = (TextColumn("machines"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bar:
        task = bar.add_task("", total=len(grid(axes)))
        return sweep(
            question.source.trace,
            machine,
            axes,
            objective=question.objective,
            devices=question.devices,
            workers=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
            on_points=lambda count: bar.advance(task, count),
        )


@dataclass(frozen=True, kw_only=True)
class Repricing:
    """The machine that takes the place of a record's own ones, and how its steps are priced."""

    profile: str
    data_root: Path | None
    objective: Objective
    devices: int


def train_to_accuracy(record: Path, accuracy: float, repricing: Repricing | None, output: Options) -> None:
    """The arms of a record: time and energy until they reach the accuracy."""
    known = read_record(record)
    folder = record if record.is_dir() else record.parent
    costs = None if repricing is None else _new_costs(known, folder, repricing)
    arms = to_accuracy(known, accuracy, costs, name=str(record))
    together = (
        f", {repricing.devices} machines share each batch" if repricing and repricing.devices > 1 else ""
    )
    title = f"{known.get('title', record.name)}: training to {100 * accuracy:g} % test accuracy{together}"
    table_console().print(to_accuracy_table.to_accuracy_table(arms, title))
    if output.csv is not None:
        write_text(output.csv, to_accuracy_table.to_accuracy_csv(arms))
    if output.json is not None:
        write_json(output.json, [to_accuracy_dict(arm) for arm in arms])


def _new_costs(known: dict[str, Any], folder: Path, repricing: Repricing) -> dict[str, list[StepCost]]:
    return step_costs(
        known,
        _linked(hw_models.load(repricing.profile), repricing.devices),
        folder=folder,
        data_root=repricing.data_root,
        objective=repricing.objective,
        devices=repricing.devices,
    )
