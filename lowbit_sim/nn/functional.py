"""Products that a module's own forward pass calls as functions, emulated without a change to the module.

`torch.overrides.TorchFunctionMode`, torch's public way to stand between a program and its functions, is active while
the module's forward runs. Calls of the module's children are left alone: those are layers with rules of their own.
The products are numbered in the order of the calls, "path#0", "path#1", ...; the number addresses their random bits.

Functions that sum products but can't be emulated are refused by name. Integer products stay native (they are exact),
and so do outer products, which sum nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.overrides import TorchFunctionMode, _get_current_function_mode

from lowbit_sim.nn.dynamic import DynamicTwin
from lowbit_sim.nn.emulation import eager, next_call
from lowbit_sim.nn.functional_spec import FunctionalSpec
from lowbit_sim.nn.products import PRODUCTS, REFUSED, bind
from lowbit_sim.nn.recomputation import checkpoint_depth
from lowbit_sim.ops.attention import PARTS
from lowbit_sim.ops.operand import CallSite


class UnsupportedFunctionError(ValueError):
    """A module calls a product that can't be emulated."""


class FunctionalLayer(DynamicTwin):
    """Base of the twins of modules whose forward pass calls products as functions."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The native forward pass, its products emulated."""
        return eager(_forward, self, args, kwargs)


def _forward(layer: FunctionalLayer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    spec = layer.emulation.spec
    assert isinstance(spec, FunctionalSpec)
    mode = _Products(spec, next_call(layer))
    with mode, _children_apart(mode):
        return layer.native_type.forward(layer, *args, **kwargs)


@contextmanager
def _children_apart(mode: _Products) -> Iterator[None]:
    """Tell the mode when a module that the forward pass calls starts and ends, whatever module it is."""

    def enter(module: nn.Module, args: Any) -> None:
        mode.child_starts()

    def leave(module: nn.Module, args: Any, output: Any) -> None:
        mode.child_ends()

    handles = [
        register_module_forward_pre_hook(enter),
        register_module_forward_hook(leave, always_call=True),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
        mode.come_back()  # after an interrupt, which runs no hooks


class _Products(TorchFunctionMode):
    """Emulates the products that are called while no child is running."""

    def __init__(self, spec: FunctionalSpec, at: CallSite) -> None:
        super().__init__()
        self.spec, self.at = spec, at
        self.calls = 0
        self.checkpoints = checkpoint_depth()
        self.depth = 0
        self.away = False
        self.thread = threading.get_ident()

    def child_starts(self) -> None:
        """Count the child; while one runs, the mode is off torch's stack if it can be, as each call costs time."""
        # The hooks are global: modules of other threads pass here too.
        if threading.get_ident() != self.thread:
            return
        self.depth += 1
        if self.depth == 1 and _get_current_function_mode() is self:
            self.__exit__(None, None, None)
            self.away = True

    def child_ends(self) -> None:
        """Undo `child_starts`."""
        if threading.get_ident() != self.thread:
            return
        self.depth -= 1
        if self.depth == 0:
            self.come_back()

    def come_back(self) -> None:
        """Be on torch's stack again."""
        if self.away:
            self.away = False
            self.__enter__()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if self.depth or (name not in PRODUCTS and name not in REFUSED) or not _has_floats((args, kwargs)):
            return func(*args, **kwargs)
        if name in REFUSED:
            raise UnsupportedFunctionError(
                f"module {self.at.layer!r} calls {name!r}, which can't be emulated: {REFUSED[name]}. Take the "
                "module out of its rule, or write the call as matmul"
            )
        if checkpoint_depth() > self.checkpoints:
            raise UnsupportedFunctionError(
                f"module {self.at.layer!r} calls {name!r} inside of torch.utils.checkpoint: the backward pass would "
                "repeat it natively, outside of this forward pass. Checkpoint the whole module, or a child of it"
            )
        number, self.calls = self.calls, self.calls + 1
        at = self.at.operator(PARTS * number, str(number))
        product = PRODUCTS[name]
        try:
            bound = bind(product.parameters, args, kwargs)
        except TypeError as error:
            raise UnsupportedFunctionError(
                f"module {self.at.layer!r}: {name!r} is emulated {error}"
            ) from error
        return product.run(self.spec, at, **bound)


def _has_floats(value: Any) -> bool:
    if isinstance(value, Tensor):
        return value.is_floating_point()
    if isinstance(value, dict):
        return any(map(_has_floats, value.values()))
    return isinstance(value, tuple | list) and any(map(_has_floats, value))
