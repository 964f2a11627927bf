"""Element-wise operators of a softmax on an Ethos-U, by published figures of its output unit.

    cycles = padded elements x max(cycles of an element, 8 bytes in and out / the SRAM's bytes a cycle)

Elements are padded to bricks of 16 channels. The sum's reciprocal is worked out on a single element, by a shift and
three steps of Newton and Raphson; ten of its operators have a constant operand (ethos-u-vela, softmax.py). A constant
comes from the outer memory, which a small block waits for. Vela keeps four blocks in flight, so that each takes a
quarter of what it waits for (npu_performance.py, `get_minimal_cmd_cycles`):

    cycles = blocks x (latency of the outer memory + a brick in and out of the SRAM + output of a block) / 4

A burst of the SRAM is 32 bytes, so that a block of fewer than 8 channels moves a brick in more of them. That these
blocks are one unit of output, and wait for that latency alone, is a fit to those rows (`FITTED`); all other numbers
are published.

By hand, on the U55-32, of which a unit is 4 elements at 3 cycles: a brick is 4 blocks; its 64 bytes take 16 cycles in
and 16 out, in bursts half full, so 4 x (64 + 32 + 12) / 4 = 108 cycles.
"""

from __future__ import annotations

from hw_models.compute.work import ceil_div
from hw_models.validation.ethos_u_layers import CLASSES
from hw_models.validation.ethos_u_sizes import Size
from lowbit_sim.numerics.suggest import unknown

BRICK = 16
ELEMENT_BYTES = 4
BURST_BYTES = 32
BLOCKS_IN_FLIGHT = 4

#: The element-wise operators of the softmax behind the classifier: one with a single operand, and those with two.
_UNARY = ("CLZ",)
_BINARY = ("Sub", "Add", "Mul", "Asr", "SHL")

#: Vela's indices. The first subtraction takes the classifier's 8-bit scores; from the 25th to the 46th operator the
#: softmax works on the reciprocal of one sum.
FIRST_SUBTRACTION = 21
RECIPROCAL = range(25, 47)

#: Those of the reciprocal that have a constant operand: two counts of bits and the first guess, 48 / 17 - 32 / 17 d,
#: then 1 - d x and a power of two in each step. A block's size and latency are a fit to their rows.
FITTED = (26, 27, 29, 30, *(start + i for start in (31, 36, 41) for i in (1, 3)))


def softmax_cycles(index: int, operator: str, size: Size) -> float:
    """Cycles of one of Vela's operators of a softmax over `CLASSES` scores.

    Args:
        index: Its place among the model's operators.
        operator: Vela's name.
        size: The machine.
    """
    elements = 1 if index in RECIPROCAL else CLASSES
    rescales, constant = index == FIRST_SUBTRACTION, index in FITTED
    return elementwise_cycles(operator, elements, size, rescales=rescales, constant=constant)


def elementwise_cycles(
    operator: str, elements: int, size: Size, *, rescales: bool = False, constant: bool = False
) -> float:
    """Cycles of an element-wise operator.

    Args:
        operator: Vela's name.
        elements: Elements of its result.
        size: The machine.
        rescales: Whether it takes 8-bit operands of different scales.
        constant: Whether one operand is a constant, which small blocks wait for.

    Raises:
        ValueError: An operator that is not element-wise.
    """
    if operator not in (*_UNARY, *_BINARY):
        raise ValueError(unknown("element-wise operator", operator, (*_UNARY, *_BINARY)))
    each = size.scaled if rescales else size.unary if operator in _UNARY else size.binary
    padded = ceil_div(elements, BRICK) * BRICK
    at_pace = padded * max(each, 2 * ELEMENT_BYTES / size.sram_bytes)
    return max(at_pace, padded / size.unit * _block_cycles(size, each)) if constant else at_pace


def _block_cycles(size: Size, each: float) -> float:
    """Cycles of a block of one unit of output that waits for a constant."""
    brick_bytes = ELEMENT_BYTES * BRICK * max(1.0, BURST_BYTES / (ELEMENT_BYTES * size.columns))
    waits = size.outer_latency + 2 * brick_bytes / size.sram_bytes + size.unit * each
    return waits / BLOCKS_IN_FLIGHT
