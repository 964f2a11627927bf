"""Events of the modules that stay native: what they would cost a machine, forward and backward.

| kind       | forward reads / writes | backward reads / writes | why                                              |
|------------|------------------------|-------------------------|--------------------------------------------------|
| batch_norm | 2 in / out             | 2 (in + out) / in       | a pass for the statistics, a pass to normalise   |
| activation | in / out               | out + out / in          | the gradient and the kept output                 |
| pooling    | in / out               | out / in                | the gradient is spread over the window           |

`in` and `out` are the elements of a module's inputs and output at the width of their dtype; the vector unit
handles in elements for a batch norm or a pool, out elements for anything else. A module without parameters
that is not in the table (dropout, a residual addition) counts as an activation; what only changes a shape is
free. Products (`native_products.py`) are GEMMs in float32, and what a module that calls them costs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from torch import Tensor, nn

from lowbit_sim.nn.registry import MULTIPLYING
from lowbit_sim.trace import VectorEvent, emit
from lowbit_sim.training.native_products import NativeProducts, unknown_cost

_NORMS = (nn.modules.batchnorm._BatchNorm, nn.LayerNorm, nn.GroupNorm)
_POOLS = (
    nn.modules.pooling._MaxPoolNd,
    nn.modules.pooling._AvgPoolNd,
    nn.modules.pooling._AdaptiveAvgPoolNd,
    nn.modules.pooling._AdaptiveMaxPoolNd,
)
_FREE = (nn.Identity, nn.Flatten, nn.Unflatten)

#: How often the inputs are read forward; how often the inputs and the output's size are read backward.
_READS = {"batch_norm": (2, 2, 2), "activation": (1, 0, 2), "pooling": (1, 0, 1)}


@contextmanager
def native_events(model: nn.Module, emulated: tuple[type[nn.Module], ...]) -> Iterator[None]:
    """Emit the events of a model's native modules while the block runs; the hooks go when it ends.

    Args:
        model: The model, whose forward and backward passes run inside the block.
        emulated: Module types that emit their own events.

    Raises:
        ValueError: A module or a product whose cost is not known; the message names it.
    """
    products = NativeProducts(emulated)
    handles = []
    try:
        for path, module in model.named_modules():
            hook = _hook_of(path, module, emulated)
            handles.append(module.register_forward_pre_hook(partial(_enter, products, path), prepend=True))
            leave = partial(_leave, products, hook)
            handles.append(module.register_forward_hook(leave, always_call=True))
        with products:
            yield
    finally:
        for handle in handles:
            handle.remove()


def _enter(products: NativeProducts, path: str, module: nn.Module, inputs: tuple[Any, ...]) -> None:
    products.enter(path, module)


def _leave(
    products: NativeProducts,
    hook: Callable[..., None] | None,
    module: nn.Module,
    inputs: tuple[Any, ...],
    output: Any,
) -> None:
    """A module's own products are what it costs; without any, its hook tells."""
    calls = products.leave()
    if hook is not None and not calls and output is not None:
        hook(module, inputs, output)


def _hook_of(
    path: str, module: nn.Module, emulated: tuple[type[nn.Module], ...]
) -> Callable[..., None] | None:
    if isinstance(module, emulated) or isinstance(module, nn.Linear | nn.modules.conv._ConvNd):
        return None
    if isinstance(module, MULTIPLYING):
        raise unknown_cost(path, type(module).__name__)
    if any(True for _ in module.children()) or isinstance(module, _FREE):
        return None
    if isinstance(module, _NORMS):
        return partial(_on_elementwise, "batch_norm", path)
    if isinstance(module, _POOLS):
        return partial(_on_elementwise, "pooling", path)
    if any(True for _ in module.parameters()):
        return partial(_refuse, path)
    return partial(_on_elementwise, "activation", path)


def _refuse(path: str, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
    raise unknown_cost(path, type(module).__name__)


def _on_elementwise(kind: str, path: str, module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
    tensors = [x for x in inputs if isinstance(x, Tensor)]
    before = sum(x.numel() * x.element_size() for x in tensors)
    after = output.numel() * output.element_size()
    elements = output.numel() if kind == "activation" else sum(x.numel() for x in tensors)
    forward, backward_in, backward_out = _READS[kind]
    event = partial(VectorEvent, kind=kind, elements=elements, layer=path)
    emit(event(read_bytes=forward * before, write_bytes=after))
    if output.requires_grad:
        read = backward_in * before + backward_out * after
        _on_backward(output, [event(read_bytes=read, write_bytes=before)])


def _on_backward(output: Tensor, events: list[VectorEvent]) -> None:
    """Emit events when the gradient of an output arrives.

    A hook on the tensor, not on the module: a module's backward hook forbids the in-place operations after it.
    """

    def arrived(gradient: Tensor) -> None:
        for event in events:
            emit(event)

    output.register_hook(arrived)
