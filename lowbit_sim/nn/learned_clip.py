"""A clip at a learned level in front of a layer: PACT's and CG-PACT's activation as a module (see `quant.pact`).

`LearnedClip` alone is an activation in the place of a ReLU. Attached to a layer it clips the layer's input, whatever
module made it; an emulated layer's GEMMs then multiply the clip's own codes (`owned_steps`), a native one's the
values.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from lowbit_sim.nn.emulation import EmulatedLayer, eager
from lowbit_sim.nn.learned import operand_axes
from lowbit_sim.nn.owned_steps import as_step, own_quantizer, set_step
from lowbit_sim.numerics.suggest import unknown
from lowbit_sim.ops.billing import bills_itself, kept_bytes
from lowbit_sim.ops.operand import FLOAT_BYTES
from lowbit_sim.ops.stored import memory_bytes
from lowbit_sim.quant.pact import CLIP_GRADIENTS, ClipGradient, ClipGrid, clip_step, pact
from lowbit_sim.quant.scale_state import ScaleState
from lowbit_sim.trace import VectorEvent, emit, recording

#: The name that a layer has its clip under.
INPUT_CLIP = "input_clip"


class LearnedClip(nn.Module):
    """alpha q_k(clip(x) / alpha) with a learned alpha.

    Args:
        grid: The levels.
        alpha: Where alpha starts; positive.
        gradient: Of alpha: "pact" or "cg_pact".
        layer: Path of the layer that it is attached to, for messages and traces; "" where it stands alone.

    Attributes:
        alpha: float32 [1], a parameter.

    Raises:
        ValueError: An alpha that is not positive and finite, or an unknown gradient.
    """

    def __init__(
        self, grid: ClipGrid, *, alpha: float = 8.0, gradient: ClipGradient = "cg_pact", layer: str = ""
    ) -> None:
        super().__init__()
        if not 0 < alpha < float("inf"):
            raise ValueError(f"alpha starts at a positive finite number, got {alpha}")
        if gradient not in CLIP_GRADIENTS:
            raise ValueError(unknown("gradient of alpha", gradient, CLIP_GRADIENTS))
        self.grid, self.layer = grid, layer
        self.gradient: ClipGradient = gradient
        self.alpha = nn.Parameter(torch.tensor([alpha], dtype=torch.float32))
        self._signs_are_known = False

    def forward(self, x: Tensor) -> Tensor:
        """The clipped and rounded x, in its shape and dtype."""
        return eager(_clip, self, x)

    @bills_itself  # a step is one number, and signs are asked for once
    def before(self, layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
        """The layer's forward pre-hook: clip its input, and tell its quantisers the step."""
        x = args[0] if args else kwargs["input"]
        self._check_sign(x)
        quantized = False
        if isinstance(layer, EmulatedLayer):
            step = as_step(clip_step(self.alpha, self.grid), operand_axes(layer))
            set_step(layer, "input", ScaleState(value=step, frozen=True))
            quantized = layer.emulation.op_spec.output is not None
        y = eager(_clip, self, x, quantized)
        return ((y, *args[1:]), kwargs) if args else (args, {**kwargs, "input": y})

    def extra_repr(self) -> str:
        """Bits, sides and the gradient."""
        sides = "two-sided" if self.grid.two_sided else "one-sided"
        return f"{self.grid.bits} bits, {sides}, {self.gradient}"

    def _check_sign(self, x: Tensor) -> None:
        """At the first pass, refuse a signed input that a one-sided clip would cut the negative half off.

        Raises:
            ValueError: Naming the layer.
        """
        if self._signs_are_known or self.grid.two_sided or x.is_meta:
            return
        if x.numel() and float(x.detach().min()) < 0:
            raise ValueError(
                f"layer {self.layer!r} has negative inputs, which a clip to [0, alpha] would set to 0: name it in "
                f'two_sided, as in two_sided = ["{self.layer}"], or leave it out of the clipped layers'
            )
        self._signs_are_known = True


def attach_clip(layer: nn.Module, clip: LearnedClip) -> None:
    """Clip a layer's input from now on.

    Args:
        layer: A linear layer or a convolution, native or emulated.
        clip: The clip.

    Raises:
        ValueError: A layer whose input is clipped already, or numerics that can't multiply the clip's codes.
    """
    if attached_clip(layer) is not None:
        raise ValueError(f"the input of layer {clip.layer!r} is clipped already: detach_clip(layer) first")
    if isinstance(layer, EmulatedLayer):
        own_quantizer(layer, "input", clip.grid.quantizer)
    device = next((p.device for p in layer.parameters()), None)
    layer.add_module(INPUT_CLIP, clip.to(device))
    layer.register_forward_pre_hook(clip.before, with_kwargs=True)


def attached_clip(layer: nn.Module) -> LearnedClip | None:
    """The clip of a layer's input, or None."""
    found = layer._modules.get(INPUT_CLIP)
    return found if isinstance(found, LearnedClip) else None


def learned_clips(model: nn.Module) -> dict[str, LearnedClip]:
    """Every clip of a model, by its module path."""
    return {path: module for path, module in model.named_modules() if isinstance(module, LearnedClip)}


@bills_itself
def _clip(clip: LearnedClip, x: Tensor, before_quantizer: bool = False) -> Tensor:
    y = pact(x, clip.alpha, clip.grid, clip.gradient)
    if recording():
        _bill(clip, x, y, before_quantizer)
    return y.to(x.dtype)


def _bill(clip: LearnedClip, x: Tensor, y: Tensor, before_quantizer: bool) -> None:
    """Put a clip on record, and its backward pass when the gradient arrives.

    In front of a quantiser the clip is the saturation of that conversion, which the operator bills; what is left is
    what it keeps. Backward is one pass that masks the gradient and sums what is alpha's: of CG-PACT over the input,
    of PACT over two bits an element (below, within, above).
    """
    size, calibrated = x.numel() * FLOAT_BYTES, clip.gradient == "cg_pact"
    event = partial(VectorEvent, kind="activation", layer=clip.layer)
    passed = (0, 0, 0) if before_quantizer else (x.numel(), memory_bytes(x), size)
    forward = partial(event, elements=passed[0], read_bytes=passed[1], write_bytes=passed[2])
    if not y.requires_grad:
        if not before_quantizer:
            emit(forward())
        return
    marks = -(-x.numel() // 4)
    kept = kept_bytes(x) if calibrated else marks
    emit(forward(kept_bytes=kept, keeps="operand" if calibrated else "marks"))
    reads = size + (memory_bytes(x) if calibrated else marks)
    backward = event(elements=x.numel(), read_bytes=reads, write_bytes=size + FLOAT_BYTES)
    y.register_hook(lambda _: emit(backward))
