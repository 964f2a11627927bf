"""Events of the products that native code runs, whether a layer or a module's own forward calls them.

A function mode of torch sees each product that is called while a module runs. The native function gives the result.
Its events are those of its emulation (`nn.products`) with every GEMM native, run on tensors without data: forward at
once, backward when the gradient of the result arrives. So a native product is billed the GEMMs that an emulated one
is, an attention its softmax too.

A layer's GEMMs have its path; the products of any other module are numbered in the order of its calls, "path#0",
"path#1". What emulated layers run is their own to bill. Integer products are not counted.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from lowbit_sim.arith.spec import OpSpec
from lowbit_sim.nn.functional_spec import FunctionalSpec
from lowbit_sim.nn.products import PRODUCTS, REFUSED, bind
from lowbit_sim.nn.registry import layer_type
from lowbit_sim.ops.attention import PARTS
from lowbit_sim.ops.operand import CallSite

_NATIVE = FunctionalSpec(OpSpec(output=None, grad_input=None, grad_weight=None))


def unknown_cost(path: str, what: str) -> ValueError:
    """The error of a module, or of a product that a module calls, that can't be billed."""
    return ValueError(
        f"the cost of module {path!r} ({what}) is not known: known are Linear, convolutions, norms, pools, products "
        "that a module calls as functions (see nn.products), and modules without parameters"
    )


class NativeProducts(TorchFunctionMode):
    """Emits the events of native products while it is active; tell it which module runs.

    Args:
        emulated: Module types that emit their own events.
    """

    def __init__(self, emulated: tuple[type[nn.Module], ...]) -> None:
        super().__init__()
        self.emulated = emulated
        self.running: list[tuple[str, nn.Module]] = []
        self.calls: list[int] = []

    def enter(self, path: str, module: nn.Module) -> None:
        """A module's forward pass starts."""
        self.running.append((path, module))
        self.calls.append(0)

    def leave(self) -> int:
        """It ends: how many products it called itself."""
        self.running.pop()
        return self.calls.pop()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        y = func(*args, **kwargs)
        name = getattr(func, "__name__", "")
        # No module runs in a backward pass, but for activations that are computed again, which costs again.
        if not self.running or isinstance(self.running[-1][1], self.emulated):
            return y
        if (name in PRODUCTS or name in REFUSED) and isinstance(y, Tensor) and not _is_exact(y):
            self._bill(name, y, args, kwargs)
        return y

    def _bill(self, name: str, y: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        path, module = self.running[-1]
        number, self.calls[-1] = self.calls[-1], self.calls[-1] + 1
        at = CallSite(layer=path)
        if layer_type(type(module)) is None:
            at = at.operator(PARTS * number, str(number))
        if name in REFUSED:
            raise unknown_cost(path, f"its call of {name}")
        try:
            bound = bind(PRODUCTS[name].parameters, *_shapes_only((args, kwargs)))
            billed = PRODUCTS[name].run(_NATIVE, at, **bound)
        except (TypeError, ValueError) as error:
            raise unknown_cost(path, f"its call of {name}: {error}") from error
        if y.requires_grad:
            y.register_hook(lambda _: _bill_gradients(billed))


def _is_exact(y: Tensor) -> bool:
    return not (y.is_floating_point() or y.is_complex())


def _bill_gradients(billed: Tensor) -> None:
    if billed.requires_grad:
        billed.backward(torch.empty_like(billed), retain_graph=True)


def _shapes_only(value: Any) -> Any:
    """The same with tensors that have no data."""
    if isinstance(value, Tensor):
        needs = value.requires_grad and torch.is_grad_enabled()
        return value.detach().to("meta").requires_grad_(needs)
    if isinstance(value, dict):
        return {k: _shapes_only(v) for k, v in value.items()}
    if isinstance(value, tuple | list):
        return type(value)(map(_shapes_only, value))
    return value
