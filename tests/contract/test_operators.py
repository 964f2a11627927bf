"""What every operator must do with every format and MAC unit: the three GEMMs are the reference's, bit for bit.

Each GEMM's operands are captured while the operator runs, and the sums computed again by the definition.
(`tests/ops/test_quantized_results.py` checks what scales make of the sums.)
"""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

import lowbit_sim as lb
from lowbit_sim.arith.block_gemm import run_block_gemm
from lowbit_sim.arith.float_gemm import run_float_gemm
from lowbit_sim.arith.float_mac import FloatMacUnit
from lowbit_sim.arith.gemm import run_gemm
from lowbit_sim.numerics.catalog import CATALOG
from lowbit_sim.ops.capture import CapturedGemm, capture
from lowbit_sim.ops.conv import conv
from lowbit_sim.ops.conv_transpose import conv_transpose
from lowbit_sim.ops.im2col import Window
from lowbit_sim.ops.linear import linear, matmul
from tests.ops.cases import ROLES, reals

STOCHASTIC = lb.Rounding("stochastic", random_bits=8)
WINDOW = Window(kernel=(2, 2), stride=(2, 1), padding=(1, 0, 0, 1), groups=2)


def _linear(x, w, spec):
    return linear(x, w, None, spec)


def _conv(x, w, spec):
    return conv(x, w, None, WINDOW, spec)


def _transposed(x, w, spec):
    return conv_transpose(x, w, None, WINDOW, (0, 0), spec)


#: Operator, shape of the input, shape of the weight.
OPERATORS: dict[str, tuple[Callable[..., Tensor], tuple[int, ...], tuple[int, ...]]] = {
    "linear": (_linear, (3, 7), (5, 7)),
    "conv": (_conv, (2, 4, 3, 3), (4, 2, 2, 2)),
    "conv_transpose": (_transposed, (2, 4, 2, 3), (4, 1, 2, 2)),
    "matmul": (matmul, (2, 3, 5), (2, 5, 4)),
}


def run(operator: str, spec: lb.OpSpec) -> list[CapturedGemm]:
    """One forward and one backward pass; its three GEMMs."""
    apply, x_shape, w_shape = OPERATORS[operator]
    x, w = reals(0, *x_shape).requires_grad_(), reals(1, *w_shape).requires_grad_()
    with capture() as kept:
        y = apply(x, w, spec)
        y.backward(reals(2, *y.shape))
    assert [gemm.role for gemm in kept.gemms] == list(ROLES)
    assert x.grad is not None
    assert w.grad is not None
    return kept.gemms


def reference_sums(gemm: CapturedGemm, a: Tensor, b: Tensor, index: int) -> Tensor:
    """One matrix product by the definition."""
    spec = gemm.spec
    assert spec is not None
    if spec.block:
        scales = [
            sides[index] if block else None
            for sides, block in ((gemm.lhs_scale, spec.lhs.block), (gemm.rhs_scale, spec.rhs.block))
        ]
        return run_block_gemm(
            a, b, scales[0], scales[1], spec.block, spec.mac, spec.across, backend="reference"
        ).values
    if isinstance(spec.mac, FloatMacUnit):
        return run_float_gemm(a, b, spec.mac, backend="reference").values
    return run_gemm(a, b, spec.mac, backend="reference").values


def check(gemms: list[CapturedGemm]) -> None:
    for gemm in gemms:
        pairs = zip(gemm.lhs, gemm.rhs, gemm.sums, strict=True)
        for index, (a, b, sums) in enumerate(pairs):
            expected = reference_sums(gemm, a, b, index)
            assert torch.equal(sums, expected), (gemm.role, index)
        assert torch.isfinite(gemm.result).all()
        assert any(bool((a != 0).any()) for a in gemm.lhs)


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("name", [name for name in CATALOG if name != "e8m0"])
def test_every_format_in_every_operator(operator, name) -> None:
    check(run(operator, lb.OpSpec.uniform(CATALOG[name], gradient_rounding=STOCHASTIC)))


MACS = {
    "saturating": lb.MacUnit(accumulator_bits=10, overflow="saturate", chunk=3, outer_bits=11),
    "symmetric tree": lb.MacUnit(accumulator_bits=10, overflow="saturate_symmetric", order="tree"),
    "clipped chunks": lb.MacUnit(accumulator_bits=9, overflow="saturate", chunk=4, overflow_at="chunk"),
    "truncated": lb.MacUnit(accumulator_bits=16, chunk=2, truncated_bits=3, truncation="nearest_even"),
    "fp16": FloatMacUnit(accumulator=lb.FP16),
    "bf16 in chunks into fp32": FloatMacUnit(accumulator=lb.BF16, chunk=2, outer=lb.parse_format("fp32")),
    "kahan": FloatMacUnit(accumulator=lb.BF16, kahan=True),
    "float tree": FloatMacUnit(accumulator=lb.FP16, order="tree", product=lb.BF16),
    "toward zero": FloatMacUnit(accumulator=lb.FP16, rounding=lb.Rounding("toward_zero")),
}


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("mac", MACS.values(), ids=MACS)
@pytest.mark.parametrize("name", ["int4", "mxint8", "fp4_e2m1"])
def test_every_unit_in_every_operator(operator, mac, name) -> None:
    check(run(operator, lb.OpSpec.uniform(lb.parse_format(name), mac=mac)))


def test_mixed_operands() -> None:
    """INT4 weights with a logarithmic gradient in an integer accumulator, block formats beside plain ones."""
    int4, log4 = lb.Quantizer(lb.INT4), lb.Quantizer(lb.parse_format("log4_radix2"), rounding=STOCHASTIC)
    mx, fp8 = lb.Quantizer(lb.parse_format("mxfp4")), lb.Quantizer(lb.FP8_E5M2)
    spec = lb.OpSpec(
        output=lb.GemmSpec(mx, int4, FloatMacUnit()),
        grad_input=lb.GemmSpec(log4, int4, lb.MacUnit(accumulator_bits=20)),
        grad_weight=lb.GemmSpec(fp8, mx, FloatMacUnit(accumulator=lb.BF16)),
    )
    for operator in OPERATORS:
        check(run(operator, spec))


@pytest.mark.parametrize("operator", OPERATORS)
def test_samples_are_averaged(operator) -> None:
    """The gradient of the weight over two quantisations is the mean of the two products' results."""
    gradient = lb.Quantizer(lb.INT4, rounding=STOCHASTIC)
    plain = lb.OpSpec.uniform(lb.INT8)
    one = replace(plain, grad_weight=lb.GemmSpec(gradient, lb.Quantizer(lb.INT8)))
    two = replace(plain, grad_weight=lb.GemmSpec(gradient, lb.Quantizer(lb.INT8), samples=2))
    apply, x_shape, w_shape = OPERATORS[operator]
    x, w = reals(0, *x_shape), reals(1, *w_shape).requires_grad_()
    with capture() as kept:
        y = apply(x, w, two)
        y.backward(reals(2, *y.shape))
    first, second = (g for g in kept.gemms if g.role == "grad_weight")
    assert (first.sample, second.sample) == (0, 1)
    assert any(not torch.equal(a, b) for a, b in zip(first.lhs, second.lhs, strict=True))
    [alone] = [g for g in run(operator, one) if g.role == "grad_weight"]
    assert torch.equal(alone.result, first.result)
    mean = (first.result + second.result) * 0.5
    found = w.grad.mT if operator == "matmul" else w.grad  # type: ignore[union-attr]
    assert torch.equal(found, mean)  # type: ignore[arg-type]


@pytest.mark.parametrize("backend", ["reference", "numba_cpu"])
@pytest.mark.parametrize("name", ["int8", "fp8_e4m3fn", "mxfp4", "nvfp4"])
def test_forced_backends_give_the_same_results(backend, name) -> None:
    from lowbit_sim.ops.backend import using_backend

    spec = lb.OpSpec.uniform(lb.parse_format(name))
    for operator in OPERATORS:
        fast = run(operator, spec)
        with using_backend(backend):
            slow = run(operator, spec)
        for a, b in zip(fast, slow, strict=True):
            assert torch.equal(a.result, b.result)
