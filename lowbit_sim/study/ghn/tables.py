"""The tables of a hypernetwork study: rows of words, for the console and for Markdown.

| name             | a row is           | cells                                                                    |
|------------------|--------------------|--------------------------------------------------------------------------|
| `accuracy`       | an arm             | at each precision: mean ± s.e.m. over a split's networks (largest of all) |
| `by_split`       | an arm             | in each split: the same at one precision                                 |
| `by_seed`        | an arm             | at each precision: the mean of each seed, and their standard deviation   |
| `fine_tuning`    | a start and a rate | accuracy after each epoch: mean ± s.e.m. over networks                   |
| `training_cost`  | an arm             | on each machine: an update's cycles and energy, and the whole training's |
| `inference_cost` | a precision        | on each machine: cycles and energy of an image, mean over networks       |

A network's accuracy is its mean over the seeds before networks are averaged: the standard error is that of the choice
of networks. The largest is that of any network with any seed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lowbit_sim.ghn.evaluation import STATISTICS
from lowbit_sim.numerics.suggest import unknown
from lowbit_sim.study.errors import StudyError
from lowbit_sim.study.ghn import cells
from lowbit_sim.study.ghn.results import RANDOM_STARTS, GhnResult
from lowbit_sim.study.quantities import counted


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table.

    Attributes:
        title: What it shows.
        headings: Of the columns, the first one being that of the rows' names.
        rows: Cells in words.
    """

    title: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Of what a table is.

    Attributes:
        split: A held-out split; the first, if left out.
        statistics: Of the batch-norms; those of the batch, if left out.
        precision: For `by_split`; the last one, if left out.
    """

    split: str = ""
    statistics: str = ""
    precision: str = ""


def table(result: GhnResult, name: str, choice: Choice = Choice()) -> Table:
    """A table of a study.

    Args:
        result: The study's result.
        name: One of `TABLES`.
        choice: Of what.

    Raises:
        StudyError: An unknown table, split, precision or kind of statistics.
    """
    if name not in TABLES:
        raise StudyError(unknown("table", name, list(TABLES)))
    return TABLES[name](result, _checked(result, choice))


def parse_choice(result: GhnResult, words: Sequence[str]) -> tuple[str, Choice]:
    """A table's name and what it is of, as a page's mark has them: "accuracy", "split:wide", "statistics:batch".

    Raises:
        StudyError: Words that are none of these.
    """
    name, given = "accuracy", {}
    for word in words:
        key, colon, value = word.partition(":")
        if not colon:
            name = word
        elif key in Choice.__dataclass_fields__:
            given[key] = value
        else:
            raise StudyError(unknown("choice of a table", key, list(Choice.__dataclass_fields__)))
    return name, _checked(result, Choice(**given))


def _checked(result: GhnResult, choice: Choice) -> Choice:
    known = {
        "split": list(result.splits),
        "statistics": list(STATISTICS),
        "precision": list(result.precisions),
    }
    default = {"split": known["split"][0], "statistics": "batch", "precision": known["precision"][-1]}
    values = {key: getattr(choice, key) or default[key] for key in known}
    for key, value in values.items():
        if value not in known[key]:
            raise StudyError(unknown(key, value, known[key]))
    return Choice(**values)


def _accuracy(result: GhnResult, choice: Choice) -> Table:
    rows = [
        (
            arm.name,
            *(
                cells.summary(cells.by_network(arm, choice.split, choice.statistics, each))
                for each in result.precisions
            ),
        )
        for arm in result.arms
    ]
    return Table(
        title=f"accuracy, % on {_networks(result, choice.split)}, {_norms(choice)}",
        headings=("arm", *result.precisions),
        rows=(*rows, ("chance", *(f"{100 * result.chance:.1f}" for _ in result.precisions))),
    )


def _by_split(result: GhnResult, choice: Choice) -> Table:
    rows = [
        (
            arm.name,
            *(
                cells.summary(cells.by_network(arm, split, choice.statistics, choice.precision))
                for split in result.splits
            ),
        )
        for arm in result.arms
    ]
    return Table(
        title=f"accuracy, % at {choice.precision}, {_norms(choice)}",
        headings=("arm", *(f"{name} ({count})" for name, count in result.splits.items())),
        rows=(*rows, ("chance", *(f"{100 * result.chance:.1f}" for _ in result.splits))),
    )


def _by_seed(result: GhnResult, choice: Choice) -> Table:
    return Table(
        title=f"mean accuracy, % of each seed on {_networks(result, choice.split)}, {_norms(choice)}",
        headings=("arm", *result.precisions),
        rows=tuple(
            (
                arm.name,
                *(cells.seeds(arm, choice.split, choice.statistics, each) for each in result.precisions),
            )
            for arm in result.arms
        ),
    )


def _fine_tuning(result: GhnResult, choice: Choice) -> Table:
    starts = [(arm.name, arm.runs) for arm in result.arms] + [(RANDOM_STARTS, result.random_starts)]
    found = [(name, rate, each) for name, runs in starts for rate, each in cells.by_rate(runs).items()]
    epochs = max((len(run.accuracies) for _, _, each in found for run in each), default=0)
    return Table(
        title="test accuracy, % after each epoch of fine-tuning",
        headings=("start", "learning rate", *(f"epoch {number + 1}" for number in range(epochs))),
        rows=tuple(
            (name, f"{rate:g}", *(cells.after(each, number) for number in range(epochs)))
            for name, rate, each in found
        ),
    )


def _training_cost(result: GhnResult, choice: Choice) -> Table:
    machines = [price.machine for price in result.arms[0].prices]
    return Table(
        title="an update: cycles / energy, of which the hypernetwork with its Adam; all updates",
        headings=("arm", *machines),
        rows=tuple(
            (arm.name, *(cells.update(price, arm.steps) for price in arm.prices)) for arm in result.arms
        ),
    )


def _inference_cost(result: GhnResult, choice: Choice) -> Table:
    machines = list(dict.fromkeys(each.price.machine for each in result.inference))
    prices = {(each.precision, each.price.machine): each.price for each in result.inference}
    networks = counted(result.inference[0].networks, "network") if result.inference else "no networks"
    return Table(
        title=f"an image's cycles / energy, mean over {networks} of split {next(iter(result.splits))!r}",
        headings=("precision", *machines),
        rows=tuple(
            (name, *(cells.cost(prices[name, machine]) for machine in machines)) for name in result.precisions
        ),
    )


TABLES: dict[str, Callable[[GhnResult, Choice], Table]] = {
    "accuracy": _accuracy,
    "by_split": _by_split,
    "by_seed": _by_seed,
    "fine_tuning": _fine_tuning,
    "training_cost": _training_cost,
    "inference_cost": _inference_cost,
}


def tables_of(result: GhnResult) -> list[Table]:
    """The tables of a report: accuracy by split and statistics, fine-tuning and costs, where there are any."""
    found = [
        table(result, "accuracy", Choice(split=split, statistics=statistics))
        for split in result.splits
        for statistics in STATISTICS
    ]
    if result.random_starts:
        found.append(table(result, "fine_tuning"))
    if result.inference:
        found += [table(result, "training_cost"), table(result, "inference_cost")]
    return found


def markdown(shown: Table) -> str:
    """The table in Markdown, without its title, ending with a newline."""
    lines = [shown.headings, ("---",) * len(shown.headings), *shown.rows]
    return "".join(_line(cells) for cells in lines)


def _line(cells: Sequence[str]) -> str:
    if set(cells) == {"---"}:
        return f"|{'|'.join(cells)}|\n"
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |\n"


def _norms(choice: Choice) -> str:
    return {"batch": "batch-norms by the batch", "recalibrated": "batch-norms recalibrated"}[
        choice.statistics
    ]


def _networks(result: GhnResult, split: str) -> str:
    return f"{counted(result.splits[split], 'network')} of split {split!r}"
