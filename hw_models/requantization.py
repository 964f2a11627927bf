"""Results that become codes on their way out of the accumulators (`arithmetic.result_bits`).

A machine for inference scales, rounds and clips each sum as it leaves the accumulators, and its memories see
activations as wide as the operands. Whether that may be done is no matter of the GEMM but of who reads its result: a
quantiser alone, or also someone who needs the real number. PyTorch's training steps keep activations and gradients
in float32, so that results leave there as they were summed. The trace tells: it is one of inference if it has no
gradient GEMM and no update, and nothing in it is kept for a backward pass. In such a trace

* codes of weights are there: weights do not change, so that they were made before the machine ran;

and of each GEMM with sums that are converted right behind it (`dequantize`)

* the results leave the accumulators as codes, `GemmEvent.result_bits`;
* the conversion is a `requantize`, which sits on their way out and moves nothing by itself;
* a bias is added there, before the sums are scaled: the bias is read, in float32, and the result makes no round trip;
* element-wise work up to the next GEMM reads and writes codes: its bytes, of the format of activations, shrink by the
  widths;
* the left operand of the next GEMM, and the right one of a product of activations, is not quantised again if the
  memories hold it as wide as the codes are. Codes of another width pass through a conversion, which reads them at
  their width; the scale is not looked for, as a machine for inference has fixed ones. Operands with scales of blocks
  are quantised as in training, but of the codes.

All results are taken to leave so, those of the last layer too. What enters the first layer is quantised, as the trace
says. A GEMM whose sums are the result as they are, of floats, is left alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from hw_models.compute.work import ceil_div
from hw_models.operands import gemm_modes
from hw_models.profile import HardwareProfile
from hw_models.schema.array import Mode
from lowbit_sim.trace import Event, GemmEvent, Operand, VectorEvent, WorkloadTrace

_FLOAT_BITS = 32
_BIAS_BYTES = 4
_ELEMENT_WISE = ("activation", "batch_norm", "pooling")

#: The passes that make codes of a tensor; the last one of them ends it.
_QUANTIZING = ("scale_reduction", "random_bits", "quantize")


def requantizes(trace: WorkloadTrace, profile: HardwareProfile) -> bool:
    """Whether a machine makes codes of a trace's results on their way out."""
    return profile.arithmetic.result_bits is not None and not any(map(_trains, trace.events))


def _trains(event: Event) -> bool:
    gradient = isinstance(event, GemmEvent) and event.role in ("grad_input", "grad_weight")
    return gradient or event.role == "update" or bool(event.kept_bytes)


def with_codes(gemm: GemmEvent, profile: HardwareProfile) -> GemmEvent:
    """A forward GEMM by itself, whose sums are converted: with results as the codes that a machine makes of them."""
    bits = profile.arithmetic.result_bits
    return gemm if bits is None or bits >= gemm.outer_bits else replace(gemm, result_bits=bits)


def requantized(trace: WorkloadTrace, profile: HardwareProfile) -> WorkloadTrace:
    """The trace with results as codes; the trace itself where the machine does not make them, or must not.

    Raises:
        UnsupportedOperandError: A GEMM whose operands the machine can't multiply or hold.
    """
    if not requantizes(trace, profile):
        return trace
    events: list[Event] = []
    before: GemmEvent | None = None
    for made, gemm in _runs(trace.events):
        work = [e for e in made if e.parameter != "weight"]
        events += work if before is None else _behind(before, work, gemm, profile)
        before = gemm
        if gemm is not None:
            events.append(gemm)
    return WorkloadTrace(_with_results(events, profile))


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
    before: GemmEvent, work: list[VectorEvent], after: GemmEvent | None, profile: HardwareProfile
) -> list[VectorEvent]:
    """The work between two GEMMs, if codes go from the first one to the second."""
    if not work or not _converts(work[0], before, profile):
        return work
    conversion, *rest = work
    bias = 0
    if rest and rest[0].parameter == "bias":
        bias = before.count * before.N * _BIAS_BYTES
        del rest[0]
    needless = _needless(rest, after, profile)
    out = [replace(conversion, kind="requantize", read_bytes=bias, write_bytes=0)]
    return out + [_on_codes(e, profile) for e in rest if not any(e is each for each in needless)]


def _converts(event: VectorEvent, gemm: GemmEvent, profile: HardwareProfile) -> bool:
    """Whether an event converts a GEMM's sums, which are wider than the codes."""
    results = gemm.count * gemm.M * gemm.N
    return event.kind == "dequantize" and event.elements == results and with_codes(gemm, profile) is not gemm


def _needless(
    work: Sequence[VectorEvent], gemm: GemmEvent | None, profile: HardwareProfile
) -> Sequence[VectorEvent]:
    """Of the passes that quantise a GEMM's operands those that codes do without."""
    if gemm is None:
        return ()
    left = _passes_over(_left_elements(gemm), work)
    later = work[work.index(left[-1]) + 1 :] if left else work
    right = _passes_over(gemm.count * gemm.N * gemm.K, later)
    held = gemm_modes(gemm, profile) or (None, None)
    return [
        *_needless_passes(left, gemm.lhs, held[0], profile),
        *_needless_passes(right, gemm.rhs, held[1], profile),
    ]


def _needless_passes(
    passes: Sequence[VectorEvent], operand: Operand, held: Mode | None, profile: HardwareProfile
) -> Sequence[VectorEvent]:
    """Of the passes that quantise an operand, which a mode holds in its width, those that codes do without."""
    if operand.block:
        return ()
    if profile.arithmetic.result_bits == (operand.bits if held is None else held.operand_bits):
        return passes
    return [event for event in passes if event.kind == "scale_reduction"]


def _passes_over(elements: int, work: Sequence[VectorEvent]) -> Sequence[VectorEvent]:
    """The first passes that make codes of a tensor of a size; none if there is no such tensor."""
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


def _on_codes(event: VectorEvent, profile: HardwareProfile) -> VectorEvent:
    """Work on activations with codes in their place; what quantising writes is codes already."""
    if event.kind not in (*_ELEMENT_WISE, *_QUANTIZING):
        return event
    read = _as_codes(event.read_bytes, profile)
    if event.kind in _QUANTIZING:
        return replace(event, read_bytes=read)
    return replace(event, read_bytes=read, write_bytes=_as_codes(event.write_bytes, profile))


def _as_codes(size: int, profile: HardwareProfile) -> int:
    """Bytes of codes in the place of so many bytes of activations."""
    spec = profile.activation_spec()
    stored = None if spec is None else spec.output
    wide = _FLOAT_BITS if stored is None else stored.element_format.bits
    return ceil_div(size * (profile.arithmetic.result_bits or wide), wide)


def _with_results(events: Sequence[Event], profile: HardwareProfile) -> list[Event]:
    """The events, in which a GEMM with a `requantize` right behind it has codes as results."""
    following = [*events[1:], None]
    return [
        with_codes(event, profile)
        if isinstance(event, GemmEvent) and isinstance(after, VectorEvent) and after.kind == "requantize"
        else event
        for event, after in zip(events, following, strict=True)
    ]
