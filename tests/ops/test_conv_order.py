"""The order in which a convolution adds, seen through accumulators that saturate.

Every case is compared with Python loops over the reference accumulator; and every case's data is such that any
other order of the loops gives another result, so that a wrong order can't pass.
"""

import itertools
from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

import lowbit_sim as lb
from lowbit_sim.arith.mac import MacUnit
from lowbit_sim.ops.im2col import Window
from tests.ops import conv_oracles
from tests.ops.cases import codes_spec, integers, output_shape, run_conv

SHAPE = (2, 4, 5, 6)
OUT_CHANNELS = 4

#: A convolution, its MAC unit and the largest code.
CASES = {
    "plain": (Window(kernel=(2, 3)), MacUnit(accumulator_bits=8, overflow="saturate"), 9),
    "padded": (
        Window(kernel=(3, 2), padding=(1, 0, 0, 2)),
        MacUnit(accumulator_bits=9, overflow="saturate", chunk=5, outer_bits=9),
        9,
    ),
    "strided": (
        Window(kernel=(3, 3), stride=(2, 2), padding=(1, 1, 1, 1)),
        MacUnit(accumulator_bits=8, overflow="saturate", chunk=7, outer_bits=10),
        9,
    ),
    "dilated": (
        Window(kernel=(2, 2), stride=(1, 2), dilation=(2, 1), padding=(2, 1, 1, 0)),
        MacUnit(accumulator_bits=12, overflow="saturate", chunk=5, outer_bits=11),
        60,
    ),
    "grouped": (
        Window(kernel=(2, 3), stride=(2, 1), padding=(0, 1, 1, 1), groups=2),
        MacUnit(accumulator_bits=8, overflow="saturate", chunk=4),
        9,
    ),
    "depthwise": (
        Window(kernel=(3, 3), padding=(1, 1, 1, 1), groups=4),
        MacUnit(accumulator_bits=8, overflow="saturate"),
        15,
    ),
    "wrapping": (
        # The wrapped sum of a chunk depends on which products share the chunk.
        Window(kernel=(2, 2), padding=(1, 1, 0, 0), dilation=(1, 2)),
        MacUnit(accumulator_bits=8, overflow="wrap", chunk=5, outer_bits=16),
        9,
    ),
}


def other_orders(lengths: Sequence[int]) -> dict[str, conv_oracles.Order]:
    """Every other nesting of the loops that matters for these lengths, and every loop run backwards."""
    long = [i for i, n in enumerate(lengths) if n > 1]
    nestings = [p for p in itertools.permutations(range(3)) if [i for i in p if i in long] != long]
    orders: dict[str, conv_oracles.Order] = {
        f"nested {nesting}": lambda position, nesting=nesting: tuple(position[i] for i in nesting)
        for nesting in nestings
    }
    for axis in long:
        orders[f"axis {axis} backwards"] = lambda position, axis=axis: tuple(
            -p if i == axis else p for i, p in enumerate(position)
        )
    return orders


def assert_order(
    found: Tensor, loops: Callable[[conv_oracles.Order], tuple[Tensor, int]], lengths: Sequence[int]
) -> int:
    """The result is that of the contract's order and of no other; returns the overflows."""
    expected, overflows = loops(conv_oracles.in_order)
    assert torch.equal(found, expected)
    for name, order in other_orders(lengths).items():
        assert not torch.equal(loops(order)[0], expected), f"{name} would pass too"
    return overflows


@pytest.mark.parametrize("case", CASES)
def test_order_of_the_three_gemms(case: str) -> None:
    window, mac, largest = CASES[case]
    x = integers(0, *SHAPE, largest=largest)
    w = integers(1, OUT_CHANNELS, SHAPE[1] // window.groups, *window.kernel, largest=largest)
    g = integers(2, *output_shape(SHAPE, OUT_CHANNELS, window), largest=largest)
    with lb.record() as trace:
        output, grad_input, grad_weight = run_conv(x, w, g, window, codes_spec(mac))
    overflows = {
        "output": assert_order(
            output,
            lambda order: conv_oracles.looped_output(x, w, window, mac, order),
            (*window.kernel, w.shape[1]),
        ),
        "grad_input": assert_order(
            grad_input,
            lambda order: conv_oracles.looped_grad_input(g, w, SHAPE, window, mac, order),
            (*window.kernel, OUT_CHANNELS // window.groups),
        ),
        "grad_weight": assert_order(
            grad_weight,
            lambda order: conv_oracles.looped_grad_weight(g, x, w.shape, window, mac, order),
            (g.shape[0], *g.shape[2:]),
        ),
    }
    assert {e.role: e.overflows for e in trace.gemms} == overflows
    assert all(overflows.values())
    for event in trace.gemms:
        assert event.additions == event.count * event.M * event.N * mac.additions(event.K)


def test_zeros_of_padding_and_stride_take_their_place_in_a_chunk() -> None:
    window, mac, _ = CASES["strided"]
    x, w = integers(0, *SHAPE), integers(1, OUT_CHANNELS, 4, 3, 3)
    g = integers(2, *output_shape(SHAPE, OUT_CHANNELS, window))
    _, grad_input, _ = run_conv(x, w, g, window, codes_spec(mac))
    expected, _ = conv_oracles.looped_grad_input(g, w, SHAPE, window, mac)
    assert torch.equal(grad_input, expected)

    def zeros_last(terms, mac, order):
        return original(sorted(terms, key=lambda term: term[1] == 0), mac, lambda position: ())

    original = conv_oracles._sum
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(conv_oracles, "_sum", zeros_last)
        assert not torch.equal(conv_oracles.looped_grad_input(g, w, SHAPE, window, mac)[0], expected)
