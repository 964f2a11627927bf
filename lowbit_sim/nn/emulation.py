"""What every emulated layer has beside its parameters: its numerics, and the address of its random bits.

A layer keeps what its operator needs beside the parameters in one `Emulation` value. Its step counter advances
with each training forward pass, so that every step draws fresh random bits without the caller doing anything;
`random_steps` and `set_random_steps` save and restore the counters with a checkpoint.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from lowbit_sim.arith.float_mac import FloatMacUnit
from lowbit_sim.arith.spec import GemmSpec, OpSpec
from lowbit_sim.nn.functional_spec import LayerSpec, forward_gemms
from lowbit_sim.nn.recomputation import RecomputationError, is_repeated, next_step
from lowbit_sim.numerics.random import Stream
from lowbit_sim.ops.operand import CallSite, ScaleStates
from lowbit_sim.ops.shard import Shard
from lowbit_sim.ops.tally import Tallies
from lowbit_sim.trace import recording

#: Training steps from one that counts overflow, clipping and underflow to the next.
COUNT_EVERY = 16


@dataclass(frozen=True, kw_only=True)
class Emulation:
    """What makes a layer emulated.

    Args:
        spec: The numerics of its GEMMs.
        layer: Its module path, for messages and traces.
        seed: The seed of its random bits.
        site: Its number in the model, which addresses its random bits.

    Raises:
        ValueError: A seed or site that is not an unsigned integer of 32 bits.
    """

    spec: LayerSpec
    layer: str
    seed: int
    site: int

    def __post_init__(self) -> None:
        Stream(seed=self.seed, site=self.site)  # refuses what could not address random bits later

    @functools.cached_property
    def draws(self) -> bool:
        """Whether a forward pass has another result when it draws other random bits."""
        return any(map(_draws, forward_gemms(self.spec)))

    @functools.cached_property
    def remembers(self) -> bool:
        """Whether a forward pass has another result when it runs again, as its scales look at past tensors."""
        return any(map(_remembers, forward_gemms(self.spec)))

    @property
    def op_spec(self) -> OpSpec:
        """The numerics of a layer that has no others: of each but attentions and modules that call products."""
        assert isinstance(self.spec, OpSpec)
        return self.spec


class EmulatedLayer(nn.Module):
    """Base of the emulated layers; made by `convert`, never constructed.

    Attributes:
        emulation: Its numerics and the address of its random bits.
        random_step: How many training forward passes it has made.
        scale_states: Running scales of its operands, for scale rules that look at past steps.
        tallies: What its GEMMs lost to low precision (see `nn.counts`).
        shard: This process' slice of the batch (see `set_shard`), or None for the whole batch.
    """

    emulation: Emulation
    random_step: int
    scale_states: ScaleStates
    tallies: Tallies
    shard: Shard | None = None

    def extra_repr(self) -> str:
        """The native layer's line, and the numerics."""
        return ", ".join(filter(None, (super().extra_repr(), str(self.emulation.spec))))


def _draws(spec: GemmSpec | None) -> bool:
    if spec is None:
        return False
    stochastic_mac = isinstance(spec.mac, FloatMacUnit) and spec.mac.rounding.is_stochastic
    return spec.lhs.rounding.is_stochastic or spec.rhs.rounding.is_stochastic or stochastic_mac


def _remembers(spec: GemmSpec | None) -> bool:
    return spec is not None and (spec.lhs.is_stateful or spec.rhs.is_stateful)


def _counts(layer: EmulatedLayer, step: int) -> bool:
    return layer.training and torch.is_grad_enabled() and (recording() or step % COUNT_EVERY == 0)


def next_call(layer: EmulatedLayer) -> CallSite:
    """Where this forward pass runs; a training pass moves the layer's step on, a recomputation has its first pass's.

    Raises:
        RecomputationError: The pass repeats another one, whose random bits or scales are not known.
    """
    emulation = layer.emulation
    if is_repeated() and emulation.remembers:
        raise RecomputationError(
            f"layer {emulation.layer!r} runs forward inside a backward pass (activation checkpointing), but its "
            "forward operands have running scales, which have moved on since: use scales without a memory, or train "
            "without checkpointing"
        )
    for state in layer.scale_states.values():
        state.frozen = not layer.training  # an evaluation must not move running scales
    step = next_step(layer, layer.training, emulation.draws, emulation.layer)
    return CallSite(
        layer=emulation.layer,
        seed=emulation.seed,
        step=step,
        site=emulation.site,
        states=layer.scale_states,
        tallies=layer.tallies if _counts(layer, step) else None,
        shard=layer.shard,
    )


def eager(operator: Callable[..., Any], layer: Any, *inputs: Any) -> Any:
    """Run an operator outside of any graph that torch.compile is tracing.

    Its kernels are not torch's, so a compiled model breaks its graph here and goes on after it. The operator is
    marked only while something compiles, because marking it imports the whole of torch's compiler.
    """
    if torch.compiler.is_compiling():
        return torch.compiler.disable(operator)(layer, *inputs)  # pyright: ignore[reportCallIssue]
    return operator(layer, *inputs)
