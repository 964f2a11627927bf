"""Twins of layer types that are not known in advance: a user's module, or a library's that is not imported here."""

from __future__ import annotations

import functools
from typing import Any, ClassVar

from torch import nn

from lowbit_sim.nn.emulation import EmulatedLayer


class DynamicTwin(EmulatedLayer):
    """Base of twins whose class is made for a native class.

    Attributes:
        base: The emulated class that the twin's behaviour comes from.
        native_type: The native class, which the twin's class is a subclass of.
    """

    base: ClassVar[type[EmulatedLayer]]
    native_type: ClassVar[type[nn.Module]]

    def __reduce_ex__(self, protocol: Any) -> Any:
        """The class can't be looked up by name, so a copy or a pickle makes it anew."""
        return _blank, (self.base, self.native_type), self.__getstate__()


@functools.cache
def twin_type(base: type[EmulatedLayer], native: type[nn.Module]) -> type[DynamicTwin]:
    """A subclass of both, whose `forward` is `base.forward` with the native signature.

    Args:
        base: What emulates: a `DynamicTwin`, or the twin of a layer type that `native` is a subclass of.
        native: The native class.
    """
    forward = functools.wraps(native.forward)(_bare(base.forward))
    members = {
        "base": base,
        "native_type": native,
        "forward": forward,
        "__module__": native.__module__,
        "__qualname__": native.__qualname__,
        "__doc__": f"`{native.__qualname__}`, emulated.",
    }
    bases = (base, native) if issubclass(base, DynamicTwin) else (DynamicTwin, base, native)
    return type(native.__name__, bases, members)


def _bare(forward: Any) -> Any:
    """A function of its own, so that wrapping it for one class leaves the other classes' alone."""

    def call(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        return forward(self, *args, **kwargs)

    return call


def _blank(base: type[EmulatedLayer], native: type[nn.Module]) -> nn.Module:
    twin = twin_type(base, native)
    return twin.__new__(twin)


def qualified_name(kind: type) -> str:
    """Module and class name."""
    return f"{kind.__module__}.{kind.__qualname__}"
