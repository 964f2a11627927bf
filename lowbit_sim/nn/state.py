"""What a converted model remembers beside its parameters, to be saved with a checkpoint.

A converted model's state_dict has a native model's keys and no others (learned scales apart), so that weights move
freely between native and emulated models. What a resumed run needs to go on bit for bit is kept apart: how many steps
each layer has drawn random bits for, and the running scales of rules with a memory.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from lowbit_sim.nn.convert import random_steps, set_random_steps
from lowbit_sim.nn.elementwise import ElementwiseRounding, attachments
from lowbit_sim.nn.emulation import EmulatedLayer
from lowbit_sim.quant.scale_state import ScaleState


def emulation_state(model: nn.Module) -> dict[str, Any]:
    """Random steps and running scales by module path: numbers, names and tensors, for `torch.save`."""
    scales = {
        path: {
            f"{role}/{side}": {
                "value": None if s.value is None else s.value.detach().clone(),
                "calls": s.calls,
            }
            for (role, side), s in layer.scale_states.items()
        }
        for path, layer in _layers(model).items()
        if layer.scale_states
    }
    return {"random_steps": random_steps(model), "scales": scales}


def load_emulation_state(model: nn.Module, state: dict[str, Any]) -> None:
    """Put back what `emulation_state` gave, so that training goes on with the same bits.

    Raises:
        ValueError: A state of another model, or not such a state.
    """
    if not isinstance(state, dict) or set(state) != {"random_steps", "scales"}:
        raise ValueError(
            "an emulation state has the keys random_steps and scales: pass what emulation_state() gave"
        )
    layers = _layers(model)
    odd = sorted(state["scales"].keys() - layers.keys())
    if odd:
        raise ValueError(f"running scales are for layers that the model does not have: {', '.join(odd)}")
    set_random_steps(model, state["random_steps"])
    for path, layer in layers.items():
        layer.scale_states.clear()
        for place, kept in state["scales"].get(path, {}).items():
            role, _, side = place.rpartition("/")
            value = kept["value"]
            layer.scale_states[role, side] = ScaleState(
                value=None if value is None else value.clone(), calls=kept["calls"]
            )


def _layers(model: nn.Module) -> dict[str, EmulatedLayer | ElementwiseRounding]:
    layers = {path: m for path, m in model.named_modules() if isinstance(m, EmulatedLayer)}
    return {**layers, **dict(attachments(model))}
