"""Events of what a model runs natively: its products (`native_products.py`) and all other functions of torch.

A function mode of torch sees every function that is called while a module of the model runs, whether by a module of
torch's or by a model's own `forward`: `nn.ReLU`, `F.relu`, `x + y` and `torch.softmax` are billed alike, to the path
of the innermost module that runs. Operators that emit their own events are left alone (`ops.billing`). What a
function costs is the table of `native_functions.py`; products are GEMMs in float32. A user's own autograd functions
are billed for what their `forward` calls, not for their `backward`.

Under `torch.autocast` the operands of a product are cast first, which costs a pass over each tensor that is not yet
in the format, forward and backward, and the product's GEMMs are those of that format.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from lowbit_sim.nn.emulation import EmulatedLayer
from lowbit_sim.nn.products import REFUSED
from lowbit_sim.nn.registry import MULTIPLYING, layer_type
from lowbit_sim.ops.attention import PARTS
from lowbit_sim.ops.billing import billed_inside
from lowbit_sim.ops.operand import CallSite
from lowbit_sim.trace import changed
from lowbit_sim.training.native_functions import Call, bill_function, stored_sizes
from lowbit_sim.training.native_products import BILLED, LOOK_UPS, bill_product, unknown_cost

#: Layers that multiply and are billed by the functions they call.
_KNOWN = (nn.Linear, nn.modules.conv._ConvNd, nn.Embedding)


@contextmanager
def native_events(model: nn.Module) -> Iterator[None]:
    """Emit the events of what a model runs natively while the block runs; the hooks go when it ends.

    Args:
        model: The model, whose forward and backward passes run inside the block.

    Raises:
        ValueError: A module or a product whose cost is not known; the message names it.
    """
    watch = _Functions()
    handles = []
    try:
        for path, module in model.named_modules():
            _refuse_unknown(path, module)
            handles.append(module.register_forward_pre_hook(partial(_enter, watch, path), prepend=True))
            handles.append(module.register_forward_hook(partial(_leave, watch), always_call=True))
        with watch:
            yield
    finally:
        for handle in handles:
            handle.remove()


def _refuse_unknown(path: str, module: nn.Module) -> None:
    if isinstance(module, MULTIPLYING) and not isinstance(module, (EmulatedLayer, *_KNOWN)):
        raise unknown_cost(path, type(module).__name__)


def _enter(watch: _Functions, path: str, module: nn.Module, inputs: tuple[Any, ...]) -> None:
    watch.enter(path, module)


def _leave(watch: _Functions, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
    watch.leave()


class _Functions(TorchFunctionMode):
    """Bills the functions that are called while a module runs."""

    def __init__(self) -> None:
        super().__init__()
        self.running: list[tuple[str, nn.Module]] = []
        self.products: list[int] = []

    def enter(self, path: str, module: nn.Module) -> None:
        """A module's forward pass starts."""
        self.running.append((path, module))
        self.products.append(0)

    def leave(self) -> None:
        """It ends."""
        self.running.pop()
        self.products.pop()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        # No module runs in a backward pass, but for activations that are computed again, which costs again.
        if not self.running or billed_inside():
            return func(*args, **kwargs)
        name = getattr(func, "__name__", "")
        if name in BILLED and name not in LOOK_UPS:
            args, kwargs = self._cast((args, kwargs))
        versions, read = _version(args), stored_sizes(args, kwargs)
        result = func(*args, **kwargs)
        if name in BILLED or name in REFUSED:
            if isinstance(result, Tensor) and result.is_floating_point():
                bill_product(name, result, args, kwargs, *self._place())
        else:
            in_place = _version(args) != versions
            call = Call(name=name, args=args, kwargs=kwargs, result=result, in_place=in_place, read=read)
            bill_function(call, self.running[-1][0])
        return result

    def _cast(self, value: Any) -> Any:
        """The operands of a product as autocast would cast them, with the casts on record."""
        if isinstance(value, Tensor):
            device = value.device.type
            if value.dtype != torch.float32 or not _casts(device):
                return value
            dtype = torch.get_autocast_dtype(device)
            copied = value.numel() * dtype.itemsize if isinstance(value, nn.Parameter) else 0
            # A product keeps its inputs itself, but of weights only what is a second copy.
            with changed(lambda event: replace(event, kept_bytes=copied)):
                return self.__torch_function__(torch.Tensor.to, (), (value, dtype))
        if isinstance(value, dict):
            return {k: self._cast(v) for k, v in value.items()}
        if isinstance(value, tuple | list):
            return type(value)(map(self._cast, value))
        return value

    def _place(self) -> tuple[str, CallSite]:
        """The module that calls a product, and the product's own name: a layer's is the layer's."""
        path, module = self.running[-1]
        number, self.products[-1] = self.products[-1], self.products[-1] + 1
        at = CallSite(layer=path)
        if layer_type(type(module)) is None:
            at = at.operator(PARTS * number, str(number))
        return path, at


def _casts(device: str) -> bool:
    """Whether autocast is on for a kind of device; there is none for tensors without data."""
    return device != "meta" and torch.is_autocast_enabled(device)


def _version(args: tuple[Any, ...]) -> int | None:
    """How often the first argument was overwritten."""
    return args[0]._version if args and isinstance(args[0], Tensor) else None
