"""Results that become codes on their way out of the accumulators (`arithmetic.result_bits`).

A machine for inference scales, rounds and clips each sum as it leaves the accumulators, and its memories see
activations as wide as the operands. Whether that may be done is no matter of the GEMM but of who reads its result: a
quantiser alone, or also someone who needs the real number. PyTorch's training steps keep activations and gradients
in float32, so that results leave there as they were summed. The trace tells: it is one of inference if it has no
gradient GEMM and no update, and nothing in it is kept for a backward pass. In such a trace, of each GEMM with sums
that are converted right behind it (`dequantize`),

* the results leave the accumulators as codes, `GemmEvent.result_bits`;
* the conversion is a `requantize`, which sits on their way out and moves nothing by itself;
* element-wise work up to the next GEMM reads and writes codes: its bytes, of float32, shrink by the widths;
* the left operand of the next GEMM is not quantised again, nor is its scale looked for, if it is no wider than the
  codes and has no scales of blocks: a machine for inference has fixed scales.

All results are taken to leave so, those of the last layer too. Quantising the weights stays in the bill, as they are
quantised where the trace says so. A GEMM whose sums are the result as they are, of floats, is left alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from hw_models.compute.work import ceil_div
from hw_models.profile import HardwareProfile
from lowbit_sim.trace import Event, GemmEvent, VectorEvent, WorkloadTrace

_FLOAT_BITS = 32
_ELEMENT_WISE = ("activation", "batch_norm", "pooling")

#: The passes that make codes of a tensor; the last one of them ends it.
_QUANTIZING = ("scale_reduction", "random_bits", "quantize")


def requantizes(trace: WorkloadTrace, profile: HardwareProfile) -> bool:
    """Whether a machine makes codes of a trace's results on their way out."""
    return profile.arithmetic.result_bits is not None and not any(map(_trains, trace.events))


def _trains(event: Event) -> bool:
    gradient = isinstance(event, GemmEvent) and event.role in ("grad_input", "grad_weight")
    return gradient or event.role == "update" or bool(event.kept_bytes)


def requantized(trace: WorkloadTrace, profile: HardwareProfile) -> WorkloadTrace:
    """The trace with results as codes; the trace itself where the machine does not make them, or must not."""
    bits = profile.arithmetic.result_bits
    if bits is None or not requantizes(trace, profile):
        return trace
    events: list[Event] = []
    before: GemmEvent | None = None
    for work, gemm in _runs(trace.events):
        events += work if before is None else _behind(before, work, gemm, bits)
        before = gemm
        if gemm is not None:
            events.append(gemm)
    return WorkloadTrace(_with_results(events, bits))


def _runs(events: Sequence[Event]) -> Iterator[tuple[list[VectorEvent], GemmEvent | None]]:
    """Vector work with the GEMM behind it; at the end, without one."""
    work: list[VectorEvent] = []
    for event in events:
        if isinstance(event, GemmEvent):
            yield work, event
            work = []
        else:
            work.append(event)
    yield work, None


def _behind(
    before: GemmEvent, work: list[VectorEvent], after: GemmEvent | None, bits: int
) -> list[VectorEvent]:
    """The work between two GEMMs, if codes go from the first one to the second."""
    if not work or not _converts(work[0], before, bits):
        return work
    conversion, *rest = work
    again = _passes_over_codes(rest, after, bits)
    out = [replace(conversion, kind="requantize", read_bytes=0, write_bytes=0)]
    return out + [_on_codes(e, bits) for e in rest if not any(e is pass_ for pass_ in again)]


def _converts(event: VectorEvent, gemm: GemmEvent, bits: int) -> bool:
    """Whether an event converts a GEMM's sums, which are wider than the codes."""
    results = gemm.count * gemm.M * gemm.N
    return event.kind == "dequantize" and event.elements == results and bits < gemm.outer_bits


def _passes_over_codes(
    work: Sequence[VectorEvent], gemm: GemmEvent | None, bits: int
) -> Sequence[VectorEvent]:
    """The passes that quantise a GEMM's left operand, which is there as codes."""
    if gemm is None or gemm.lhs.bits > bits or gemm.lhs.block:
        return ()
    elements = _left_elements(gemm)
    passes: list[VectorEvent] = []
    for event in work:
        if event.kind in _QUANTIZING and event.elements == elements:
            passes.append(event)
            if event.kind == "quantize":
                return passes
    return ()


def _left_elements(gemm: GemmEvent) -> int:
    """Elements of the tensor on the left of all equal GEMMs."""
    conv = gemm.conv
    if conv is None:
        return gemm.count * gemm.M * gemm.K
    return conv.batch * conv.in_channels * conv.in_height * conv.in_width


def _on_codes(event: VectorEvent, bits: int) -> VectorEvent:
    if event.kind not in _ELEMENT_WISE:
        return event
    return replace(
        event,
        read_bytes=ceil_div(event.read_bytes * bits, _FLOAT_BITS),
        write_bytes=ceil_div(event.write_bytes * bits, _FLOAT_BITS),
    )


def _with_results(events: Sequence[Event], bits: int) -> list[Event]:
    """The events, in which a GEMM with a `requantize` right behind it has codes as results."""
    following = [*events[1:], None]
    return [
        replace(event, result_bits=bits)
        if isinstance(event, GemmEvent) and isinstance(after, VectorEvent) and after.kind == "requantize"
        else event
        for event, after in zip(events, following, strict=True)
    ]
