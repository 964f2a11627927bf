"""Element-wise work of a graph's nodes: passes over tensors, forward and backward, in float32.

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

These are the passes that a traced model is billed for the same functions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from hw_models.workloads.layer import FLOAT_BYTES
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
    """

    name: str
    kind: str
    work: str
    inputs: Sequence[int]
    output: int
    random_bits: int = 0

    @property
    def keeps(self) -> str:
        """Which tensors stay: "in", "out", or neither."""
        return {"norm": "in", "input": "in", "factors": "in", "output": "out"}.get(self.work, "")

    @property
    def marks(self) -> int:
        """Bytes of the places of the maxima, or of a mask."""
        return {"max": self.output, "mask": -(-self.output // 8)}.get(self.work, 0)


def forward_pass(p: Pass, kept_bytes: int = 0, *, training: bool = False) -> VectorEvent:
    """The forward event; what it keeps of its tensors is the caller's to count."""
    reads = sum(p.inputs) * FLOAT_BYTES * (2 if p.work == "norm" else 1)
    drawn = p.random_bits if training else 0
    write = p.output * FLOAT_BYTES
    return _event(p)(read_bytes=reads, write_bytes=write, random_bits=drawn, kept_bytes=kept_bytes)


def backward_pass(p: Pass) -> list[VectorEvent]:
    """The backward event; none where the gradient is passed on as it is."""
    if p.work == "sum":
        return []
    gradient, inputs = p.output * FLOAT_BYTES, sum(p.inputs) * FLOAT_BYTES
    reads = gradient + {"in": inputs, "out": gradient}.get(p.keeps, 0)
    if p.work == "norm":
        reads *= 2
    return [_event(p)(read_bytes=reads + p.marks, write_bytes=inputs)]


def _event(p: Pass) -> partial[VectorEvent]:
    return partial(VectorEvent, kind=p.kind, elements=max(p.output, *p.inputs), layer=p.name)
