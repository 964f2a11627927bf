"""Convolutions over one and three axes, and transposed ones over one, two and three."""

from dataclasses import replace
from itertools import product

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import lowbit_sim as lb
from lowbit_sim.arith.backends.reference import dot
from lowbit_sim.ops.conv import conv
from lowbit_sim.ops.conv_transpose import conv_transpose
from lowbit_sim.ops.im2col import Window, resolve_padding
from lowbit_sim.ops.operand import CallSite
from tests.ops.cases import NATIVE, ROLES, codes_spec, integers, only, reals, run_conv

CONVS = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
TRANSPOSED = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}

#: kernel, stride, dilation, padding on both sides, groups; cut to the number of axes.
GEOMETRIES = {
    "plain": ((3, 2, 2), (1, 1, 1), (1, 1, 1), (0, 0, 0), 1),
    "padded and strided": ((2, 3, 2), (2, 1, 2), (1, 1, 1), (1, 1, 0), 1),
    "dilated": ((2, 2, 2), (1, 2, 1), (2, 1, 2), (1, 0, 1), 1),
    "grouped": ((2, 2, 1), (2, 2, 1), (1, 1, 1), (1, 1, 0), 2),
}
SIZE = (6, 5, 4)
SATURATING = lb.MacUnit(accumulator_bits=8, overflow="saturate", chunk=5, outer_bits=9)
STOCHASTIC = lb.OpSpec.uniform(lb.INT4, gradient_rounding=lb.Rounding("stochastic", random_bits=8))


def window_of(name: str, axes: int) -> tuple[Window, tuple[int, ...]]:
    kernel, stride, dilation, padding, groups = GEOMETRIES[name]
    padding = padding[:axes]
    window = Window(
        kernel=kernel[:axes],
        stride=stride[:axes],
        dilation=dilation[:axes],
        padding=resolve_padding(padding, kernel[:axes], dilation[:axes]),
        groups=groups,
    )
    return window, padding


def all_cases(axes):
    return pytest.mark.parametrize(("axes", "name"), list(product(axes, GEOMETRIES)))


@all_cases([1, 2, 3])
@pytest.mark.parametrize("spec", [codes_spec(), NATIVE], ids=["emulated", "native"])
def test_integers_give_torchs_convolution(axes, name, spec) -> None:
    window, padding = window_of(name, axes)
    x, w = integers(0, 2, 4, *SIZE[:axes]), integers(1, 6, 4 // window.groups, *window.kernel)
    g = integers(2, 2, 6, *window.output_size(*SIZE[:axes]))
    wide, weight = x.double().requires_grad_(), w.double().requires_grad_()
    y = CONVS[axes](wide, weight, None, window.stride, padding, window.dilation, window.groups)
    expected = (y, *torch.autograd.grad(y, (wide, weight), g.double()))
    for found, exact in zip(run_conv(x, w, g, window, spec), expected, strict=True):
        assert torch.equal(found.double(), exact)


def run_transposed(x: Tensor, w: Tensor, g: Tensor, window: Window, extra, spec, at=CallSite()):
    x, w = x.detach().requires_grad_(), w.detach().requires_grad_()
    y = conv_transpose(x, w, None, window, extra, spec, at)
    return y.detach(), *torch.autograd.grad(y, (x, w), g)


@all_cases([1, 2, 3])
@pytest.mark.parametrize("extra", [0, 1])
@pytest.mark.parametrize("spec", [codes_spec(), NATIVE], ids=["emulated", "native"])
def test_integers_give_torchs_transposed_convolution(axes, name, extra, spec) -> None:
    window, padding = window_of(name, axes)
    wanted = tuple(int(extra and s > 1) for s in window.stride)
    x, w = integers(0, 2, 4, *SIZE[:axes]), integers(1, 4, 6 // window.groups, *window.kernel)
    wide, weight = x.double().requires_grad_(), w.double().requires_grad_()
    y = TRANSPOSED[axes](wide, weight, None, window.stride, padding, wanted, window.groups, window.dilation)
    g = integers(2, *y.shape)
    expected = (y, *torch.autograd.grad(y, (wide, weight), g.double()))
    for found, exact in zip(run_transposed(x, w, g, window, wanted, spec), expected, strict=True):
        assert torch.equal(found.double(), exact)


@pytest.mark.parametrize("name", GEOMETRIES)
@pytest.mark.parametrize("spec", [codes_spec(SATURATING), STOCHASTIC], ids=["saturating", "stochastic"])
def test_one_axis_is_an_image_of_height_one(name, spec) -> None:
    window, _ = window_of(name, 1)
    flat = Window(
        kernel=(1, *window.kernel),
        stride=(1, *window.stride),
        dilation=(1, *window.dilation),
        padding=(0, 0, *window.padding),
        groups=window.groups,
    )
    x, w = integers(0, 2, 4, 9), integers(1, 6, 4 // window.groups, *window.kernel)
    g = integers(2, 2, 6, *window.output_size(9))
    line = run_conv(x, w, g, window, spec)
    image = run_conv(x[:, :, None], w[:, :, None], g[:, :, None], flat, spec)
    for a, b in zip(line, image, strict=True):
        assert torch.equal(a, b.squeeze(2))


def test_the_order_over_three_axes() -> None:
    """k runs over kernel planes, rows, columns and then channels, through an accumulator that saturates."""
    window, _ = window_of("padded and strided", 3)
    x, w = integers(0, 1, 3, *SIZE), integers(1, 2, 3, *window.kernel)
    found = conv(x, w, None, window, codes_spec(SATURATING))
    before, after = window.before, window.after
    padded = F.pad(x, [n for i in (2, 1, 0) for n in (before[i], after[i])])
    taps = list(product(*(range(n) for n in window.kernel), range(3)))
    overflowed = 0
    for o, *place in product(range(2), *(range(n) for n in found.shape[2:])):
        corner = [p * s for p, s in zip(place, window.stride, strict=True)]
        a = [int(padded[0, c, corner[0] + i, corner[1] + j, corner[2] + k]) for i, j, k, c in taps]
        b = [int(w[o, c, i, j, k]) for i, j, k, c in taps]
        expected, overflows = dot(a, b, SATURATING)
        overflowed += overflows
        assert found[0, o, *place] == expected
    assert overflowed > 0


@all_cases([1, 2, 3])
@pytest.mark.parametrize("role", ROLES)
def test_a_transposed_convolution_is_the_other_ones_gradient(axes, name, role) -> None:
    """Bit for bit, through an accumulator that saturates; only the GEMM's name differs."""
    window, _ = window_of(name, axes)
    size = window.output_size(*SIZE[:axes])
    x, w = integers(0, 2, 4, *size), integers(1, 4, 6 // window.groups, *window.kernel)
    g = integers(2, 2, 6, *SIZE[:axes])
    extra = [
        n - ((m - 1) * window.stride[i] - window.before[i] - window.after[i] + window.span[i] + 1)
        for i, (n, m) in enumerate(zip(SIZE, size, strict=False))
    ]
    y, grad_input, grad_weight = run_transposed(x, w, g, window, extra, codes_spec(SATURATING))
    spec = codes_spec(SATURATING)
    forward, gradient, _ = run_conv(g, w, x, window, spec)
    if role == "output":
        assert torch.equal(y, gradient)
    elif role == "grad_input":
        assert torch.equal(grad_input, forward)
    else:
        *_, expected = run_conv(g, w, x, window, spec)
        assert torch.equal(grad_weight, expected)


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize(("axis", "tensor"), [(0, "x"), (1, "w")])
def test_scales_along_an_axis_of_a_transposed_convolution(role, axis, tensor) -> None:
    """A scale for each sample and one for each output channel, against dequantised tensors in float64."""
    window = Window(kernel=(2, 2), stride=(2, 2), padding=(1, 0, 0, 1), groups=2)
    scaled, plain = lb.Quantizer(lb.INT8, granularity=lb.PerAxis(axis)), lb.Quantizer(lb.INT8)
    lhs, rhs = (scaled, plain) if tensor == "x" else (plain, scaled)
    if role != "output":
        lhs = rhs = plain
    gemm = replace(codes_spec().output, lhs=lhs, rhs=rhs)  # type: ignore[type-var]
    spec = only(role, lb.OpSpec(output=gemm, grad_input=gemm, grad_weight=gemm))
    x, w = reals(0, 3, 4, 4, 5), reals(1, 4, 3, 2, 2)
    found = conv_transpose(x, w, None, window, (1, 0), spec)
    qx, qw = (lhs(x).dequantize(), rhs(w).dequantize()) if role == "output" else (x, w)
    padded = F.conv_transpose2d(qx.double(), qw.double(), None, 2, 0, 0, 2)
    expected = F.pad(padded, (0, -1, -1, 1))
    assert torch.allclose(found.double(), expected, rtol=1e-5, atol=1e-5)


def test_random_bits_of_every_group_and_axis_differ() -> None:
    at = CallSite(seed=1, step=2, site=3)
    window, _ = window_of("grouped", 3)
    x, w = reals(0, 2, 4, *SIZE), reals(1, 6, 2, *window.kernel)
    g = reals(2, 2, 6, *window.output_size(*SIZE))
    once, again = (run_conv(x, w, g, window, STOCHASTIC, at=at) for _ in range(2))
    other = run_conv(x, w, g, window, STOCHASTIC, at=replace(at, step=3))
    assert all(torch.equal(a, b) for a, b in zip(once, again, strict=True))
    assert not torch.equal(once[1], other[1])
    assert not torch.equal(once[2], other[2])


@pytest.mark.parametrize(
    ("x_shape", "extra", "message"),
    [
        (
            (2, 3, 5),
            (0, 0),
            r"takes 4 channels before 2 spatial axes for weight \[4, 2, 2, 2\], got \[2, 3, 5\]",
        ),
        ((2, 4, 5, 5), (2, 0), "output_padding .* must be smaller than the stride"),
    ],
)
def test_what_does_not_fit_is_named(x_shape, extra, message) -> None:
    window = Window(kernel=(2, 2))
    with pytest.raises(ValueError, match=message):
        conv_transpose(reals(0, *x_shape), reals(1, 4, 2, 2, 2), None, window, extra, codes_spec())


def test_a_window_of_mixed_axes_is_refused() -> None:
    with pytest.raises(ValueError, match="a kernel of 1 axes takes as many strides"):
        Window(kernel=(3,))
