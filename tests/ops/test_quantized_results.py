"""A quantised layer is: quantise, multiply integers, fp32(acc) * fp32(scale_a * scale_b), add the bias. With ==."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

import lowbit_sim as lb
from lowbit_sim.arith.spec import GemmSpec
from lowbit_sim.ops.im2col import Window
from lowbit_sim.ops.operand import CallSite
from tests.ops import conv_oracles
from tests.ops.cases import output_shape, reals, run_conv, run_linear

SCALES = {
    "absmax": lb.AbsMaxScale(),
    "power of two": lb.PowerOfTwoScale(),
    "min max": lb.MinMaxScale(),
    "fixed": lb.FixedScale(0.03125),
}
#: The axes of (lhs, rhs) that a GEMM does not sum over, of a linear layer and of a convolution alike.
FREE_AXES = {"output": (0, 0), "grad_input": (0, 1), "grad_weight": (1, 1)}


def spec_of(fmt: lb.Format, scale, axes: dict[str, tuple[int, int]] | None) -> lb.OpSpec:
    """All three GEMMs alike, per tensor or along the given axes."""

    def gemm(role: str) -> GemmSpec:
        sides = (lb.PerTensor(), lb.PerTensor()) if axes is None else map(lb.PerAxis, axes[role])
        lhs, rhs = (lb.Quantizer(fmt, scale=scale, granularity=granularity) for granularity in sides)
        return GemmSpec(lhs, rhs, lb.MacUnit(accumulator_bits=48))  # holds every sum, also of 16-bit codes

    return lb.OpSpec(output=gemm("output"), grad_input=gemm("grad_input"), grad_weight=gemm("grad_weight"))


def scaled(sums: np.ndarray, lhs_scale: np.ndarray, rhs_scale: np.ndarray) -> np.ndarray:
    """fp32(acc) * fp32(lhs_scale * rhs_scale), element by element."""
    factor = (lhs_scale.astype(np.float32) * rhs_scale.astype(np.float32)).astype(np.float32)
    return sums.astype(np.float32) * factor


def codes_and_scales(quantizer: lb.Quantizer, x: Tensor) -> tuple[Tensor, np.ndarray]:
    """int64 codes less the zero point, and the scale of every element."""
    q = quantizer(x)
    codes = q.codes.long() if q.zero_point is None else q.codes.long() - q.zero_point.long()
    return codes, q.scale.expand(x.shape).numpy()


def assert_equal(found: Tensor, expected: np.ndarray) -> None:
    assert found.dtype == torch.float32
    np.testing.assert_array_equal(found.numpy(), expected.astype(np.float32))


FORMATS = pytest.mark.parametrize("fmt", [lb.INT8, lb.INT4, lb.UINT4, lb.INT16], ids=str)
EVERY_SCALE = pytest.mark.parametrize("scale", SCALES)
GRANULARITY = pytest.mark.parametrize("per_axis", [False, True], ids=["per tensor", "per axis"])


@FORMATS
@EVERY_SCALE
@GRANULARITY
def test_linear(fmt, scale, per_axis) -> None:
    spec = spec_of(fmt, SCALES[scale], FREE_AXES if per_axis else None)
    x, w, g, bias = reals(0, 6, 9) + 1, reals(1, 5, 9), reals(2, 6, 5) * 1e-3, reals(3, 5)
    found = run_linear(x, w, g, spec, bias)
    assert spec.output
    assert spec.grad_input
    assert spec.grad_weight
    (qx, sx), (qw, sw) = codes_and_scales(spec.output.lhs, x), codes_and_scales(spec.output.rhs, w)
    y = scaled((qx @ qw.t()).numpy(), sx[:, :1], sw[:, :1].T) + bias.numpy()
    assert_equal(found[0], y)
    (qg, sg), (qw, sw) = codes_and_scales(spec.grad_input.lhs, g), codes_and_scales(spec.grad_input.rhs, w)
    assert_equal(found[1], scaled((qg @ qw).numpy(), sg[:, :1], sw[:1]))
    (qg, sg), (qx, sx) = codes_and_scales(spec.grad_weight.lhs, g), codes_and_scales(spec.grad_weight.rhs, x)
    assert_equal(found[2], scaled((qg.t() @ qx).numpy(), sg[:1].T, sx[:1]))


@FORMATS
@EVERY_SCALE
@GRANULARITY
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_conv(fmt, scale, per_axis, groups) -> None:
    spec = spec_of(fmt, SCALES[scale], FREE_AXES if per_axis else None)
    window = Window(kernel=(3, 2), stride=(2, 1), dilation=(1, 2), padding=(1, 0, 2, 1), groups=groups)
    shape = (2, 4, 5, 6)
    # Every channel and sample has its own size, so that a scale in the wrong place shows.
    x = (
        (reals(0, *shape) + 1)
        * torch.arange(1.0, 5)[:, None, None]
        * torch.tensor([1.0, 9.0])[:, None, None, None]
    )
    w = reals(1, 8, 4 // groups, 3, 2) * torch.arange(1.0, 9)[:, None, None, None]
    w = w * torch.arange(1.0, 4 // groups + 1)[:, None, None]
    g = reals(2, *output_shape(shape, 8, window)) * torch.arange(1.0, 9)[:, None, None] * 1e-3
    bias = reals(3, 8)
    found = run_conv(x, w, g, window, spec, bias)
    assert spec.output
    assert spec.grad_input
    assert spec.grad_weight
    (qx, sx), (qw, sw) = codes_and_scales(spec.output.lhs, x), codes_and_scales(spec.output.rhs, w)
    sums = conv_oracles.shifted_output(qx, qw, window).numpy()
    y = scaled(sums, sx[:, :1, :1, :1], sw[None, :, 0, :1, :1]) + bias.numpy()[:, None, None]
    assert_equal(found[0], y)
    (qg, sg), (qw, sw) = codes_and_scales(spec.grad_input.lhs, g), codes_and_scales(spec.grad_input.rhs, w)
    of_channel = np.array([sw[0, channel % w.shape[1], 0, 0] for channel in range(4)])
    sums = conv_oracles.shifted_grad_input(qg, qw, shape, window).numpy()
    assert_equal(found[1], scaled(sums, sg[:, :1, :1, :1], of_channel[None, :, None, None]))
    (qg, sg), (qx, sx) = codes_and_scales(spec.grad_weight.lhs, g), codes_and_scales(spec.grad_weight.rhs, x)
    of_input = np.array(
        [[sx[0, o // (8 // groups) * w.shape[1] + c, 0, 0] for c in range(w.shape[1])] for o in range(8)]
    )
    sums = conv_oracles.shifted_grad_weight(qg, qx, w.shape, window).numpy()
    assert_equal(found[2], scaled(sums, sg[0, :, :1, :1, None], of_input[:, :, None, None]))


def test_each_operand_takes_its_own_quantizer() -> None:
    formats = [lb.INT4, lb.INT8, lb.INT2, lb.INT8, lb.INT16, lb.INT4]
    a, b, c, d, e, f = (lb.Quantizer(fmt) for fmt in formats)
    spec = lb.OpSpec(output=GemmSpec(a, b), grad_input=GemmSpec(c, d), grad_weight=GemmSpec(e, f))
    x, w, g = reals(0, 6, 9), reals(1, 5, 9), reals(2, 6, 5)
    y, grad_input, grad_weight = run_linear(x, w, g, spec)

    def product(lhs: lb.QTensor, rhs: lb.QTensor, equation: str) -> Tensor:
        sums = torch.einsum(equation, lhs.codes.long(), rhs.codes.long())
        return sums.float() * (lhs.scale * rhs.scale)

    assert torch.equal(y, product(a(x), b(w), "bi,oi->bo"))
    assert torch.equal(grad_input, product(c(g), d(w), "bo,oi->bi"))
    assert torch.equal(grad_weight, product(e(g), f(x), "bo,bi->oi"))


def with_axis(spec: lb.OpSpec, role: str, side: str, axis: int) -> lb.OpSpec:
    gemm = getattr(spec, role)
    quantizer = replace(getattr(gemm, side), granularity=lb.PerAxis(axis))
    return replace(spec, **{role: replace(gemm, **{side: quantizer})})


TENSORS = {
    ("output", "lhs"): "input",
    ("output", "rhs"): "weight",
    ("grad_input", "lhs"): "grad_output",
    ("grad_input", "rhs"): "weight",
    ("grad_weight", "lhs"): "grad_output",
    ("grad_weight", "rhs"): "input",
}
LINEAR_SUMS = {
    ("output", "lhs"): [1],
    ("output", "rhs"): [1],
    ("grad_input", "lhs"): [1],
    ("grad_input", "rhs"): [0],
    ("grad_weight", "lhs"): [0],
    ("grad_weight", "rhs"): [0],
}
CONV_SUMS = {
    ("output", "lhs"): [1, 2, 3],
    ("output", "rhs"): [1, 2, 3],
    ("grad_input", "lhs"): [1, 2, 3],
    ("grad_input", "rhs"): [0, 2, 3],
    ("grad_weight", "lhs"): [0, 2, 3],
    ("grad_weight", "rhs"): [0, 2, 3],
}
UNIFORM = lb.OpSpec.uniform(lb.INT8)
AT = CallSite(layer="features.0")


def refusal(role: str, side: str, axis: int) -> str:
    return (
        f"layer 'features.0': {TENSORS[role, side]} has a scale for each index of axis {axis}, "
        f"but the {role} GEMM sums over that axis"
    )


@pytest.mark.parametrize(
    ("role", "side", "axis"), [(*key, axis) for key, axes in LINEAR_SUMS.items() for axis in axes]
)
@pytest.mark.parametrize("counted_from_the_end", [False, True])
def test_linear_refuses_a_scale_along_the_sum(role, side, axis, counted_from_the_end) -> None:
    spec = with_axis(UNIFORM, role, side, axis - 2 if counted_from_the_end else axis)
    with pytest.raises(ValueError, match=refusal(role, side, axis)):
        run_linear(reals(0, 6, 9), reals(1, 5, 9), reals(2, 6, 5), spec, at=AT)


@pytest.mark.parametrize(
    ("role", "side", "axis"), [(*key, axis) for key, axes in CONV_SUMS.items() for axis in axes]
)
def test_conv_refuses_a_scale_along_the_sum(role, side, axis) -> None:
    window = Window(kernel=(2, 2))
    spec = with_axis(UNIFORM, role, side, axis)
    with pytest.raises(ValueError, match=refusal(role, side, axis)):
        run_conv(reals(0, 2, 3, 4, 4), reals(1, 5, 3, 2, 2), reals(2, 2, 5, 3, 3), window, spec, at=AT)


def test_an_axis_of_length_one_is_one_scale() -> None:
    spec = with_axis(UNIFORM, "output", "lhs", 1)
    x, w, g = reals(0, 6, 1), reals(1, 5, 1), reals(2, 6, 5)
    assert torch.equal(run_linear(x, w, g, spec)[0], run_linear(x, w, g, UNIFORM)[0])
