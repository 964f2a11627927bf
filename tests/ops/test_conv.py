"""With formats wide enough for the data, the operator is the exact convolution; without emulation, torch's own."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lowbit_sim.ops.conv import conv
from lowbit_sim.ops.im2col import Window, resolve_padding
from tests.ops import conv_oracles
from tests.ops.cases import NATIVE, ROLES, codes_spec, integers, only, output_shape, reals, run_conv

KERNELS = [(1, 1), (2, 2), (2, 3), (3, 3)]
STRIDES = [(1, 1), (2, 1), (3, 2)]
DILATIONS = [(1, 1), (2, 1)]
PADDINGS = ["same", "valid", (1, 2), (3, 0)]
SHAPE = (2, 4, 7, 8)

GEOMETRIES = [
    # torch has no "same" with strides.
    case
    for case in itertools.product(KERNELS, STRIDES, DILATIONS, PADDINGS, [1, 2, 4])
    if case[3] != "same" or case[1] == (1, 1)
]

# torch tells that it pads one side more than the other; that is what is under test.
ASYMMETRIC = pytest.mark.filterwarnings("ignore:Using padding='same'")


def window_of(kernel, stride, dilation, padding, groups) -> Window:
    resolved = resolve_padding(padding, kernel, dilation)
    return Window(kernel=kernel, stride=stride, dilation=dilation, padding=resolved, groups=groups)


def torch_conv(x: Tensor, w: Tensor, g: Tensor, bias: Tensor | None, *geometry) -> tuple[Tensor, ...]:
    """torch's own output and gradients, in float64."""
    x, w = x.double().requires_grad_(), w.double().requires_grad_()
    y = F.conv2d(x, w, None if bias is None else bias.double(), *geometry)
    return y.detach(), *torch.autograd.grad(y, (x, w), g.double())


@ASYMMETRIC
@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_integers_give_the_exact_convolution(geometry) -> None:
    kernel, stride, dilation, padding, groups = geometry
    window = window_of(*geometry)
    x, w = integers(0, *SHAPE), integers(1, 8, 4 // groups, *kernel)
    g = integers(2, *output_shape(SHAPE, 8, window))
    bias = integers(3, 8, largest=99) if groups != 2 else None
    found = run_conv(x, w, g, window, codes_spec(), bias)
    # A float64 convolution may leave the integers by rounding; these sums are far below where that is half a unit.
    for mine, theirs in zip(found, torch_conv(x, w, g, bias, stride, padding, dilation, groups), strict=True):
        assert torch.equal(mine.double(), theirs.round())
    unfolded = (
        conv_oracles.unfolded_output(x, w, window) + (0 if bias is None else bias[:, None, None]),
        conv_oracles.unfolded_grad_input(g, w, SHAPE, window),
        conv_oracles.unfolded_grad_weight(g, x, w.shape, window),
    )
    for mine, theirs in zip(found, unfolded, strict=True):
        assert torch.equal(mine.double(), theirs)


@pytest.mark.parametrize(
    "geometry",
    [
        ((3, 3), (1, 1), (1, 1), (1, 1), 1),
        ((2, 3), (3, 2), (2, 1), (3, 0), 2),
        ((2, 2), (1, 1), (1, 1), "same", 4),
    ],
    ids=str,
)
def test_the_oracles_agree(geometry) -> None:
    window = window_of(*geometry)
    x, w = integers(0, *SHAPE), integers(1, 8, 4 // window.groups, *window.kernel)
    g = integers(2, *output_shape(SHAPE, 8, window))
    shifted = (
        conv_oracles.shifted_output(x, w, window),
        conv_oracles.shifted_grad_input(g, w, SHAPE, window),
        conv_oracles.shifted_grad_weight(g, x, w.shape, window),
    )
    for mine, theirs in zip(run_conv(x, w, g, window, codes_spec()), shifted, strict=True):
        assert torch.equal(mine.long(), theirs)


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize(
    ("stride", "dilation", "padding"), [((1, 1), (1, 1), (1, 1)), ((3, 2), (2, 1), (2, 0))]
)
def test_native_gemms_are_torch(stride, dilation, padding, groups) -> None:
    window = window_of((3, 2), stride, dilation, padding, groups)
    x, w, bias = reals(0, *SHAPE), reals(1, 8, 4 // groups, 3, 2), reals(2, 8)
    g = reals(3, *output_shape(SHAPE, 8, window))
    expected = torch_conv(x, w, g, bias, stride, padding, dilation, groups)
    for mine, theirs in zip(run_conv(x, w, g, window, NATIVE, bias), expected, strict=True):
        torch.testing.assert_close(mine.double(), theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("groups", [1, 2])
def test_each_gemm_switched_alone_changes_its_own_result_only(role, groups) -> None:
    window = window_of((3, 3), (2, 1), (1, 1), (1, 1), groups)
    x, w = reals(0, *SHAPE), reals(1, 8, 4 // groups, 3, 3)
    g = reals(2, *output_shape(SHAPE, 8, window))
    native = run_conv(x, w, g, window, NATIVE)
    emulated = run_conv(x, w, g, window, only(role, codes_spec()))
    for name, before, after in zip(ROLES, native, emulated, strict=True):
        assert torch.equal(before, after) == (name != role)


def test_bias_gets_the_gradient_of_a_sum() -> None:
    window = Window(kernel=(3, 3))
    x, w, bias = integers(0, *SHAPE), integers(1, 8, 4, 3, 3), integers(2, 8).requires_grad_()
    g = integers(3, *output_shape(SHAPE, 8, window))
    [grad] = torch.autograd.grad(conv(x, w, bias, window, codes_spec()), bias, g)
    assert torch.equal(grad, g.sum((0, 2, 3)))


def test_one_image_is_a_batch_of_one() -> None:
    window = Window(kernel=(3, 2), padding=(1, 0, 2, 1))
    x, w, bias = integers(0, 1, *SHAPE[1:]), integers(1, 8, 4, 3, 2), integers(2, 8)
    g = integers(3, *output_shape((1, *SHAPE[1:]), 8, window))
    batch = run_conv(x, w, g, window, codes_spec(), bias)
    image = run_conv(x[0], w, g[0], window, codes_spec(), bias)
    assert torch.equal(image[0], batch[0][0])
    assert torch.equal(image[1], batch[1][0])
    assert torch.equal(image[2], batch[2])
