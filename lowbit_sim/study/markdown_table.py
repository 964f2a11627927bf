"""A study's table in Markdown, a line an arm, and the tables of a page that are kept up to date from records.

A page marks the place of a table by a record's name, if wanted with the columns:

    <!-- formats -->                                <!-- formats: accuracy, difference, machine:edge_npu -->
    | arm | accuracy, % | ...
    <!-- end of formats -->

The record is `records/formats.json` beside the page.
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lowbit_sim.numerics.suggest import unknown
from lowbit_sim.study import measured
from lowbit_sim.study.errors import StudyError
from lowbit_sim.study.quantities import with_prefix
from lowbit_sim.study.recorded import read_result
from lowbit_sim.study.results import ArmResult, StudyResult, arm_status, difference, time_ratio
from lowbit_sim.study.trajectory import last_values, require_known, trajectory

DASH = "-"


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column.

    Attributes:
        heading: Its heading; `{base}` is the name of the arm that others are compared with.
        cell: What stands in an arm's line.
    """

    heading: str
    cell: Callable[[ArmResult, StudyResult], str]


def _optional(value: float | None, text: Callable[[float], str]) -> str:
    return DASH if value is None else text(value)


def _lost(arm: ArmResult, count: int) -> str:
    return f"{100 * count / arm.operands_lost.elements:.2f}" if arm.operands_lost.elements else DASH


def _mean_and_deviation(values: Sequence[float], text: str) -> str:
    if not values:
        return DASH
    mean = text.format(statistics.fmean(values))
    return mean if len(values) == 1 else f"{mean} ± {text.format(statistics.stdev(values)).lstrip('+')}"


def _accuracy(arm: ArmResult) -> str:
    known = [run.test_accuracy for run in arm.runs]
    return _mean_and_deviation([100 * accuracy for accuracy in known if accuracy is not None], "{:.2f}")


COLUMNS = {
    "accuracy": Column(heading="accuracy, %", cell=lambda arm, study: _accuracy(arm)),
    "recalibrated": Column(
        heading="recalibrated, %", cell=lambda arm, study: measured.recalibrated(arm) or DASH
    ),
    "difference": Column(
        heading="to {base}, points",
        cell=lambda arm, study: _optional(difference(arm, study.baseline), lambda d: f"{100 * d:+.2f}"),
    ),
    "zero": Column(
        heading="operands to zero, %", cell=lambda arm, study: _lost(arm, arm.operands_lost.underflowed)
    ),
    "clipped": Column(heading="clipped, %", cell=lambda arm, study: _lost(arm, arm.operands_lost.clipped)),
    "overflow": Column(
        heading="overflowed additions, %",
        cell=lambda arm, study: _optional(arm.overflow_share, lambda share: f"{100 * share:.3g}"),
    ),
    "step": Column(
        heading="step against {base}",
        cell=lambda arm, study: _optional(time_ratio(arm, study.baseline), "{:.1f}".format),
    ),
    "seconds": Column(
        heading="time per step",
        cell=lambda arm, study: _optional(arm.seconds_per_step, lambda s: with_prefix(s, "s")),
    ),
    "energy": Column(heading="energy per step", cell=lambda arm, study: measured.energy(arm) or DASH),
    "memory": Column(heading="peak memory", cell=lambda arm, study: measured.memory(arm) or DASH),
    "runs": Column(heading="runs", cell=lambda arm, study: str(len(arm.runs))),
    "status": Column(heading="status", cell=arm_status),
    "operands": Column(heading="operands", cell=lambda arm, study: arm.operands),
    "gradient": Column(heading="gradient rounding", cell=lambda arm, study: arm.gradient_rounding),
    "recipes": Column(heading="recipes", cell=lambda arm, study: arm.recipes or "none"),
    "training": Column(heading="own training", cell=lambda arm, study: arm.overrides or "none"),
}

#: Columns of what not every machine can measure.
_MEASURED = {"energy": measured.energy, "memory": measured.memory}

_ALWAYS = ("accuracy", "difference", "zero", "clipped", "step")


@dataclass(frozen=True, kw_only=True)
class Published:
    """What a paper lost.

    Attributes:
        points: Its accuracy less that of its float32 baseline.
        what: Which one, in a heading.
    """

    points: float
    what: str


#: arXiv 2303.02347, abstract.
PUBLISHED = {"metagrad": Published(points=-0.64, what="MetaGrad's -0.64 (VGG-16, CIFAR-10, INT4 gradients)")}


def _best_native(study: StudyResult) -> ArmResult | None:
    """The native arm of the highest mean accuracy."""
    native = [arm for arm in study.arms if arm.native and arm.mean_accuracy is not None]
    return max(native, key=lambda arm: arm.mean_accuracy or 0.0, default=None)


def _to_best(study: StudyResult, heading: str, less: float = 0.0) -> Column:
    best = _best_native(study)
    return Column(
        heading=heading.format(best=best.name if best else "native"),
        cell=lambda arm, _: _optional(difference(arm, best), lambda d: f"{100 * d - less:+.2f}"),
    )


def default_columns(study: StudyResult) -> list[str]:
    """Accuracies, losses and time; and what only some studies have: energy, recipes, own training, failed runs."""
    columns: list[str] = list(_ALWAYS)
    columns += [name for name, cell in _MEASURED.items() if any(cell(arm) is not None for arm in study.arms)]
    if any(measured.recalibrated(arm) for arm in study.arms):
        columns.insert(1, "recalibrated")
    if any(arm.recipes for arm in study.arms):
        columns += [
            "recipes",
            "operands",
        ]  # recipes are compared at equal bits: the operands show whether they are
    if any(arm.overrides for arm in study.arms):
        columns.append("training")
    if any(arm_status(arm, study) != "ok" for arm in study.arms):
        columns.append("status")
    return columns


def markdown_table(study: StudyResult, columns: Sequence[str] = ()) -> str:
    """The table, a line an arm, ending with a newline.

    Args:
        study: The study.
        columns: Names of `COLUMNS`, "machine:NAME" for a step's cycles and energy on a machine, "beside:NAME" for
            what was measured over its time and energy, "measurement:NAME" for what a recipe measured last, or
            "trajectory:NAME" for its means after each epoch; by default `default_columns`.

    Raises:
        StudyError: A column, machine or measurement that is not known.
    """
    chosen = [_column(name, study) for name in columns or default_columns(study)]
    base = study.baseline.name if study.baseline else "native"
    lines = [["arm", *(column.heading.format(base=base) for column in chosen)], ["---"] * (len(chosen) + 1)]
    lines += [[arm.name, *(column.cell(arm, study) for column in chosen)] for arm in study.arms]
    return "".join(f"{_line(cells)}\n" for cells in lines)


def _line(cells: Sequence[str]) -> str:
    if set(cells) == {"---"}:
        return f"|{'|'.join(cells)}|"
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _column(name: str, study: StudyResult) -> Column:
    kind, _, rest = name.partition(":")
    if kind in ("machine", "beside"):
        return _machine_column(rest, study, compared=kind == "beside")
    if kind == "measurement":
        require_known(study.arms, rest)
        return Column(
            heading=f"{rest}, last epoch",
            cell=lambda arm, _: _mean_and_deviation(last_values(arm, rest), "{:.4g}"),
        )
    if kind == "inference":
        return _inference_column(rest, study)
    if name == "best":
        return _to_best(study, "to {best}, points")
    if kind == "published":
        if rest not in PUBLISHED:
            raise StudyError(unknown("published figure", rest, list(PUBLISHED)))
        return _to_best(study, f"beyond {PUBLISHED[rest].what}", PUBLISHED[rest].points)
    if kind == "trajectory":
        require_known(study.arms, rest)
        return Column(
            heading=f"{rest} after each epoch",
            cell=lambda arm, _: ", ".join(f"{p.mean:.3g}" for p in trajectory(arm, rest)) or DASH,
        )
    if name not in COLUMNS:
        raise StudyError(
            unknown(
                "column",
                name,
                [
                    *COLUMNS,
                    "machine:NAME",
                    "inference:NAME",
                    "beside:NAME",
                    "measurement:NAME",
                    "trajectory:NAME",
                ],
            )
        )
    return COLUMNS[name]


def _machine_column(machine: str, study: StudyResult, *, compared: bool) -> Column:
    known = [price.machine for price in study.arms[0].prices]
    if machine not in known:
        raise StudyError(unknown("machine of the study", machine, known))

    def cell(arm: ArmResult, _: StudyResult) -> str:
        cost = arm.prices[known.index(machine)].cost
        if cost is None:
            return DASH
        return f"{with_prefix(cost.cycles, smallest=0)} / {with_prefix(cost.energy_pj * 1e-12, 'J')}"

    if compared:
        return Column(
            heading=f"measured / {machine}, time / energy",
            cell=lambda arm, _: measured.beside(arm, arm.prices[known.index(machine)]) or DASH,
        )
    return Column(heading=f"{machine}, cycles / energy", cell=cell)


def _inference_column(machine: str, study: StudyResult) -> Column:
    known = [price.machine for arm in study.arms for price in arm.inference]
    if machine not in known:
        raise StudyError(
            unknown("machine of the study that inferences are priced on", machine, dict.fromkeys(known))
        )

    def cell(arm: ArmResult, _: StudyResult) -> str:
        cost = next((price.cost for price in arm.inference if price.machine == machine), None)
        if cost is None:
            return DASH
        return f"{with_prefix(cost.cycles, smallest=0)} / {with_prefix(cost.energy_pj * 1e-12, 'J')}"

    return Column(heading=f"inference on {machine}, cycles / energy", cell=cell)


_OPENING = re.compile(r"^<!-- (?P<name>[\w-]+)(?:: (?P<columns>[^\n]*?))? -->$", re.MULTILINE)


def has_tables(text: str) -> bool:
    """Whether a page marks the place of a table."""
    return _OPENING.search(text) is not None


def has_table(page: Path, name: str) -> bool:
    """Whether a page marks the place of a record's table; one that can't be read has none."""
    try:
        text = page.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return False
    return any(opening["name"] == name for opening in _OPENING.finditer(text))


def updated_page(text: str, folder: Path) -> str:
    """A page with every marked table as its record has it now.

    Args:
        text: The page.
        folder: Its folder, in which `records` lies.

    Raises:
        StudyError: A mark without its end or its record, or a column that is not known.
    """
    parts, at = [], 0
    for opening in _OPENING.finditer(text):
        name = opening["name"]
        end = text.find(f"<!-- end of {name} -->", opening.end())
        if end < 0:
            raise StudyError(f"the table {name!r} has no end: expected <!-- end of {name} --> behind it")
        columns = [column.strip() for column in (opening["columns"] or "").split(",") if column.strip()]
        table = _table_of(folder / "records" / f"{name}.json", columns)
        parts += [text[at : opening.end()], "\n", table]
        at = end
    return "".join([*parts, text[at:]])


def _table_of(record: Path, words: list[str]) -> str:
    """The table of a record; what the words choose depends on what it is a record of."""
    from lowbit_sim.study.ghn.record import is_ghn_record, marked_table

    return (
        marked_table(record, words) if is_ghn_record(record) else markdown_table(read_result(record), words)
    )
