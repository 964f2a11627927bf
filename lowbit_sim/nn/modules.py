"""Emulated layers: drop-in subclasses of torch's own, with the same parameters and state_dict.

A layer keeps what its operator needs beside the parameters in one `Emulation` value. Its step counter advances
with each training forward pass, so that every step draws fresh random bits without the caller doing anything;
`random_steps` and `set_random_steps` save and restore the counters with a checkpoint.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lowbit_sim.arith.spec import OpSpec
from lowbit_sim.numerics.random import Stream
from lowbit_sim.ops.conv import conv2d
from lowbit_sim.ops.im2col import Window, resolve_padding
from lowbit_sim.ops.linear import linear
from lowbit_sim.ops.operand import CallSite


@dataclass(frozen=True, kw_only=True)
class Emulation:
    """What makes a layer emulated.

    Args:
        spec: The numerics of its three GEMMs.
        layer: Its module path, for messages and traces.
        seed: The seed of its random bits.
        site: Its number in the model, which addresses its random bits.

    Raises:
        ValueError: A seed or site that is not an unsigned integer of 32 bits.
    """

    spec: OpSpec
    layer: str
    seed: int
    site: int

    def __post_init__(self) -> None:
        Stream(seed=self.seed, site=self.site)  # refuses what could not address random bits later


class RecomputationError(RuntimeError):
    """A forward pass that runs inside a backward pass and rounds stochastically."""


def _refuse_recomputation(emulation: Emulation) -> None:
    # Activation checkpointing repeats the forward pass while the backward pass runs, which is what this asks for.
    if torch._C._current_graph_task_id() == -1:
        return
    output = emulation.spec.output
    if output is not None and (output.lhs.rounding.is_stochastic or output.rhs.rounding.is_stochastic):
        raise RecomputationError(
            f"layer {emulation.layer!r} runs forward inside a backward pass (activation checkpointing) and rounds "
            "its forward operands stochastically: the repeated pass would draw other random bits than the first. "
            "Round the forward operands to nearest, or train without checkpointing"
        )


def _next_call(layer: Linear | Conv2d) -> CallSite:
    """Where this forward pass runs; a training pass moves the layer's step on.

    Raises:
        RecomputationError: The pass repeats another one, whose random bits it would not draw again.
    """
    emulation = layer.emulation
    _refuse_recomputation(emulation)
    at = CallSite(layer=emulation.layer, seed=emulation.seed, step=layer.random_step, site=emulation.site)
    if layer.training and torch.is_grad_enabled():
        layer.random_step += 1
    return at


def _eager(operator: Callable[[Any, Tensor], Tensor], layer: nn.Module, x: Tensor) -> Tensor:
    """Run an operator outside of any graph that torch.compile is tracing.

    Its kernels are not torch's, so a compiled model breaks its graph here and goes on after it. The operator is
    marked only while something compiles, because marking it imports the whole of torch's compiler.
    """
    if torch.compiler.is_compiling():
        return torch.compiler.disable(operator)(layer, x)  # pyright: ignore[reportCallIssue]
    return operator(layer, x)


class Linear(nn.Linear):
    """`torch.nn.Linear` with emulated GEMMs; made by `convert`."""

    emulation: Emulation
    random_step: int

    def forward(self, input: Tensor) -> Tensor:
        """[..., in_features] to [..., out_features]; see `ops.linear`."""
        return _eager(_linear, self, input)

    def extra_repr(self) -> str:
        """The native layer's line, and the numerics."""
        return f"{super().extra_repr()}, {self.emulation.spec}"


class Conv2d(nn.Conv2d):
    """`torch.nn.Conv2d` with emulated GEMMs; made by `convert`."""

    emulation: Emulation
    random_step: int

    def forward(self, input: Tensor) -> Tensor:
        """[N, C, H, W] to [N, O, OH, OW]; see `ops.conv`."""
        return _eager(_conv2d, self, input)

    def extra_repr(self) -> str:
        """The native layer's line, and the numerics."""
        return f"{super().extra_repr()}, {self.emulation.spec}"


def _linear(layer: Linear, x: Tensor) -> Tensor:
    return linear(x, layer.weight, layer.bias, layer.emulation.spec, _next_call(layer))


def _conv2d(layer: Conv2d, x: Tensor) -> Tensor:
    padding = layer.padding
    if layer.padding_mode != "zeros":
        x, padding = F.pad(x, layer._reversed_padding_repeated_twice, mode=layer.padding_mode), (0, 0)
    window = Window(
        kernel=layer.kernel_size,  # type: ignore[arg-type]
        stride=layer.stride,  # type: ignore[arg-type]
        dilation=layer.dilation,  # type: ignore[arg-type]
        padding=resolve_padding(padding, layer.kernel_size, layer.dilation),  # type: ignore[arg-type]
        groups=layer.groups,
    )
    return conv2d(x, layer.weight, layer.bias, window, layer.emulation.spec, _next_call(layer))


#: The native layers that can be emulated, and their emulated twins.
EMULATED: dict[type[nn.Module], type[Linear] | type[Conv2d]] = {nn.Linear: Linear, nn.Conv2d: Conv2d}

#: Native layers that multiply matrices and have no emulated twin: converting one is refused, not skipped.
WITHOUT_TWIN: tuple[type[nn.Module], ...] = (
    nn.Linear,
    nn.Bilinear,
    nn.modules.conv._ConvNd,
    nn.RNNBase,
    nn.RNNCellBase,
    nn.MultiheadAttention,
)


def emulate(native: nn.Module, emulation: Emulation) -> nn.Module:
    """The emulated twin of a native layer. It shares the native layer's parameters, hooks and flags."""
    twin = EMULATED[type(native)]
    layer = twin.__new__(twin)
    layer.__dict__.update(native.__dict__)
    layer.emulation = emulation
    layer.random_step = 0
    return layer


def native_twin(layer: Linear | Conv2d) -> nn.Module:
    """The native layer that an emulated one stands for, sharing its parameters, hooks and flags."""
    native_type = next(native for native, twin in EMULATED.items() if twin is type(layer))
    native = native_type.__new__(native_type)
    state: dict[str, Any] = {k: v for k, v in layer.__dict__.items() if k not in ("emulation", "random_step")}
    native.__dict__.update(state)
    return native
