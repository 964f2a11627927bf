"""Time and energy to train to an accuracy, as a table and as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from lowbit_sim.study.cost_table import energy_range
from lowbit_sim.study.quantities import with_prefix
from lowbit_sim.study.to_accuracy import ArmToAccuracy, Spread, StepCost

NOT_REACHED = "not reached"
DASH = "-"

_PJ = 1e-12


def to_accuracy_table(arms: Sequence[ArmToAccuracy], title: str) -> RenderableType:
    """A row for each arm and machine, and why a machine can't run an arm."""
    table = Table(title=Text(title), header_style="bold", caption_justify="left")
    table.add_column("arm", overflow="fold")
    table.add_column("machine", overflow="fold")
    for heading in ("seeds", "epochs", "steps", "time", "energy", "low - high"):
        table.add_column(heading, justify="right", no_wrap=True)
    for arm in arms:
        for cost in arm.step_costs:
            table.add_row(*map(Text, _cells(arm, cost)))
    table.caption = Text(
        "Mean over the seeds that reached the accuracy, after an epoch; of the epochs with their sample standard "
        "deviation, of which steps, time and energy have the same share. Training steps alone: no evaluation, no "
        "loading of data."
    )
    refusals = dict.fromkeys(
        f"{arm.arm} on {cost.machine}: {cost.refusal}"
        for arm in arms
        for cost in arm.step_costs
        if cost.refusal
    )
    missed = [
        f"{arm.arm}: the best accuracy of any epoch is {_percent(arm.best_accuracy)}"
        for arm in arms
        if not arm.reached
    ]
    return Group(table, *map(Text, [*missed, *refusals]))


def _percent(share: float | None) -> str:
    return "unknown, since no epoch ended" if share is None else f"{100 * share:.2f} %"


def _cells(arm: ArmToAccuracy, cost: StepCost) -> list[str]:
    seeds = f"{arm.reached} of {len(arm.runs)}"
    if not arm.reached:
        return [arm.arm, cost.machine, seeds, NOT_REACHED, DASH, DASH, DASH, DASH]
    priced = not cost.refusal
    return [
        arm.arm,
        cost.machine,
        seeds,
        _plus_minus(arm.epochs),
        _mean(arm.steps),
        _mean(arm.times(cost.seconds) if priced else None, "s"),
        _mean(arm.times(cost.energy_pj * _PJ) if priced else None, "J"),
        _range(arm, cost),
    ]


def _plus_minus(spread: Spread | None) -> str:
    """Mean and deviation: "12.4 ± 1.1"."""
    if spread is None:
        return DASH
    return f"{spread.mean:.1f}" + ("" if spread.deviation is None else f" ± {spread.deviation:.1f}")


def _mean(spread: Spread | None, unit: str = "") -> str:
    """The mean alone: "42.4 ms", or a number of steps."""
    if spread is None:
        return DASH
    return with_prefix(spread.mean, unit) if unit else with_prefix(spread.mean, smallest=0)


def _range(arm: ArmToAccuracy, cost: StepCost) -> str:
    """The mean's range; a dash where the record does not know it."""
    if cost.energy_low_pj is None or cost.energy_high_pj is None:
        return DASH
    steps = arm.steps
    return (
        DASH
        if steps is None
        else energy_range(steps.mean * cost.energy_low_pj, steps.mean * cost.energy_high_pj)
    )


def to_accuracy_csv(arms: Sequence[ArmToAccuracy]) -> str:
    """A line for each arm, machine and seed; empty where a seed did not reach the accuracy or there is no cost."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        ["arm", "machine", "accuracy", "seed", "epochs", "steps", "seconds", "energy_low_j", "energy_j"]
        + ["energy_high_j", "refusal"]
    )
    for arm in arms:
        for cost in arm.step_costs:
            joules = [cost.energy_low_pj, cost.energy_pj, cost.energy_high_pj]
            step = [cost.seconds, *(None if pj is None else pj * _PJ for pj in joules)]
            for run in arm.runs:
                known = run.steps is not None and not cost.refusal
                figures = [run.steps * x if known and x is not None else "" for x in step]  # type: ignore[operator]
                reached = ["" if x is None else x for x in (run.epochs, run.steps)]
                writer.writerow(
                    [arm.arm, cost.machine, arm.accuracy, run.seed, *reached, *figures, cost.refusal]
                )
    return text.getvalue()
