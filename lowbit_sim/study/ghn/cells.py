"""The cells of a hypernetwork study's tables: means, errors and costs in words."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence

from lowbit_sim.study.ghn.results import FineTuning, GhnArm, GhnRun, MachinePrice
from lowbit_sim.study.quantities import with_prefix

DASH = "-"


def by_network(arm: GhnArm, split: str, statistic: str, precision: str) -> dict[int, list[float]]:
    """Accuracies of a split's networks, of each with each seed.

    Args:
        arm: Whose.
        split: The split.
        statistic: Of the batch-norms.
        precision: Of the layers.
    """
    found: dict[int, list[float]] = {}
    for run in arm.runs:
        for score in run.scores:
            if score.split == split:
                found.setdefault(score.number, []).append(score.accuracies[precision][statistic])
    return found


def summary(accuracies: Mapping[int, Sequence[float]]) -> str:
    """Mean ± standard error over the networks, and the largest of all.

    Args:
        accuracies: As `by_network` gives them.
    """
    if not accuracies:
        return DASH
    largest = max(value for values in accuracies.values() for value in values)
    return f"{mean_and_error(map(statistics.fmean, accuracies.values()))} ({100 * largest:.1f})"


def mean_and_error(values: Iterable[float]) -> str:
    """Mean and standard error of shares, in percent; of one share the share."""
    known = [100 * value for value in values]
    if len(known) < 2:
        return f"{known[0]:.1f}" if known else DASH
    return f"{statistics.fmean(known):.1f} ± {statistics.stdev(known) / math.sqrt(len(known)):.1f}"


def seeds(arm: GhnArm, split: str, statistic: str, precision: str) -> str:
    """The mean accuracy of each seed, and their sample standard deviation; arguments as in `by_network`."""
    means = [
        100 * statistics.fmean(s.accuracies[precision][statistic] for s in run.scores if s.split == split)
        for run in arm.runs
        if any(score.split == split for score in run.scores)
    ]
    if not means:
        return DASH
    shown = ", ".join(f"{mean:.1f}" for mean in means)
    return shown if len(means) == 1 else f"{shown}: ± {statistics.stdev(means):.1f}"


def by_rate(runs: Sequence[GhnRun]) -> dict[float, list[FineTuning]]:
    """The fine-tunings of several runs by their learning rate."""
    found: dict[float, list[FineTuning]] = {}
    for run in runs:
        for each in run.fine_tunings:
            found.setdefault(each.learning_rate, []).append(each)
    return found


def after(tunings: Sequence[FineTuning], epoch: int) -> str:
    """Over the networks, each the mean of its seeds; of those that got so far."""
    found: dict[int, list[float]] = {}
    for each in tunings:
        if epoch < len(each.accuracies):
            found.setdefault(each.number, []).append(each.accuracies[epoch])
    return mean_and_error(map(statistics.fmean, found.values()))


def cost(price: MachinePrice) -> str:
    """Cycles and energy, or a dash where the machine can't run it."""
    if price.refusal:
        return DASH
    return f"{with_prefix(price.cycles, smallest=0)} / {with_prefix(price.energy_pj * 1e-12, 'J')}"


def update(price: MachinePrice, steps: int) -> str:
    """An update's cost, the hypernetwork's share of its energy, and the energy of all updates.

    Args:
        price: Of an update.
        steps: How many there are.
    """
    if price.refusal:
        return DASH
    own = price.energy_by_role.get("update", 0.0) / price.energy_pj
    whole = with_prefix(steps * price.energy_pj * 1e-12, "J")
    return f"{cost(price)}, {100 * own:.0f} %; {whole}"
