"""What MetaGrad costs, for the trace.

The hypernetwork's own functions, forward and backward, are billed as any module's are: GEMMs of its layers, native or
converted, and vector work of kind "hypernetwork" (conversions keep theirs). What surrounds it is passes over vectors
of one number a coordinate:

| pass                                    | reads                              | writes |
|-----------------------------------------|------------------------------------|--------|
| lay the gradients end to end            | g                                  | g      |
| look for inf and NaN                    | g                                  |        |
| keep the weights, if read               | w                                  | w      |
| running mean, if read                   | g, m                               | m      |
| root mean squares, if read              | g, w, m                            |        |
| calibration of pre-processed weights    | w                                  | c      |
| direction of phi's gradient             | g, factors of Adam, c before, c    | v      |
| give the corrected gradients back       | M, c                               | g      |
| their norms, to see them scaled behind  | M                                  |        |

and then phi's own update. All of it is billed to the update; what only measures (`effect.py`) is not billed. Features
of a chunk are gone before the next chunk, so nothing counts as kept for the backward pass; what is kept between steps
is the state of the update.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from torch import Tensor, nn
from torch.optim import Optimizer

from lowbit_sim.quant.quantizer import Quantizer
from lowbit_sim.trace import Event, VectorEvent, changed, emit, recording
from lowbit_sim.training.metagrad.memory import Memory
from lowbit_sim.training.native_events import native_events
from lowbit_sim.training.optimizers import LowPrecisionOptimizer
from lowbit_sim.training.update_spec import UpdateBill

#: Vector work that says what it is in a hypernetwork too.
_CONVERSIONS = ("quantize", "scale_reduction", "random_bits", "dequantize")


@contextmanager
def hypernetwork_events(hypernetwork: nn.Module) -> Iterator[None]:
    """Bill what a hypernetwork runs inside the block to the update."""
    if not recording():
        yield
        return
    with changed(_of_hypernetwork), native_events(hypernetwork):
        yield


def _of_hypernetwork(event: Event) -> Event:
    layer = f"hypernetwork.{event.layer}" if event.layer else "hypernetwork"
    if isinstance(event, VectorEvent):
        kind = event.kind if event.kind in _CONVERSIONS else "hypernetwork"
        return replace(event, kind=kind, role="update", layer=layer, kept_bytes=0, keeps="")
    return replace(event, role="update", layer=layer, kept_bytes=0)


def bill_passes(memory: Memory, *, with_scales: bool) -> None:
    """Bill the passes over vectors of a step in which phi learned.

    Args:
        memory: What is kept.
        with_scales: Whether the hypernetwork reads root mean squares.
    """
    if not recording():
        return
    assert memory.gradient is not None
    vector = memory.gradient.numel() * memory.gradient.element_size()
    factors = memory.bytes().get("factors", 0)
    calibrated, moments = memory.calibration is not None, memory.moment is not None
    weights = memory.weight is not None
    squares = with_scales * (1 + weights + moments)
    reads = 5 + weights + 2 * moments + squares + 4 * calibrated
    emit(
        VectorEvent(
            kind="hypernetwork",
            elements=memory.gradient.numel(),
            read_bytes=reads * vector + factors,
            write_bytes=(3 + weights + moments + calibrated) * vector,
            role="update",
            layer="hypernetwork",
            state_bytes=sum(memory.bytes().values()),
        )
    )


def bill_quantizer(quantizer: Quantizer, gradient: Tensor) -> None:
    """Bill the conversion of a gradient by Q_G to the update."""
    if recording():
        bill = UpdateBill()
        bill.convert(gradient, quantizer)
        bill.emit_conversions()


def bill_phi(optimizer: Optimizer) -> None:
    """Bill phi's own update that has just run; a low-precision optimiser has billed itself."""
    if not recording() or isinstance(optimizer, LowPrecisionOptimizer):
        return
    tensors = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    weights = sum(p.numel() * p.element_size() for p in tensors)
    states = sum(
        s.numel() * s.element_size()
        for p in tensors
        for s in optimizer.state[p].values()
        if isinstance(s, Tensor) and s.shape == p.shape
    )
    emit(
        VectorEvent(
            kind="optimizer_update",
            elements=sum(p.numel() for p in tensors),
            read_bytes=2 * weights + states,
            write_bytes=weights + states,
            role="update",
            layer="hypernetwork",
            parameter_bytes=weights,
            gradient_bytes=weights,
            state_bytes=states,
        )
    )
