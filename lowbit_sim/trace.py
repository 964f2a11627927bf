"""What ran: the events that operators record and the cost model prices.

This module is the only link between the emulator and the cost model. An operator that runs a GEMM
emits a `GemmEvent`; anything else that a machine would have to spend time or energy on (quantising,
scale reductions, random bits, batch-norm, the optimiser) is a `VectorEvent`. With no recorder active
an emission costs one truth test.

What stays in memory from the forward pass to the backward pass is told by `kept_bytes` of the forward event that
leaves it there: the codes of an operand that a gradient GEMM reads again, or the float32 tensor where none of its
codes can be used again; the input of a norm, the output (or the input, or a mask) of an activation, the indices of a
maximum. Each tensor counts once, at the first event that keeps it; weights count only where a second copy is kept
(codes), as the weight itself stays anyway. What the whole step holds is told by the update's event
(`parameter_bytes`, `gradient_bytes`, `state_bytes`).

A step may be recorded on torch's "meta" device, where tensors have shapes but no data: the events are the same but
for what only numbers can tell (overflows, clipped, underflowed), which is None, and for `backend`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

Role = Literal["output", "grad_input", "grad_weight", "update", "overhead"]

#: The parts a training step is split into, in report order. The first three are the GEMMs of a layer
#: (synonyms fprop, dgrad, wgrad); `update` is the optimiser; `overhead` is all other vector work.
ROLES: tuple[Role, ...] = ("output", "grad_input", "grad_weight", "update", "overhead")

#: What of an event's work the backward pass reads again; "marks" are a mask or indices.
Keeps = Literal["", "operand", "result", "marks"]

#: The parameter of its layer that vector work is on.
Parameter = Literal["", "weight", "bias"]

#: The kinds of vector work an event may name.
VECTOR_KINDS = (
    "quantize",
    "scale_reduction",
    "random_bits",
    "dequantize",
    "requantize",
    "batch_norm",
    "activation",
    "pooling",
    "loss",
    "optimizer_update",
    "hypernetwork",
    "embedding",
    "transform",
)


@dataclass(frozen=True, kw_only=True)
class Operand:
    """One side of a GEMM as the machine sees it.

    Attributes:
        format: The format's name.
        bits: Width of an element.
        block: Elements along the reduction that share a stored scale, the last ones of a row maybe fewer; 0 where one
            scale holds for the whole reduction.
        scale: Name of the format of the blocks' scales; "" without blocks.
    """

    format: str
    bits: int
    block: int = 0
    scale: str = ""


@dataclass(frozen=True, kw_only=True)
class ConvGeometry:
    """The convolution behind a GEMM, for cost models that count the reuse of overlapping windows.

    Sizes are those of the forward convolution, in elements: input [N, C, H, W], kernel [O, C/groups, R, S].
    """

    batch: int
    in_channels: int
    in_height: int
    in_width: int
    out_channels: int
    out_height: int
    out_width: int
    kernel_height: int
    kernel_width: int
    stride: tuple[int, int]
    dilation: tuple[int, int]
    groups: int


@dataclass(frozen=True, kw_only=True)
class GemmEvent:
    """One GEMM, or `count` equal ones (the groups of a convolution): [M, K] x [K, N].

    Attributes:
        role: Which of a layer's three GEMMs this is.
        M, N, K: Rows of the left operand, columns of the right one, reduction length. May be 0.
        lhs, rhs: The operands' formats.
        accumulator_bits: Width of the inner accumulator in bits.
        overflow: What the accumulator does at its limit, "wrap", "saturate" or "saturate_symmetric"; "float" for a
            floating-point one, and so for a native GEMM.
        chunk: Length of a chunk of the reduction, or of a block that shares a scale; 0 for one chunk.
        outer_bits: Width of the accumulator of the chunks' sums in bits.
        term_additions: Additions that a term takes in the inner and in the outer accumulator: 4 where sums are
            compensated.
        result_bits: Width in which finished results leave the accumulators, where they become codes on their way out;
            0 where they leave as they were summed.
        layer: Module path of the layer.
        count: How many such GEMMs ran.
        additions: Accumulator additions over all of them.
        overflows: How many of those overflowed; None when the path that ran can't tell.
        backend: Which implementation computed it.
        conv: Geometry of the convolution behind it, if any.
        kept_bytes: Bytes of its operands that stay in memory until the backward pass has read them.
    """

    role: Role
    M: int
    N: int
    K: int
    lhs: Operand
    rhs: Operand
    accumulator_bits: int
    overflow: str
    chunk: int = 0
    outer_bits: int
    term_additions: tuple[int, int] = (1, 1)
    result_bits: int = 0
    layer: str = ""
    count: int = 1
    additions: int = 0
    overflows: int | None = 0
    backend: str = ""
    conv: ConvGeometry | None = None
    kept_bytes: int = 0

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the event."""
        return self.count * self.M * self.N * self.K


@dataclass(frozen=True, kw_only=True)
class VectorEvent:
    """Work that is not a GEMM.

    Attributes:
        kind: One of `VECTOR_KINDS`.
        elements: Elements the vector unit processes.
        read_bytes: Bytes read from memory, at the operands' stored widths.
        write_bytes: Bytes written.
        role: The part of the step it is billed to ("update" or "overhead", or a GEMM's role).
        layer: Module path of the layer, or "" for the whole model.
        random_bits: Random bits drawn in total.
        clipped: Of a conversion, how many elements lay beyond the format's ends; None where nobody counted.
        underflowed: Of a conversion, how many that were not zero became zero; None where nobody counted.
        copies: Of a quantisation, how many of its elements are copies, in overlapping windows, of others among them:
            where blocks lie otherwise in each window, or each copy draws random bits, each becomes codes of its own.
        kept_bytes: Bytes that it leaves in memory until the backward pass has read them.
        keeps: What the backward pass will read of it: its "operand", its "result", or "marks" (a mask, indices); ""
            for nothing. The bytes may have been counted before, by another event that keeps the same tensor.
        parameter: The parameter that it is on: "weight" where codes are made of a layer's weight, "bias" where its
            bias is added to a result; "" where it is on tensors that are new in every pass.
        parameter_bytes: Of an update, the bytes of the weights that it changes, as they are stored.
        gradient_bytes: Of an update, the bytes of their gradients, all of which are there when it starts.
        state_bytes: Of an update, the bytes of the optimiser's state (momentum, moments) between steps.
    """

    kind: str
    elements: int
    read_bytes: int
    write_bytes: int
    role: Role = "overhead"
    layer: str = ""
    random_bits: int = 0
    clipped: int | None = None
    underflowed: int | None = None
    copies: int = 0
    kept_bytes: int = 0
    keeps: Keeps = ""
    parameter: Parameter = ""
    parameter_bytes: int = 0
    gradient_bytes: int = 0
    state_bytes: int = 0

    def __post_init__(self) -> None:
        if self.kind not in VECTOR_KINDS:
            raise ValueError(
                f"unknown kind of vector work {self.kind!r}: known are {', '.join(VECTOR_KINDS)}"
            )

    @property
    def bytes(self) -> int:
        """Bytes moved, read and written."""
        return self.read_bytes + self.write_bytes


Event = GemmEvent | VectorEvent


@dataclass
class WorkloadTrace:
    """The events of a stretch of execution, in the order in which they ran."""

    events: list[Event] = field(default_factory=list)

    @property
    def gemms(self) -> list[GemmEvent]:
        """The GEMM events alone."""
        return [e for e in self.events if isinstance(e, GemmEvent)]

    @property
    def vectors(self) -> list[VectorEvent]:
        """The vector events alone."""
        return [e for e in self.events if isinstance(e, VectorEvent)]

    @property
    def macs(self) -> int:
        """Multiply-accumulates over all GEMMs."""
        return sum(e.macs for e in self.gemms)

    def overflow_share(self) -> float | None:
        """Overflowed share of all accumulator additions; None if some GEMM didn't count or none ran."""
        overflows = [e.overflows for e in self.gemms]
        additions = sum(e.additions for e in self.gemms)
        if not additions or any(o is None for o in overflows):
            return None
        return sum(o for o in overflows if o is not None) / additions


_active: list[WorkloadTrace] = []
_changes: list[Callable[[Event], Event]] = []


@contextmanager
def record() -> Iterator[WorkloadTrace]:
    """Collect the events of the emulated operators that run inside the `with` block, backward passes included.

    Native modules, the loss and the optimiser emit nothing by themselves; `trace_training_step` records a whole
    training step with all of them.

    Recorders nest: an inner block's events reach the outer one too.
    """
    trace = WorkloadTrace()
    _active.append(trace)
    try:
        yield trace
    finally:
        # By identity: two traces with equal events are equal as dataclasses.
        _active[:] = [t for t in _active if t is not trace]


def recording() -> bool:
    """Whether any recorder is active (to skip building events that nobody reads)."""
    return bool(_active)


@contextmanager
def changed(change: Callable[[Event], Event]) -> Iterator[None]:
    """Pass every event that the block emits through a function: to bill a module's work to another part of a step."""
    _changes.append(change)
    try:
        yield
    finally:
        _changes.pop()


def emit(event: Event) -> None:
    """Append an event to every active recorder."""
    for change in reversed(_changes):
        event = change(event)
    for trace in _active:
        trace.events.append(event)


def amend(event: Event, changed: Event) -> None:
    """Put a changed event in the place of one that every active recorder got, as when more is known of its result."""
    for trace in _active:
        found = (i for i in reversed(range(len(trace.events))) if trace.events[i] is event)
        place = next(found, None)
        if place is not None:
            trace.events[place] = changed
