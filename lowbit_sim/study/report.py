"""The table of a study: metrics down, arms across, a section for each machine, footnotes for what is missing.

It is made for 100 columns; more arms than fit come in further tables, each with the arm that the others are compared
with. What can't be given is a dash, and a footnote says why.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from lowbit_sim.study import measured
from lowbit_sim.study.quantities import counted, with_prefix
from lowbit_sim.study.results import ArmResult, Price, StudyResult, arm_status, difference, time_ratio
from lowbit_sim.trace import ROLES, Role

DASH = "-"

#: Arms that fit 100 columns.
_ARMS_ACROSS = 4

#: The cost model's note on float work is a footnote of its own; other notes are too many for a table.
_FLOAT_NOTE = "run on the vector unit"

#: How the parts of a training step are headed.
_ROLE_LABELS = {"output": "forward"}


class _Footnotes:
    """Numbered remarks; the same remark keeps its number."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def mark(self, text: str) -> str:
        """The mark of a remark, to put behind a cell's content."""
        if text not in self.texts:
            self.texts.append(text)
        return f"[{self.texts.index(text) + 1}]"


def study_table(study: StudyResult) -> RenderableType:
    """The table, or several, and the footnotes."""
    notes = _Footnotes()
    tables = [_table(replace(study, arms=arms), notes) for arms in _beside_each_other(study)]
    # Text, not markup, wherever a study's own words stand: an arm may be called "[a]".
    tables[-1].caption = Text(_caption(study))
    return Group(*tables, *(Text(f"[{i}] {text}") for i, text in enumerate(notes.texts, start=1)))


def _beside_each_other(study: StudyResult) -> list[tuple[ArmResult, ...]]:
    """The arms of each table."""
    arms, base = study.arms, study.baseline
    if len(arms) <= _ARMS_ACROSS:
        return [arms]
    others = [arm for arm in arms if arm is not base]
    first = () if base is None else (base,)
    room = _ARMS_ACROSS - len(first)
    return [(*first, *others[i : i + room]) for i in range(0, len(others), room)]


def _table(study: StudyResult, notes: _Footnotes) -> Table:
    table = Table(title=Text(_title(study)), caption_justify="left", header_style="bold")
    table.add_column("", no_wrap=True)
    for arm in study.arms:
        table.add_column(Text(arm.name), justify="right", overflow="fold")
    _numerics_section(table, study)
    _training_section(table, study, notes)
    for index, price in enumerate(study.arms[0].prices):
        _machine_section(table, study, index, price.machine, notes)
    return table


def _title(study: StudyResult) -> str:
    state = "" if study.status == "completed" else f" ({study.status})"
    return f"{study.title}: {study.model} on {study.data}{state}"


def _caption(study: StudyResult) -> str:
    seeds = "Seed " if len(study.seeds) == 1 else "Seeds "
    seeds += ", ".join(map(str, study.seeds))
    return (
        f"{seeds}. Accuracy on {counted(study.test_examples, 'test image')} after the last epoch: mean ± sample "
        "standard deviation. Time: median training step. Overflowed additions: in the first step of every epoch. "
        "Operands: elements lost in quantising, counted in some steps. "
        f"Machines: one training step of {counted(study.batch_size, 'image')}{_but_for_own_batches(study)}."
        f"{_left_out(study)}{measured.unavailable_in_words(study)}{measured.in_words(study)}"
    )


def _left_out(study: StudyResult) -> str:
    return f" Arms left out: {', '.join(study.left_out)}." if study.left_out else ""


def _but_for_own_batches(study: StudyResult) -> str:
    sizes = {arm.training.get("batch_size", study.batch_size) for arm in study.arms}
    return ", or of the arm's own batch" if len(sizes) > 1 else ""


def _row(
    table: Table, study: StudyResult, label: str, cell: Callable[[ArmResult], str], style: str = ""
) -> None:
    table.add_row(Text(label), *(Text(cell(arm)) for arm in study.arms), style=style)


def _numerics_section(table: Table, study: StudyResult) -> None:
    _row(table, study, "operands", lambda arm: arm.operands)
    _row(table, study, "accumulator", lambda arm: arm.accumulator)
    _row(table, study, "gradient rounding", lambda arm: arm.gradient_rounding)
    if any(arm.recipes for arm in study.arms):
        _row(table, study, "recipes", lambda arm: arm.recipes or "none")
    if any(arm.overrides for arm in study.arms):
        _row(table, study, "own training", lambda arm: arm.overrides or "none")
    table.add_section()


def _training_section(table: Table, study: StudyResult, notes: _Footnotes) -> None:
    base = study.baseline
    against = base.name if base else "native"

    def compared(text: str) -> str:
        return text if base else f"{DASH} {notes.mark('no native arm to compare with')}"

    _row(table, study, "test accuracy, %", _accuracy, style="bold")
    if any(measured.recalibrated(arm) for arm in study.arms):
        label = "  with recalibrated batch-norms, %"
        _row(table, study, label, lambda arm: measured.recalibrated(arm) or DASH)
    _row(table, study, f"minus {against}, points", lambda arm: compared(_points(difference(arm, base))))
    _row(table, study, "status", lambda arm: arm_status(arm, study) + _reason(arm, notes))
    _row(table, study, "time per step", lambda arm: _optional(arm.seconds_per_step, _seconds))
    _row(table, study, f"ratio to {against}", lambda arm: compared(_ratio(time_ratio(arm, base))))
    for label, cell in (("energy per step", measured.energy), ("peak memory", measured.memory)):
        if any(cell(arm) is not None for arm in study.arms):
            _row(table, study, label, lambda arm, cell=cell: cell(arm) or DASH)
    _row(table, study, "overflowed additions", lambda arm: _overflow(arm, notes))
    _row(table, study, "clipped operands", lambda arm: _lost(arm, arm.operands_lost.clipped))
    _row(table, study, "operands to zero", lambda arm: _lost(arm, arm.operands_lost.underflowed))


def _accuracy(arm: ArmResult) -> str:
    if arm.mean_accuracy is None:
        return DASH
    mean = f"{100 * arm.mean_accuracy:.2f}"
    return mean if arm.accuracy_deviation is None else f"{mean} ± {100 * arm.accuracy_deviation:.2f}"


def _points(value: float | None) -> str:
    return _optional(value, lambda v: f"{100 * v:+.2f}")


def _ratio(value: float | None) -> str:
    return _optional(value, "{:.2f}x".format)


def _seconds(value: float) -> str:
    return with_prefix(value, "s")


def _optional(value: float | None, text: Callable[[float], str]) -> str:
    return DASH if value is None else text(value)


def _reason(arm: ArmResult, notes: _Footnotes) -> str:
    """Why runs of the arm stopped early, as marks."""
    stopped = [run for run in arm.runs if run.training.status == "diverged"]
    return "".join(" " + notes.mark(f"{arm.name}, seed {run.seed}: {run.training.reason}") for run in stopped)


def _overflow(arm: ArmResult, notes: _Footnotes) -> str:
    share = arm.overflow_share
    if share is not None:
        return f"{100 * share:.3g} %" if share else "none"
    if arm.native:
        return f"{DASH} {notes.mark('native float32 has no integer accumulator')}"
    return f"{DASH} {notes.mark(_why_no_share(arm))}" if arm.runs else DASH


def _lost(arm: ArmResult, count: int) -> str:
    """A share of the operands' elements; a dash where none was quantised."""
    elements = arm.operands_lost.elements
    if not elements:
        return DASH
    return f"{100 * count / elements:.3g} %" if count else "none"


def _why_no_share(arm: ArmResult) -> str:
    epochs = [epoch for run in arm.runs for epoch in run.training.epochs]
    if not epochs:
        return "no epoch ended"
    if not any(epoch.additions for epoch in epochs):
        return "no GEMM ran on an emulated integer accumulator"
    return "not counted in every GEMM that ran"


def _machine_section(table: Table, study: StudyResult, index: int, machine: str, notes: _Footnotes) -> None:
    table.add_section()
    _row(table, study, machine, lambda arm: _remark(arm.prices[index], notes), style="bold")
    _row(table, study, "  cycles / energy", lambda arm: _total(arm.prices[index]))
    _row(table, study, "  energy, range", lambda arm: _range(arm.prices[index]))
    if measured.is_profile_of(machine, study.hardware):
        _row(table, study, "  time, modelled", lambda arm: _time(arm.prices[index]))
        _row(table, study, "  measured / modelled: time / energy", lambda arm: _beside(arm, index))
    for role in ROLES:
        label = f"    {_ROLE_LABELS.get(role, role)}"
        _row(table, study, label, lambda arm, role=role: _part(arm.prices[index], role))
    # What a recipe leaves behind infers at a cost of its own; without recipes it is that of the numerics.
    if any(arm.recipes and arm.inference for arm in study.arms):
        _row(table, study, "  inference", lambda arm: _total(arm.inference[index]) if arm.inference else DASH)


def _remark(price: Price, notes: _Footnotes) -> str:
    """A mark where a machine can't run an arm, or would compute something else, and where a step is a mean."""
    if price.cost is None:
        return notes.mark(price.refusal)
    floats = [note for note in price.cost.notes if _FLOAT_NOTE in note]
    marks = [notes.mark(note) for note in floats]
    if len(floats) < len(price.cost.notes):
        differs = "priced at the formats that ran; the machine's own arithmetic differs, result.json says how"
        marks.append(notes.mark(differs))
    if price.stages:
        marks.append(notes.mark(_stages(price)))
    return "".join(marks)


def _stages(price: Price) -> str:
    """What a mean step is made of."""
    parts = (f"{stage.name} {100 * stage.share:.3g} %" for stage in price.stages)
    return (
        f"the mean step of a run in stages: {', '.join(parts)} of the steps; result.json has the cost of each"
    )


def _total(price: Price) -> str:
    return DASH if price.cost is None else _cost(price.cost.cycles, price.cost.energy_pj)


def _time(price: Price) -> str:
    return DASH if price.cost is None else _seconds(price.cost.seconds)


def _beside(arm: ArmResult, index: int) -> str:
    return measured.beside(arm, arm.prices[index]) or DASH


def _range(price: Price) -> str:
    """What published figures leave open, in the unit of the high end: "0.510-4.80 mJ"; a dash where nothing is."""
    if price.cost is None:
        return DASH
    low, high = price.cost.energy_low_pj, price.cost.energy_high_pj
    if with_prefix(low * 1e-12) == with_prefix(high * 1e-12):
        return DASH
    number, unit = with_prefix(high * 1e-12, "J").split(" ")
    return f"{_three_digits(low / high * float(number))}-{number} {unit}"


def _three_digits(value: float) -> str:
    """A number below 1000 with three significant digits and no exponent: "0.0510"."""
    decimals = 2 - math.floor(math.log10(value)) if value else 0
    return f"{value:.{max(0, decimals)}f}"


def _part(price: Price, role: Role) -> str:
    if price.cost is None:
        return DASH
    part = price.cost.by_role[role]
    return _cost(part.cycles, part.energy_pj)


def _cost(cycles: int, energy_pj: float) -> str:
    return f"{with_prefix(cycles, smallest=0)} / {with_prefix(energy_pj * 1e-12, 'J')}"
