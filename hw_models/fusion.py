"""Element-wise work that is fused with what made its operand, on machines that do so (`vector.fuses`).

A tensor that one event makes and the very next one takes need not go out and come back in between. On a machine
that fuses, of two events in a row on equally many elements

* the second one does not read what the first one wrote: a batch-norm, which passes twice over its input, still reads
  it once; the reduction of a scale reads nothing;
* the first one does not write it, if the second one is through with it in one pass, leaves a result of its own, and
  the backward pass does not read it;
* the conversion of a GEMM's sums is done on their way out: it reads nothing, and writes only what is wider in the
  result than in the sums, which the GEMM has been billed for; sums that are float32 already are taken as they come;
* codes that are made of sums on their way out (`requantize`) are taken as they come, too. Work that is through with
  them in one pass joins them there: what leaves then is its result, for which the GEMM has been billed unless it is
  larger.

Which event reads which tensor is not on record, so that more than this is not taken to be fused: nothing over a GEMM,
nothing of a weight's gradient, whose next reader is the optimiser, and nothing that is read again two events later.
Vector operations, energy of arithmetic and random bits stay as they are.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from hw_models.compute.work import ceil_div
from lowbit_sim.trace import Event, GemmEvent, VectorEvent, WorkloadTrace

#: Work that hands on one tensor of real numbers and takes one: what fusion can join.
_MAKERS = ("dequantize", "batch_norm", "activation", "pooling", "transform")
_TAKERS = ("batch_norm", "activation", "pooling", "transform", "scale_reduction", "quantize")

#: Work that passes over its operand more than once, or that something passes over again right after it.
_LEAVES_IT_READABLE = ("batch_norm", "scale_reduction")


@dataclass(frozen=True, kw_only=True)
class _Made:
    """A tensor that the last event made.

    Attributes:
        index: Where in the trace.
        elements: Its elements.
        bytes: Its bytes.
        kept: Whether the backward pass reads it again.
        leaving: Of these bytes, how many a GEMM has been billed for, as they are codes of its results.
    """

    index: int
    elements: int
    bytes: int
    kept: bool
    leaving: int = 0


def fused(trace: WorkloadTrace) -> WorkloadTrace:
    """The trace with the traffic that remains where neighbours are fused; as many events, in the same order."""
    events: list[Event] = []
    made: _Made | None = None
    for i, event in enumerate(trace.events):
        if isinstance(event, GemmEvent):
            events.append(event)
            made = _result(i, event)
            continue
        before = trace.events[i - 1] if i else None
        as_it_was, leaving = event, 0
        if made is not None and _takes(event, made):
            event = replace(event, read_bytes=event.read_bytes - made.bytes)
            if event.kind not in _LEAVES_IT_READABLE and not made.kept and event.keeps != "operand":
                events[made.index] = _without_writing(events[made.index], made.bytes)
                leaving = min(made.leaving, event.write_bytes)
                event = replace(event, write_bytes=event.write_bytes - leaving)
        if event.kind == "dequantize" and isinstance(before, GemmEvent):
            event = replace(event, read_bytes=0, write_bytes=max(0, event.write_bytes - event.read_bytes))
            made = None if before.role == "grad_weight" else _made(i, as_it_was)
        elif event.kind == "requantize" and isinstance(before, GemmEvent):
            made = _codes(i, event, before)
        else:
            made = _made(i, as_it_was, leaving)
        events.append(event)
    return WorkloadTrace(events)


def _takes(event: VectorEvent, made: _Made) -> bool:
    return event.kind in _TAKERS and event.elements == made.elements and event.read_bytes >= made.bytes > 0


def _result(index: int, gemm: GemmEvent) -> _Made | None:
    """What a GEMM hands on whose sums are float32 already; its own write stays with it."""
    if gemm.role == "grad_weight" or gemm.outer_bits != 32:
        return None
    elements = gemm.count * gemm.M * gemm.N
    return _Made(index=index, elements=elements, bytes=4 * elements, kept=False)


def _codes(index: int, event: VectorEvent, gemm: GemmEvent) -> _Made | None:
    """What a requantiser hands on: codes of a GEMM's results, which that GEMM writes."""
    size = ceil_div(event.elements * gemm.result_bits, 8)
    return _Made(index=index, elements=event.elements, bytes=size, kept=False, leaving=size)


def _made(index: int, event: VectorEvent, leaving: int = 0) -> _Made | None:
    """What an event hands on, as it stood in the trace."""
    if event.kind not in _MAKERS or not event.write_bytes:
        return None
    kept = event.keeps == "result"
    return _Made(index=index, elements=event.elements, bytes=event.write_bytes, kept=kept, leaving=leaving)


def _without_writing(event: Event, size: int) -> Event:
    if isinstance(event, GemmEvent):
        return event
    return replace(event, write_bytes=max(0, event.write_bytes - size))
