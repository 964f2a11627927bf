"""What a study's native arms are: arithmetic of the machine's own that training runs on today.

| native | products of all three GEMMs           | beside them                                  | runs on       |
|--------|---------------------------------------|----------------------------------------------|---------------|
| true   | float32 ("fp32" says the same)        |                                              | cpu, cuda     |
| "tf32" | float32 rounded to TF32's 19 bits     | tensors stay in float32                      | cuda from 8.0 |
| "bf16" | bfloat16 by `torch.autocast`          | weights, gradients and loss in float32       | cpu, cuda     |
| "fp16" | float16 by `torch.autocast`           | the same, and a scaled loss (`loss_scaling`) | cpu, cuda     |
| "int8" | INT8 on integer units (`native_int8`) | the rest in float32; nothing is counted      | cuda, VNNI    |

This module reads no tables, so that arms can be run where pydantic is missing.
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import torch
from torch import nn

from lowbit_sim.arith.backends.cuda_products import is_sound
from lowbit_sim.arith.backends.torch_exact import int_mm_is_sound
from lowbit_sim.arith.spec import OpSpec
from lowbit_sim.nn.native_int8 import MAC, convert_to_native_int8, why_no_integer_units
from lowbit_sim.numerics.catalog import INT8
from lowbit_sim.trace import Event, GemmEvent, Operand, changed
from lowbit_sim.training.autocast import Autocast

#: A native arm that is not float32.
NativeMode = Literal["tf32", "bf16", "fp16", "int8"]
NATIVE_MODES: tuple[NativeMode, ...] = get_args(NativeMode)

#: What an arm says of itself: whether it is native, and how.
Native = NativeMode | bool

_TF32 = Operand(format="tf32", bits=19)


@dataclass(frozen=True, kw_only=True)
class _Kind:
    """A native mode.

    Attributes:
        operands: What is multiplied, in words.
        accumulator: What adds, in words.
        autocast: The format that products are cast to, if they are.
    """

    operands: str
    accumulator: str = "fp32"
    autocast: Autocast | None = None


_KINDS: dict[NativeMode, _Kind] = {
    "tf32": _Kind(operands="tf32"),
    "bf16": _Kind(operands="bf16 under autocast", autocast="bf16"),
    "fp16": _Kind(operands="fp16 under autocast, loss scaled", autocast="fp16"),
    "int8": _Kind(operands="int8 on integer units", accumulator="32-bit wrap"),
}


def operands(native: NativeMode) -> str:
    """What a mode multiplies, in words."""
    return _KINDS[native].operands


def accumulator(native: NativeMode) -> str:
    """What adds its products, in words."""
    return _KINDS[native].accumulator


def hyperparameters(native: Native) -> dict[str, Any]:
    """What a native arm's `TrainingSettings` have beside its hyperparameters."""
    if isinstance(native, bool):
        return {}
    return {"autocast": _KINDS[native].autocast, "tf32": native == "tf32"}


def op_spec(native: Native) -> OpSpec | None:
    """The numerics of a native arm's layers; None where torch's own layers run."""
    return OpSpec.uniform(INT8, mac=MAC) if native == "int8" else None


def as_trained(model: nn.Module, native: Native, float32_layers: Collection[str] = ()) -> nn.Module:
    """A model of torch's layers as a native arm trains it.

    Args:
        model: Changed in place.
        native: The arm's mode.
        float32_layers: Paths of layers that stay as they are.

    Raises:
        UnsupportedModuleError: A layer that the mode has no products for.
    """
    return convert_to_native_int8(model, float32_layers) if native == "int8" else model


def as_priced(native: Native) -> AbstractContextManager[None]:
    """Have the float32 GEMMs that the block emits be those of the mode: TF32's, in its 19 bits."""
    return changed(_in_tf32) if native == "tf32" else nullcontext()


def _in_tf32(event: Event) -> Event:
    return replace(event, lhs=_TF32, rhs=_TF32) if isinstance(event, GemmEvent) else event


def not_available(native: Native, device: torch.device) -> str | None:
    """Why a device can't run a native arm, with what would be right; None where it can."""
    if native == "tf32":
        return _no_tf32(device)
    if native == "int8":
        why = why_no_integer_units(device)
        if why is None and not _is_sound(device):
            why = "torch._int_mm returns wrong sums on this one"
        advice = 'format = "int8" emulates it'
        return None if why is None else f"INT8 products need integer units, and {why}; {advice}"
    return None


def _is_sound(device: torch.device) -> bool:
    """Whether torch's integer products are right here, checked once per process."""
    return int_mm_is_sound() if device.type == "cpu" else is_sound("int8", str(device))


def _no_tf32(device: torch.device) -> str | None:
    if device.type != "cuda":
        advice = 'native = true runs float32 there, format = "tf32" emulates TF32'
        return f"TF32 is a mode of a CUDA device's tensor cores, and the device is {device.type}; {advice}"
    capability = torch.cuda.get_device_capability(device)
    if capability < (8, 0):
        have = ".".join(map(str, capability))
        return f"TF32 is there from compute capability 8.0 on, and this device has {have}; use native = true"
    return None
