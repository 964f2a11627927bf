"""Which arms of a study run, and whether they can on a device."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from lowbit_sim.numerics.suggest import unknown
from lowbit_sim.quant.quantizer import missing_kernel
from lowbit_sim.study import native_arms
from lowbit_sim.study.config import ArmTable, Study
from lowbit_sim.study.errors import StudyError
from lowbit_sim.study.recipes import RecipeTable


class ArmRefusedError(StudyError):
    """An arm that can't run on the device that was asked for."""


def selected(study: Study, names: Sequence[str] | None, device: torch.device) -> tuple[int, ...]:
    """The numbers of the arms that are to run, in the study's order.

    Args:
        study: The study.
        names: The arms asked for; None for all, but for native ones that the machine has no units for.
        device: What they are to train on.

    Raises:
        StudyError: A name that no arm has.
        ArmRefusedError: An arm that can't run on the device.
    """
    known = [arm.name for arm in study.arms]
    for name in names or ():
        if name not in known:
            raise StudyError(unknown("arm", name, known))
    missing = {} if names is not None else not_available(study, device)
    if len(missing) == len(known):
        missing = {}  # there is nothing else to run, so that the reason is an error
    chosen = tuple(
        i for i, name in enumerate(known) if (names is None or name in names) and name not in missing
    )
    refused = {known[i]: why for i in chosen if (why := refusal(study.arms[i], device)) is not None}
    if refused:
        able = [arm.name for arm in study.arms if refusal(arm, device) is None]
        advice = f"those that can are {', '.join(map(repr, able))}" if able else "no arm of the study can"
        arms = (
            f"arm {next(iter(refused))!r}" if len(refused) == 1 else f"arms {', '.join(map(repr, refused))}"
        )
        raise ArmRefusedError(f"{arms} can't run on {device.type}: {next(iter(refused.values()))}; {advice}")
    return chosen


def not_available(study: Study, device: torch.device) -> dict[str, str]:
    """The native arms for which a device has no units, by name, and why."""
    reasons = {arm.name: native_arms.not_available(arm.native, device) for arm in study.arms}
    return {name: why for name, why in reasons.items() if why is not None}


def refusal(arm: ArmTable, device: torch.device) -> str | None:
    """Why an arm can't train on a device, or None: whatever is emulated quantises there."""
    if (why := native_arms.not_available(arm.native, device)) is not None:
        return why
    return missing_kernel(device) if _quantises(arm) else None


def _quantises(arm: ArmTable) -> bool:
    """Whether anything but torch's own arithmetic runs in an arm: in its layers, its update or its recipes."""
    layers = all(each.native for each in (arm, *arm.rules))
    return not layers or arm.update is not None or any(map(_recipe_quantises, arm.recipes))


def _recipe_quantises(recipe: RecipeTable) -> bool:
    """Whether a recipe's table names a format of gradients, or of its own products."""
    return any(
        getattr(recipe, key, None) is not None for key in ("format", "quantizer", "gradient_quantizer")
    )
