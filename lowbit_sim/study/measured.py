"""What was measured of an arm's training steps, for a report's cells, and beside it what a machine's profile says.

A profile is the profile of the hardware that trained if the words of its name are among the hardware's: "h200" is
that of "NVIDIA H200". One that `lowbit-sim calibrate` wrote has "measured" before them.
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Mapping

from lowbit_sim.study.quantities import with_prefix
from lowbit_sim.study.results import ArmResult, Price, StudyResult
from lowbit_sim.study.trajectory import last_values

_CALIBRATED = "measured"
_NOT = "not measured"


def is_profile_of(machine: str, hardware: str) -> bool:
    """Whether the machine of a profile is the hardware of that name."""
    words = _words(machine) - {_CALIBRATED}
    return bool(words) and words <= _words(hardware)


def _words(name: str) -> set[str]:
    return set(re.findall("[a-z0-9]+", name.lower()))


def energy(arm: ArmResult) -> str | None:
    """Energy of a step, with its unit."""
    return None if arm.energy_per_step_j is None else with_prefix(arm.energy_per_step_j, "J")


def memory(arm: ArmResult) -> str | None:
    """Peak memory of a step, with its unit."""
    return None if arm.peak_memory_bytes is None else f"{arm.peak_memory_bytes / 2**20:.1f} MiB"


def beside(arm: ArmResult, price: Price) -> str | None:
    """Measured time and energy of a step over those of its price: "1.25 / -"; None where either has none."""
    if price.cost is None or not arm.seconds_per_step or not price.cost.seconds:
        return None
    modelled_j = price.cost.energy_pj * 1e-12
    joules = arm.energy_per_step_j
    energy_ratio = f"{joules / modelled_j:.3g}" if joules is not None and modelled_j else "-"
    return f"{arm.seconds_per_step / price.cost.seconds:.3g} / {energy_ratio}"


def in_words(study: StudyResult) -> str:
    """How the figures were measured, where, and what was not measured and why; "" in an older record."""
    if not study.measured_how:
        return ""
    how = [f"{what} {_how(study.measured_how, what)}" for what in ("time", "energy", "memory")]
    return f" On {study.hardware or 'hardware not known'}: {'; '.join(how)}."


def _how(known: Mapping[str, str], what: str) -> str:
    text = known.get(what, _NOT)
    return text if text.startswith(_NOT) else f"by {text}"


def unavailable_in_words(study: StudyResult) -> str:
    """The native arms that the machine has no units for, and why; "" where there are none."""
    arms = [f"{name} ({why})" for name, why in study.unavailable.items()]
    return f" Not available here: {'; '.join(arms)}." if arms else ""


def recalibrated(arm: ArmResult) -> str | None:
    """The accuracy in percent with recalibrated batch-norms, mean and deviation; None where none was measured."""
    known = [100 * value for value in last_values(arm, "recalibrated_accuracy")]
    if not known:
        return None
    mean = f"{statistics.fmean(known):.2f}"
    return mean if len(known) == 1 else f"{mean} ± {statistics.stdev(known):.2f}"
