"""The additions of gradients in a backward pass: a tensor with n readers gets n gradients, which are added up.

    n - 1 additions; reads the n gradients as they are stored, and n - 2 partial sums; writes n - 1 sums

in float32, the last one in the tensor's own format where that is rounded as it arrives. Read off autograd's graph: an
edge into a node's output is one gradient of it. A residual branch is such a tensor, and so is the weight of a
recurrent layer, once for each time step.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from typing import Any

from torch import Tensor

from lowbit_sim.ops.operand import FLOAT_BYTES
from lowbit_sim.ops.stored import Written, memory_bytes, wrote
from lowbit_sim.trace import VectorEvent, emit

#: Gradients as a hook of autograd's graph gets them; None for one that is zero throughout.
Gradients = Sequence[Tensor | None]


def bill_gradient_sums(loss: Tensor) -> None:
    """Put the additions of a backward pass on record as they run; call before it.

    Args:
        loss: What the backward pass starts from.
    """
    for (node, number), edges in _edges(loss).items():
        if len(edges) < 2:
            continue
        parts: list[int] = []
        for reader, place in edges:
            reader.register_hook(partial(_part, parts, place))
        node.register_prehook(partial(_sum, parts, number, _gradient_elements(node, number)))


def _edges(loss: Tensor) -> dict[tuple[Any, int], list[tuple[Any, int]]]:
    """The gradients of each output of each node: the node that gives one, and which of its gradients that is."""
    edges: defaultdict[tuple[Any, int], list[tuple[Any, int]]] = defaultdict(list)
    root: Any = loss.grad_fn
    nodes, seen = [root], {root}
    while nodes:
        node = nodes.pop()
        sources: Sequence[tuple[Any, int]] = getattr(node, "next_functions", ())
        for place, (source, number) in enumerate(sources):
            if source is None:
                continue
            edges[source, number].append((node, place))
            if source not in seen:
                seen.add(source)
                nodes.append(source)
    return edges


def _part(parts: list[int], place: int, grad_inputs: Gradients, grad_outputs: Gradients) -> None:
    """A reader's hook: the bytes of its gradient."""
    gradient = grad_inputs[place]
    if gradient is not None:
        parts.append(memory_bytes(gradient))


def _sum(parts: list[int], number: int, elements: int, gradients: Gradients) -> None:
    """The hook before the node that takes the sum."""
    additions, total = len(parts) - 1, gradients[number]
    if additions < 1 or total is None:
        return
    size = elements * FLOAT_BYTES
    event = VectorEvent(
        kind="activation",
        elements=additions * elements,
        read_bytes=sum(parts) + (additions - 1) * size,
        write_bytes=additions * size,
    )
    emit(event)
    wrote(Written(event), total)


def _gradient_elements(node: Any, number: int) -> int:
    """Elements of the gradient that enters a node of autograd's graph."""
    variable = getattr(node, "variable", None)
    return variable.numel() if variable is not None else math.prod(node._input_metadata[number].shape)
