"""The direct convolution has the bits of the matrices: output and both gradients, whatever the geometry."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

import lowbit_sim as lb
from lowbit_sim.ops.im2col import Window
from lowbit_sim.ops.operand import CallSite
from tests.ops.cases import output_shape, reals, run_conv
from tests.ops.direct_conv.ways import by_matrices, direct_roles

STOCHASTIC = lb.Rounding("stochastic", random_bits=8)
SPECS = {
    "int8": lb.OpSpec.uniform(lb.INT8),
    "int4, stochastic gradients": lb.OpSpec.uniform(lb.INT4, gradient_rounding=STOCHASTIC),
    "full range": lb.OpSpec.uniform(lb.IntFormat(bits=8, symmetric=False)),
    "per channel": lb.OpSpec(
        output=lb.GemmSpec(lb.Quantizer(lb.INT8), lb.Quantizer(lb.INT8, granularity=lb.PerAxis(0))),
        grad_input=lb.OpSpec.uniform(lb.INT8).grad_input,
        grad_weight=lb.OpSpec.uniform(lb.INT4).grad_weight,
    ),
}


@contextmanager
def threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def assert_same(found: tuple[Tensor, ...], expected: tuple[Tensor, ...]) -> None:
    for mine, theirs in zip(found, expected, strict=True):
        assert torch.equal(mine, theirs)
        assert mine.is_contiguous()


PAIRS = st.tuples(st.integers(1, 3), st.integers(1, 3))


@st.composite
def convolutions(draw) -> tuple[tuple[int, ...], int, Window]:
    """A shape of x, output channels and a window that fits into x."""
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    channels, out_channels = groups * draw(st.integers(1, 9)), groups * draw(st.integers(1, 9))
    window = Window(
        kernel=draw(PAIRS),
        stride=draw(PAIRS),
        dilation=draw(PAIRS),
        padding=draw(st.tuples(*[st.integers(-1, 3)] * 4)),
        groups=groups,
    )
    shape = (draw(st.integers(1, 5)), channels, draw(st.integers(1, 19)), draw(st.integers(1, 19)))
    padded = (shape[2] + sum(window.padding[:2]), shape[3] + sum(window.padding[2:]))
    assume(min(padded) >= 1 and min(window.output_size(*shape[2:])) >= 1)
    return shape, out_channels, window


@given(case=convolutions(), spec=st.sampled_from(sorted(SPECS)), count=st.sampled_from([1, 2]))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_any_geometry_has_the_bits_of_the_matrices(case, spec, count) -> None:
    shape, out_channels, window = case
    x, w = reals(0, *shape), reals(1, out_channels, shape[1] // window.groups, *window.kernel)
    g = reals(2, *output_shape(shape, out_channels, window))
    with threads(count):
        found = run_conv(x, w, g, window, SPECS[spec])
    with by_matrices():
        expected = run_conv(x, w, g, window, SPECS[spec])
    assert_same(found, expected)


def test_an_output_within_the_padding_alone() -> None:
    window = Window(kernel=(2, 5), stride=(3, 2), padding=(3, 0, 3, 0), groups=3)
    x, w = reals(0, 3, 24, 1, 4), reals(1, 3, 8, 2, 5)
    g = reals(2, *output_shape(x.shape, 3, window))
    with by_matrices():
        expected = run_conv(x, w, g, window, SPECS["int8"])
    assert_same(run_conv(x, w, g, window, SPECS["int8"]), expected)


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("batch", [1, 40])
def test_all_three_gemms_go_the_direct_way(spec: str, batch: int) -> None:
    # 40 images are several blocks, the last of them a short one.
    window = Window(kernel=(3, 3), padding=(1, 1, 1, 1))
    x, w = reals(0, batch, 16, 32, 32), reals(1, 24, 16, 3, 3)
    g = reals(2, batch, 24, 32, 32)
    with direct_roles() as roles:
        found = run_conv(x, w, g, window, SPECS[spec])
    with by_matrices():
        expected = run_conv(x, w, g, window, SPECS[spec])
    assert roles == ["output", "grad_input", "grad_weight"]
    assert_same(found, expected)


@pytest.mark.parametrize("layout", ["channels last", "transposed", "expanded"])
def test_any_memory_layout(layout: str) -> None:
    window = Window(kernel=(3, 2), stride=(2, 1), padding=(1, 1, 0, 1))
    x, w = reals(0, 3, 5, 9, 7), reals(1, 4, 5, 3, 2)
    g = reals(2, *output_shape(x.shape, 4, window))
    arranged = {
        "channels last": lambda t: t.contiguous(memory_format=torch.channels_last),
        "transposed": lambda t: t.transpose(2, 3).contiguous().transpose(2, 3),
        "expanded": lambda t: t[:1].expand(t.shape),
    }[layout]
    with by_matrices():
        x, w, g = arranged(x), arranged(w), arranged(g)
        expected = run_conv(x.contiguous(), w.contiguous(), g.contiguous(), window, SPECS["int8"])
    assert_same(run_conv(x, w, g, window, SPECS["int8"]), expected)


def test_who_watches_the_gemms_sees_the_general_way() -> None:
    window = Window(kernel=(3, 3), padding=(1, 1, 1, 1))
    x, w, g = reals(0, 2, 4, 6, 6), reals(1, 4, 4, 3, 3), reals(2, 2, 4, 6, 6)
    with direct_roles() as roles, lb.record() as trace:
        recorded = run_conv(x, w, g, window, SPECS["int8"])
    assert roles == []
    assert len(trace.gemms) == 3
    assert_same(run_conv(x, w, g, window, SPECS["int8"]), recorded)


@pytest.mark.parametrize(
    "spec",
    [
        lb.OpSpec.uniform(lb.INT8, mac=lb.MacUnit(accumulator_bits=8, overflow="saturate", chunk=4)),
        lb.OpSpec.uniform(lb.INT8, scale=lb.MinMaxScale()),
        lb.OpSpec.uniform(lb.IntFormat(bits=12)),
    ],
    ids=["unproven", "zero points", "12 bits"],
)
def test_what_no_format_proves_goes_the_general_way(spec: lb.OpSpec) -> None:
    window = Window(kernel=(3, 3))
    x, w, g = reals(0, 2, 4, 6, 6), reals(1, 4, 4, 3, 3), reals(2, 2, 4, 4, 4)
    with direct_roles() as roles:
        found = run_conv(x, w, g, window, spec)
    with by_matrices():
        expected = run_conv(x, w, g, window, spec)
    assert roles == []
    assert_same(found, expected)


@pytest.mark.parametrize("step", [0, 1])
@pytest.mark.parametrize("overflow", ["wrap", "saturate"])
def test_tallies_are_those_of_the_matrices(overflow: str, step: int) -> None:
    window = Window(kernel=(3, 3), groups=2)
    x, w, g = reals(0, 2, 4, 6, 6), reals(1, 4, 2, 3, 3), reals(2, 2, 4, 4, 4)
    mac = lb.MacUnit(accumulator_bits=24, overflow=overflow)
    direct, general = CallSite(tallies={}, step=step), CallSite(tallies={}, step=step)
    spec = lb.OpSpec.uniform(lb.INT8, mac=mac)
    with direct_roles() as roles:
        run_conv(x, w, g, window, spec, at=direct)
    with by_matrices():
        run_conv(x, w, g, window, spec, at=general)
    assert "output" in roles
    assert direct.tallies == general.tallies
