"""beta x + alpha y in float32: what `torch.addmm` and its kin do with a product y, put on record.

| pass     | reads                | writes                                                               |
|----------|----------------------|----------------------------------------------------------------------|
| forward  | y, and x unless beta | the sum                                                              |
|          | is 0                 |                                                                      |
| backward | g                    | the gradient of y where alpha is not 1; that of x where beta is not  |
|          |                      | 1, or x was broadcast. Otherwise g is passed on                      |

With alpha 1 and beta 0 nothing is done.
"""

from __future__ import annotations

from functools import partial

from torch import Tensor

from lowbit_sim.ops.billing import bills_itself
from lowbit_sim.ops.operand import FLOAT_BYTES
from lowbit_sim.ops.stored import Written, memory_bytes, wrote
from lowbit_sim.trace import VectorEvent, emit, recording


@bills_itself
def weighted_sum(x: Tensor, y: Tensor, beta: float, alpha: float, layer: str) -> Tensor:
    """beta x + alpha y in float32, of y's dtype; with beta = 0 x does not count, whatever it holds.

    Args:
        x: Floating point, of a shape that broadcasts to y's.
        y: Floating point.
        beta: Factor of x.
        alpha: Factor of y.
        layer: Module path.
    """
    total = y.float() if alpha == 1 else y.float() * alpha
    if beta != 0:
        total = (x.float() if beta == 1 else x.float() * beta) + total
    if recording() and (alpha != 1 or beta != 0):
        _bill([(y, alpha), (x, beta)] if beta != 0 else [(y, alpha)], total, layer)
    return total.to(y.dtype)


def _bill(terms: list[tuple[Tensor, float]], total: Tensor, layer: str) -> None:
    event = partial(VectorEvent, kind="activation", elements=total.numel(), layer=layer)
    reads = sum(memory_bytes(term) for term, _ in terms)
    forward = event(read_bytes=reads, write_bytes=total.numel() * FLOAT_BYTES)
    emit(forward)
    wrote(Written(forward), total)
    changed = [
        term.numel() * FLOAT_BYTES
        for term, factor in terms
        if term.requires_grad and (factor != 1 or term.shape != total.shape)
    ]
    if changed and total.requires_grad:
        total.register_hook(lambda g: _bill_gradients(event, g, changed))


def _bill_gradients(event: partial[VectorEvent], g: Tensor, changed: list[int]) -> None:
    for size in changed:
        emit(event(read_bytes=memory_bytes(g), write_bytes=size))
