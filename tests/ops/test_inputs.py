"""What the operators accept and refuse: layouts, dtypes, empty and odd sizes, NaN and infinity."""

import re

import pytest
import torch
from torch import Tensor

import lowbit_sim as lb
from lowbit_sim.ops.conv import conv
from lowbit_sim.ops.im2col import Window
from lowbit_sim.ops.linear import linear
from lowbit_sim.ops.operand import CallSite
from tests.ops.cases import NATIVE, codes_spec, integers, only, reals, run_conv, run_linear

SPEC = lb.OpSpec.uniform(lb.INT8)
AT = CallSite(layer="features.0")
WINDOW = Window(kernel=(3, 3), padding=(1, 1, 1, 1))
SHAPES = {"linear": ((4, 6), (5, 6)), "conv": ((2, 4, 5, 6), (8, 4, 3, 3))}
OPERATORS = pytest.mark.parametrize("operator", SHAPES)


def call(operator: str, x: Tensor, w: Tensor, bias: Tensor | None = None, spec: lb.OpSpec = SPEC) -> Tensor:
    if operator == "linear":
        return linear(x, w, bias, spec, AT)
    return conv(x, w, bias, WINDOW, spec, AT)


def data(operator: str) -> tuple[Tensor, Tensor]:
    x_shape, w_shape = SHAPES[operator]
    return reals(0, *x_shape), reals(1, *w_shape)


def results(operator: str, x: Tensor, w: Tensor, g: Tensor, spec: lb.OpSpec = SPEC) -> tuple[Tensor, ...]:
    x, w = x.detach().requires_grad_(), w.detach().requires_grad_()
    y = call(operator, x, w, spec=spec)
    return y.detach(), *torch.autograd.grad(y, (x, w), g)


def layouts(t: Tensor) -> dict[str, Tensor]:
    """The same values in memory in other ways."""
    wide = torch.empty(*t.shape[:-1], 2 * t.shape[-1])
    wide[..., ::2] = t
    found = {
        "transposed": t.transpose(0, -1).contiguous().transpose(0, -1),
        "strided": wide[..., ::2],
        "negated": torch.neg(-t),
    }
    if t.ndim == 4:
        found["channels_last"] = t.to(memory_format=torch.channels_last)
    return found


@OPERATORS
@pytest.mark.parametrize("spec", [SPEC, NATIVE], ids=["emulated", "native"])
def test_layout_does_not_matter(operator, spec) -> None:
    x, w = data(operator)
    # Integers, so that native float sums are exact in any order.
    x, w = (8 * x).round(), (8 * w).round()
    g = integers(2, *call(operator, x, w).shape)
    expected = results(operator, x, w, g, spec)
    for name, other_x in layouts(x).items():
        for mine, theirs in zip(
            results(operator, other_x, layouts(w)[name], layouts(g)[name], spec), expected, strict=True
        ):
            assert torch.equal(mine, theirs), name


def test_the_output_can_be_viewed_as_rows() -> None:
    """As models do between their last convolution and their first linear layer."""
    x, w = data("conv")
    assert call("conv", x, w).view(2, -1).shape == (2, 8 * 5 * 6)


@OPERATORS
def test_expanded_tensors(operator) -> None:
    x, w = data(operator)
    x, w = x[:1].expand_as(x), w[:1].expand_as(w)
    y = call(operator, x, w)
    g = torch.tensor(0.5).expand_as(y)
    expected = results(operator, x.contiguous(), w.contiguous(), g.contiguous())
    for mine, theirs in zip(results(operator, x, w, g), expected, strict=True):
        assert torch.equal(mine, theirs)


@OPERATORS
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_float_types_compute_in_float32(operator, dtype) -> None:
    x, w = data(operator)
    x, w = x.to(dtype), w.to(dtype)
    bias = reals(3, w.shape[0]).to(dtype)
    x.requires_grad_()
    w.requires_grad_()
    y = call(operator, x, w, bias)
    g = torch.ones_like(y)
    grads = torch.autograd.grad(y, (x, w), g)
    narrow = x.detach().float(), w.detach().float()
    expected = call(operator, *narrow, bias.float())
    assert y.dtype == dtype
    assert torch.equal(y, expected.to(dtype))
    for mine, theirs in zip(grads, results(operator, *narrow, g.float())[1:], strict=True):
        assert mine.dtype == dtype
        assert torch.equal(mine, theirs.to(dtype))


@OPERATORS
@pytest.mark.parametrize("dtype", [torch.int8, torch.int64, torch.bool, torch.complex64], ids=str)
def test_other_types_are_refused_by_name(operator, dtype) -> None:
    x, w = data(operator)
    with pytest.raises(TypeError, match=f"layer 'features.0' takes a floating-point tensor, got {dtype}"):
        call(operator, x.to(dtype), w)


def test_something_else_than_a_tensor() -> None:
    with pytest.raises(TypeError, match=r"'features\.0' takes a floating-point tensor, got list"):
        linear([[1.0]], reals(0, 1, 1), None, SPEC, AT)  # type: ignore[arg-type]


@pytest.mark.parametrize("spec", [SPEC, NATIVE], ids=["emulated", "native"])
@pytest.mark.parametrize("batch", [(0,), (2, 0), (0, 3)], ids=str)
def test_linear_without_rows(spec, batch) -> None:
    x, w = torch.empty(*batch, 6), reals(1, 5, 6)
    y, grad_input, grad_weight = run_linear(x, w, torch.empty(*batch, 5), spec)
    assert y.shape == (*batch, 5)
    assert grad_input.shape == x.shape
    assert torch.equal(grad_weight, torch.zeros(5, 6))


@pytest.mark.parametrize("spec", [SPEC, NATIVE], ids=["emulated", "native"])
@pytest.mark.parametrize(("inputs", "outputs"), [(0, 5), (6, 0), (0, 0)])
def test_linear_without_features(spec, inputs, outputs) -> None:
    x, w, bias = torch.empty(4, inputs), torch.empty(outputs, inputs), torch.ones(outputs)
    y, grad_input, grad_weight = run_linear(x, w, torch.ones(4, outputs), spec, bias)
    assert torch.equal(y, torch.ones(4, outputs))
    assert torch.equal(grad_input, torch.zeros(4, inputs))
    assert grad_weight.shape == w.shape


@pytest.mark.parametrize("spec", [SPEC, NATIVE], ids=["emulated", "native"])
@pytest.mark.parametrize("groups", [1, 2])
def test_conv_without_images(spec, groups) -> None:
    window = Window(kernel=(3, 3), padding=(1, 1, 1, 1), stride=(2, 1), groups=groups)
    x, w = torch.empty(0, 4, 5, 6), reals(1, 8, 4 // groups, 3, 3)
    y, grad_input, grad_weight = run_conv(x, w, torch.empty(0, 8, 3, 6), window, spec)
    assert y.shape == (0, 8, 3, 6)
    assert grad_input.shape == x.shape
    assert torch.equal(grad_weight, torch.zeros_like(w))


def test_conv_without_input_channels() -> None:
    x, w = torch.empty(2, 0, 5, 6), torch.empty(8, 0, 3, 3)
    y, grad_input, grad_weight = run_conv(x, w, torch.ones(2, 8, 5, 6), WINDOW, SPEC)
    assert torch.equal(y, torch.zeros(2, 8, 5, 6))
    assert grad_input.shape == x.shape
    assert grad_weight.shape == w.shape


def test_conv_without_output_channels() -> None:
    x, w = reals(0, 2, 4, 5, 6), torch.empty(0, 4, 3, 3)
    y, grad_input, grad_weight = run_conv(x, w, torch.ones(2, 0, 5, 6), WINDOW, SPEC)
    assert y.shape == (2, 0, 5, 6)
    assert torch.equal(grad_input, torch.zeros_like(x))
    assert grad_weight.shape == w.shape


def test_one_pixel() -> None:
    x, w, g = integers(0, 3, 4, 1, 1), integers(1, 8, 4, 3, 3), integers(2, 3, 8, 1, 1)
    found = run_conv(x, w, g, WINDOW, codes_spec())
    middle = run_linear(x.flatten(1), w[:, :, 1, 1], g.flatten(1), codes_spec())
    assert torch.equal(found[0].flatten(1), middle[0])
    assert torch.equal(found[1].flatten(1), middle[1])
    assert torch.equal(found[2][:, :, 1, 1], middle[2])
    assert found[2].abs().sum() == middle[2].abs().sum()


@OPERATORS
def test_nan_in_a_forward_operand(operator) -> None:
    x, w = data(operator)
    bad_x, bad_w = x.clone(), w.clone()
    bad_x.view(-1)[7] = bad_w.view(-1)[3] = float("nan")
    with pytest.raises(lb.NotANumberError, match=r"layer 'features\.0', input of output: 1 of"):
        call(operator, bad_x, w)
    with pytest.raises(lb.NotANumberError, match=r"layer 'features\.0', weight of output: 1 of"):
        call(operator, x, bad_w)


@OPERATORS
@pytest.mark.parametrize("role", ["grad_input", "grad_weight"])
def test_nan_in_a_gradient(operator, role) -> None:
    x, w = data(operator)
    g = torch.ones_like(call(operator, x, w))
    g[0, 2] = float("nan")
    with pytest.raises(lb.NotANumberError, match=rf"layer 'features\.0', grad_output of {role}: [0-9]+ of"):
        results(operator, x, w, g, only(role, SPEC))


@OPERATORS
def test_infinity_saturates(operator) -> None:
    x, w = data(operator)
    infinite, clipped = x.clone(), x.clone()
    infinite.view(-1)[7], infinite.view(-1)[9] = float("inf"), -float("inf")
    # The scale comes from the finite elements, of which the largest maps to the largest code.
    finite = infinite[infinite.isfinite()].abs().max()
    clipped.view(-1)[7], clipped.view(-1)[9] = finite, -finite
    assert torch.equal(call(operator, infinite, w), call(operator, clipped, w))


@pytest.mark.parametrize("shape", [(), (5,), (2, 7), (6, 2)], ids=str)
def test_linear_names_both_shapes(shape) -> None:
    message = rf"layer 'features\.0': input {re.escape(str(list(shape)))} does not end in the 6 .*\[5, 6\]"
    with pytest.raises(ValueError, match=message):
        linear(torch.zeros(shape), reals(0, 5, 6), None, SPEC, AT)


@pytest.mark.parametrize("shape", [(4,), (5, 6), (2, 5, 6), (2, 3, 5, 6), (1, 2, 4, 5, 6)], ids=str)
def test_conv_names_both_shapes(shape) -> None:
    message = rf"layer 'features\.0' .*weight \[8, 2, 3, 3\] and 2 groups, got {re.escape(str(list(shape)))}"
    with pytest.raises(ValueError, match=message):
        conv(torch.zeros(shape), reals(0, 8, 2, 3, 3), None, Window(kernel=(3, 3), groups=2), SPEC, AT)


@pytest.mark.parametrize(
    ("shape", "window"),
    [
        ((2, 4, 2, 6), Window(kernel=(3, 3))),
        ((2, 4, 6, 2), Window(kernel=(3, 3))),
        ((4, 4, 6), Window(kernel=(3, 3), dilation=(2, 1))),
        ((2, 4, 0, 6), Window(kernel=(3, 3), padding=(1, 1, 0, 0))),
    ],
    ids=str,
)
def test_a_kernel_larger_than_the_image(shape, window) -> None:
    message = rf"layer 'features\.0': kernel \(3, 3\).* does not fit into input {re.escape(str(list(shape)))}"
    with pytest.raises(ValueError, match=message):
        conv(torch.zeros(shape), reals(0, 8, 4, 3, 3), None, window, SPEC, AT)


@OPERATORS
def test_a_second_derivative_is_refused(operator) -> None:
    x, w = data(operator)
    x.requires_grad_()
    y = call(operator, x, w.requires_grad_())
    with pytest.raises(RuntimeError, match="its gradients are rounded and can't be differentiated again"):
        torch.autograd.grad(y.square().sum(), x, create_graph=True)


@OPERATORS
def test_no_grad_and_inference_mode(operator) -> None:
    x, w = data(operator)
    expected = call(operator, x, w)
    w.requires_grad_()
    with torch.no_grad():
        y = call(operator, x, w)
    assert torch.equal(y, expected)
    assert not y.requires_grad
    with torch.inference_mode():
        assert torch.equal(call(operator, x, w), expected)


def test_a_gradient_of_a_gradient_is_refused_by_name() -> None:
    """It would silently be zero: rounded gradients are constants to torch."""
    spec = lb.OpSpec.uniform(lb.INT8)
    x, w = torch.ones(2, 3, requires_grad=True), torch.ones(4, 3, requires_grad=True)
    y = linear(x, w, None, spec, CallSite(layer="head"))
    with pytest.raises(
        RuntimeError, match="layer 'head' is emulated: its gradients .* can't be differentiated again"
    ):
        torch.autograd.grad(y.sum(), x, create_graph=True)
    y = linear(x, w, None, spec, CallSite(layer="head"))
    assert torch.autograd.grad(y.sum(), x)[0].shape == x.shape
