"""What a function of torch that multiplies no matrices costs: passes over its tensors, forward and backward.

| work    | functions                         | forward reads | backward reads      | kept until then     |
|---------|-----------------------------------|---------------|---------------------|---------------------|
| norm    | batch, layer, group norm          | in twice      | g and in, twice     | in                  |
| max     | maximum pools                     | in            | g and indices       | a byte a window     |
| output  | relu, sigmoid, softmax, any other | in            | g and out           | out                 |
| input   | gelu, silu, pow, log              | in            | g and in            | in                  |
| factors | products and quotients of tensors | in            | g and in            | in                  |
| mask    | dropout, clamp, where             | in            | g and mask          | a bit an element    |
| linear  | average pools, mean, cat, pad     | in            | g                   | nothing             |
| sum     | additions of equal shapes         | in            | g is passed on      | nothing             |

All write their output forward, and backward (but for "sum") the gradients of their inputs. The vector unit handles as
many elements as the largest of input and output has. Tensors are read in the format that they are stored in
(`ops.stored`) and written at the width of their dtype, unless they are rounded right after; parameters and statistics
of a norm's channels are not counted. A dropout draws random bits for each of its decisions (`ops.dropout`). A
function that returns a view is free, and so is one that no floating-point tensor enters or leaves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from lowbit_sim.ops.billing import kept_bytes
from lowbit_sim.ops.dropout import drawn_bits
from lowbit_sim.ops.stored import Written, memory_bytes, wrote
from lowbit_sim.trace import Keeps, VectorEvent, emit

_SUMS = ("add", "__add__", "__radd__", "__iadd__", "add_", "sub", "__sub__", "__isub__", "sub_")
_FACTORS = ("mul", "__mul__", "__rmul__", "__imul__", "mul_", "div", "__truediv__", "__itruediv__", "div_")
_INPUT = ("gelu", "silu", "mish", "softplus", "pow", "__pow__", "log", "abs", "square", "sin", "cos", "prelu")
_MASK = (
    *("dropout", "dropout_", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout"),
    *("clamp", "clamp_", "clip", "hardtanh", "hardtanh_", "relu6", "where", "masked_fill", "masked_fill_"),
)
_LINEAR = (
    *("__rsub__", "rsub", "neg", "__neg__", "mean", "sum", "cumsum", "cat", "concat", "stack", "pad"),
    *("interpolate", "clone", "contiguous", "to", "float", "half", "bfloat16", "double", "type", "type_as"),
    *("reshape", "flatten", "repeat", "repeat_interleave", "index_select", "gather", "__getitem__"),
    *("roll", "flip", "tril", "triu", "avg_pool1d", "avg_pool2d", "avg_pool3d"),
    *("adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d"),
)
_NORMS = ("batch_norm", "layer_norm", "group_norm", "instance_norm", "rms_norm")

_WORK = {
    **dict.fromkeys(_SUMS, "sum"),
    **dict.fromkeys(_FACTORS, "factors"),
    **dict.fromkeys(_INPUT, "input"),
    **dict.fromkeys(_MASK, "mask"),
    **dict.fromkeys(_LINEAR, "linear"),
    **dict.fromkeys(_NORMS, "norm"),
}

#: What of each kind of work the backward pass reads again.
_KEEPS: dict[str, Keeps] = {
    "output": "result",
    **dict.fromkeys(("norm", "input", "factors"), "operand"),
    **dict.fromkeys(("max", "mask"), "marks"),
}

#: Of the functions whose output is kept, those of which the backward pass looks at nothing but the sign of it, which
#: it shares with the rounded output (but for numbers that underflow).
_SIGNS = ("relu", "relu_")

#: Looking at a tensor costs nothing: attributes, comparisons of objects, hooks.
_LOOKS = (
    "__get__",
    "__set__",
    "__format__",
    "__repr__",
    "register_hook",
    "detach",
    "requires_grad_",
    "backward",
)


@dataclass(frozen=True, kw_only=True)
class Call:
    """A call of a function of torch.

    Attributes:
        name: The function's name.
        args, kwargs: Its arguments.
        result: What it returned.
        in_place: Whether it overwrote its first argument.
        read: Bytes of its floating-point arguments before it ran, by their `id`.
    """

    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    result: Any
    in_place: bool
    read: dict[int, int]


def bill_function(call: Call, layer: str) -> None:
    """Put a call on record, and its backward pass when the gradient of the result arrives.

    Args:
        call: The call.
        layer: Module path.
    """
    inputs = list({id(t): t for t in _floats((call.args, call.kwargs))}.values())
    y = next(_floats(call.result), None)
    if y is None or not inputs or call.name in _LOOKS or _is_view(y, inputs, call):
        return
    work = _work_of(call, inputs, y)
    if call.name in _NORMS:
        inputs = inputs[:1]
    before = sum(call.read[id(x)] for x in inputs)
    event = partial(
        VectorEvent,
        kind=_kind(call.name, work),
        elements=max(y.numel(), *(x.numel() for x in inputs)),
        layer=layer,
    )
    needed = y.requires_grad
    kept = _kept(work, inputs, y) if needed else 0
    keeps: Keeps = _KEEPS.get(work, "") if needed else ""
    reads = before * (2 if work == "norm" else 1)
    unrounded = keeps == "result" and call.name not in _SIGNS
    forward = Written(
        event(
            read_bytes=reads,
            write_bytes=_size(y),
            random_bits=drawn_bits(call.name, y),
            kept_bytes=kept,
            keeps=keeps,
        ),
        read_unrounded=unrounded,
    )
    emit(forward.event)
    wrote(forward, y)
    if needed and work != "sum" and y.grad_fn is not None:
        differentiated = [x for x in inputs if x.requires_grad]
        backward = _Backward(
            work=work,
            forward=forward,
            before=before,
            marks=_marks(work, y) if work in ("max", "mask") else 0,
            output=y.output_nr,
            event=event,
            written=sum(map(_size, differentiated)),
            shapes=frozenset(x.shape for x in differentiated),
        )
        # A hook on the node, not on the module: a module's backward hook forbids the in-place operations after it.
        y.grad_fn.register_hook(backward.emit)


@dataclass(frozen=True, kw_only=True)
class _Backward:
    """The backward pass of a call, which is billed once its gradients are there.

    Attributes:
        work: The kind of work.
        forward: The forward event, which wrote what is kept of the result.
        before: Bytes of the inputs.
        marks: Bytes of a mask or of indices.
        output: Which result of autograd's node the call's result is.
        event: The event but for its bytes.
        written: Bytes of the inputs' gradients.
        shapes: Their shapes.
    """

    work: str
    forward: Written
    before: int
    marks: int
    output: int
    event: Callable[..., VectorEvent]
    written: int
    shapes: frozenset[torch.Size]

    def emit(self, grad_inputs: Sequence[Tensor | None], grad_outputs: Sequence[Tensor | None]) -> None:
        """A hook of autograd's node."""
        gradient = grad_outputs[self.output]
        if gradient is None:
            return
        backward = Written(
            self.event(read_bytes=self._reads(memory_bytes(gradient)), write_bytes=self.written)
        )
        emit(backward.event)
        for x in grad_inputs:
            # A node that hands on the gradient itself, or another shape, is the last of several.
            if x is not None and x.shape in self.shapes and not _same_memory(x, gradient):
                wrote(backward, x)

    def _reads(self, gradient: int) -> int:
        match self.work:
            case "norm":
                return 2 * (gradient + self.before)
            case "output":
                return gradient + self.forward.event.write_bytes
            case "input" | "factors":
                return gradient + self.before
            case _:
                return gradient + self.marks


def _work_of(call: Call, inputs: list[Tensor], y: Tensor) -> str:
    work = _WORK.get(call.name, "max" if "max_pool" in call.name else "output")
    if work == "sum" and any(x.shape != y.shape for x in inputs):
        return "linear"  # a gradient is summed over the axes that were broadcast
    if work == "factors" and len(inputs) == 1 and sum(1 for _ in _floats(call.args)) == 1:
        return "linear"  # by a number
    if call.name == "batch_norm" and not _trains(call):
        return "linear"  # with fixed statistics
    return work


def _trains(call: Call) -> bool:
    """Whether a batch norm takes the batch's own statistics."""
    return bool(call.kwargs.get("training", call.args[5] if len(call.args) > 5 else False))


def _kind(name: str, work: str) -> str:
    if name in _NORMS:
        return "batch_norm"
    return "pooling" if "pool" in name else "activation"


def _kept(work: str, inputs: list[Tensor], y: Tensor) -> int:
    match work:
        case "output":
            return kept_bytes(y)
        case "norm" | "input" | "factors":
            return sum(map(kept_bytes, inputs))
        case "max" | "mask":
            return _marks(work, y)
        case _:
            return 0


def _marks(work: str, y: Tensor) -> int:
    """Bytes of the places of the maxima, or of a mask."""
    return y.numel() if work == "max" else -(-y.numel() // 8)


def _is_view(y: Tensor, inputs: list[Tensor], call: Call) -> bool:
    """Whether the result is an input's memory, looked at in another way."""
    if call.in_place:
        return False
    return any(_same_memory(y, x) for x in inputs)


def _same_memory(a: Tensor, b: Tensor) -> bool:
    return a.untyped_storage()._cdata == b.untyped_storage()._cdata


def _size(tensor: Tensor) -> int:
    """Bytes of a tensor that nothing has rounded."""
    return tensor.numel() * tensor.element_size()


def stored_sizes(args: Any, kwargs: dict[str, Any]) -> dict[int, int]:
    """Bytes of the floating-point arguments of a call as they are stored, by their `id`."""
    return {id(x): memory_bytes(x) for x in _floats((args, kwargs))}


def _floats(value: Any) -> Iterator[Tensor]:
    """The floating-point tensors in nested tuples, lists and dicts."""
    if isinstance(value, Tensor):
        if value.is_floating_point():
            yield value
    elif isinstance(value, dict):
        for v in value.values():
            yield from _floats(v)
    elif isinstance(value, tuple | list):
        for v in value:
            yield from _floats(v)
