"""Events of the modules that stay native: what they would cost a machine, forward and backward.

| kind       | forward reads / writes | backward reads / writes | why                                              |
|------------|------------------------|-------------------------|--------------------------------------------------|
| batch_norm | 2 in / out             | 2 (in + out) / in       | a pass for the statistics, a pass to normalise   |
| activation | in / out               | out + out / in          | the gradient and the kept output                 |
| pooling    | in / out               | out / in                | the gradient is spread over the window           |

`in` and `out` are the elements of a module's inputs and output at the width of their dtype; the vector unit
handles in elements for a batch norm or a pool, out elements for anything else. A module without parameters
that is not in the table (dropout, a residual addition) counts as an activation; what only changes a shape is
free. A linear layer or a convolution is its three GEMMs in float32.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from torch import Tensor, nn

from lowbit_sim.nn.modules import native_contraction
from lowbit_sim.nn.registry import MULTIPLYING
from lowbit_sim.ops.events import gemm_event
from lowbit_sim.trace import GemmEvent, Role, VectorEvent, emit

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
        ValueError: A module whose cost is not known; the message names it.
    """
    handles = []
    try:
        for path, module in model.named_modules():
            hook = _hook_of(path, module, emulated)
            if hook is not None:
                handles.append(module.register_forward_hook(hook))
        yield
    finally:
        for handle in handles:
            handle.remove()


def _hook_of(
    path: str, module: nn.Module, emulated: tuple[type[nn.Module], ...]
) -> Callable[..., None] | None:
    if isinstance(module, emulated):
        return None
    if isinstance(module, nn.Linear | nn.modules.conv._ConvNd):
        return partial(_on_gemm_layer, path)
    if isinstance(module, MULTIPLYING):
        raise ValueError(_unknown_cost(path, module))
    if any(True for _ in module.children()) or isinstance(module, _FREE):
        return None
    if isinstance(module, _NORMS):
        return partial(_on_elementwise, "batch_norm", path)
    if isinstance(module, _POOLS):
        return partial(_on_elementwise, "pooling", path)
    if any(True for _ in module.parameters()):
        raise ValueError(_unknown_cost(path, module))
    return partial(_on_elementwise, "activation", path)


def _unknown_cost(path: str, module: nn.Module) -> str:
    return (
        f"the cost of module {path!r} ({type(module).__name__}) is not known: known are Linear, convolutions, norms, "
        "pools, and modules without parameters"
    )


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


def _on_gemm_layer(path: str, module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
    x = inputs[0]
    layout = native_contraction(module, x, output)
    assert layout is not None
    assert isinstance(module.weight, Tensor)
    emit(gemm_event(layout, "output", None, path))
    if output.requires_grad:
        needed: dict[Role, bool] = {"grad_input": x.requires_grad, "grad_weight": module.weight.requires_grad}
        _on_backward(output, [gemm_event(layout, role, None, path) for role, need in needed.items() if need])


def _on_backward(output: Tensor, events: list[GemmEvent] | list[VectorEvent]) -> None:
    """Emit events when the gradient of an output arrives.

    A hook on the tensor, not on the module: a module's backward hook forbids the in-place operations after it.
    """

    def arrived(gradient: Tensor) -> None:
        for event in events:
            emit(event)

    output.register_hook(arrived)
