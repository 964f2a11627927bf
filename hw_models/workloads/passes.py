"""Element-wise work of a graph's nodes: passes over tensors, forward and backward.

| work    | forward reads | backward reads     | kept until then |
|---------|---------------|--------------------|-----------------|
| norm    | in twice      | g and in, twice    | in              |
| max     | in            | g and indices      | a byte a window |
| output  | in            | g and out          | out             |
| input   | in            | g and in           | in              |
| factors | in            | g and in           | in              |
| mask    | in            | g and mask         | a bit a result  |
| linear  | in            | g                  | nothing         |
| sum     | in            | g is passed on     | nothing         |

These are the passes that a traced model is billed for the same functions. Each tensor is read and written in the
format that it is stored in (`stored`); an output that the backward pass reads is kept as it was before the rounding,
but for one of which the sign is enough, so that its rounding is a pass of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from hw_models.workloads.stored import FLOAT32, FLOAT_BYTES, Stored, drawn_bits, narrowed, stored_bytes
from lowbit_sim.quant.quantizer import Quantizer
from lowbit_sim.trace import VectorEvent


@dataclass(frozen=True, kw_only=True)
class Pass:
    """One node.

    Attributes:
        name: The node's name.
        kind: The kind of vector work.
        work: A row of the table.
        inputs: Elements of each input.
        output: Elements of the output.
        random_bits: Random bits that it draws in training.
        sign: Whether of its output the backward pass reads the sign alone, which rounding leaves.
        read_bytes: Bytes of the inputs as they are stored; None for float32.
        stored: The formats of its result and of the gradients.
    """

    name: str
    kind: str
    work: str
    inputs: Sequence[int]
    output: int
    random_bits: int = 0
    sign: bool = False
    read_bytes: int | None = None
    stored: Stored = FLOAT32

    @property
    def input_bytes(self) -> int:
        """Bytes of the inputs."""
        return sum(self.inputs) * FLOAT_BYTES if self.read_bytes is None else self.read_bytes

    @property
    def unrounded(self) -> bool:
        """Whether the backward pass reads the output as it was before it was rounded."""
        return self.work == "output" and not self.sign

    @property
    def keeps(self) -> str:
        """Which tensors stay: "in", "out", or neither."""
        return {"norm": "in", "input": "in", "factors": "in", "output": "out"}.get(self.work, "")

    @property
    def marks(self) -> int:
        """Bytes of the places of the maxima, or of a mask."""
        return {"max": self.output, "mask": -(-self.output // 8)}.get(self.work, 0)


def forward_pass(p: Pass, kept_bytes: int = 0, *, training: bool = False) -> list[VectorEvent]:
    """The forward event, and the rounding of its output where that is a pass of its own.

    Args:
        p: The node.
        kept_bytes: What it keeps of its tensors, which is the caller's to count.
        training: Whether a backward pass follows.
    """
    reads = p.input_bytes * (2 if p.work == "norm" else 1)
    drawn = p.random_bits if training else 0
    write = p.output * FLOAT_BYTES
    forward = _event(p)(read_bytes=reads, write_bytes=write, random_bits=drawn, kept_bytes=kept_bytes)
    if p.stored.y is None:
        return [forward]
    if not (training and p.unrounded):
        return [narrowed(forward, p.output, p.stored.y)]
    return [forward, *rounding_pass(p.name, p.output, p.stored.y)]


def backward_pass(p: Pass) -> list[VectorEvent]:
    """The backward event; none where the gradient is passed on as it is."""
    if p.work == "sum":
        return []
    gradient, inputs = stored_bytes(p.output, p.stored.g), sum(p.inputs)
    kept = stored_bytes(p.output, None if p.unrounded else p.stored.y)
    reads = gradient + {"in": p.input_bytes, "out": kept}.get(p.keeps, 0)
    if p.work == "norm":
        reads *= 2
    write = inputs * FLOAT_BYTES
    backward = _event(p)(read_bytes=reads + p.marks, write_bytes=write)
    return [backward if p.stored.dx is None else narrowed(backward, inputs, p.stored.dx)]


def rounding_pass(name: str, elements: int, quantizer: Quantizer) -> list[VectorEvent]:
    """A cast of a float32 tensor that nothing else writes in its format."""
    event = partial(VectorEvent, elements=elements, layer=name)
    drawn = drawn_bits(elements, quantizer)
    bits = [event(kind="random_bits", read_bytes=0, write_bytes=0, random_bits=drawn)] if drawn else []
    size = elements * FLOAT_BYTES
    return [*bits, event(kind="quantize", read_bytes=size, write_bytes=stored_bytes(elements, quantizer))]


def _event(p: Pass) -> partial[VectorEvent]:
    return partial(VectorEvent, kind=p.kind, elements=max(p.output, *p.inputs), layer=p.name)
