"""All that a run carries from step to step, taken out and put back for a checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from lowbit_sim.nn.state import emulation_state, load_emulation_state
from lowbit_sim.training.device import device_of
from lowbit_sim.training.loss_scaling import LossScaling
from lowbit_sim.training.metrics import EpochMetrics, epoch_metrics
from lowbit_sim.training.recipe import Stateful


def learning_state(
    model: nn.Module,
    optimizer: Optimizer,
    recipe: Stateful,
    order: torch.Generator,
    scaling: LossScaling | None = None,
) -> dict[str, Any]:
    """Everything that the coming steps depend on.

    Args:
        model: Its parameters and buffers, and the emulation's counters and running scales.
        optimizer: Its state_dict.
        recipe: Its state.
        order: The generator that shuffles the examples.
        scaling: Of the loss, if it is scaled.
    """
    device = device_of(model)
    return {
        "model": dict(model.state_dict()),
        "emulation": emulation_state(model),
        "optimizer": optimizer.state_dict(),
        "recipes": recipe.state_dict(),
        "scaling": None if scaling is None else scaling.state_dict(),
        "order": order.get_state(),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
    }


def load_learning_state(
    state: dict[str, Any],
    model: nn.Module,
    optimizer: Optimizer,
    recipe: Stateful,
    order: torch.Generator,
    scaling: LossScaling | None = None,
) -> None:
    """Put back what `learning_state` gave, into objects that were made as those were, on the model's device."""
    model.load_state_dict(state["model"])
    load_emulation_state(model, state["emulation"])
    optimizer.load_state_dict(state["optimizer"])
    recipe.load_state_dict(state["recipes"])
    if scaling is not None:
        scaling.load_state_dict(state["scaling"])
    order.set_state(state["order"])
    torch.set_rng_state(state["torch"])
    if state["cuda"] is not None:
        torch.cuda.set_rng_state(state["cuda"], device_of(model))


def progress_state(epochs: Sequence[EpochMetrics], step_seconds: Sequence[float]) -> dict[str, Any]:
    """How far a run is: its metrics and the times of its steps."""
    times = torch.tensor(step_seconds, dtype=torch.float64)
    return {"epochs": [asdict(epoch) for epoch in epochs], "step_seconds": times}


def load_progress_state(state: dict[str, Any]) -> tuple[list[EpochMetrics], list[float]]:
    """The metrics and the times of `progress_state`."""
    return [epoch_metrics(epoch) for epoch in state["epochs"]], state["step_seconds"].tolist()
