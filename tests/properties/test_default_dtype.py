"""torch's default dtype is the user's affair: the arithmetic is float32 whatever it is."""

import pytest
import torch

import lowbit_sim as lb
from lowbit_sim.arith.block_gemm import run_block_gemm
from lowbit_sim.arith.float_gemm import run_float_gemm
from tests.ops.cases import reals

FORMATS = ["int8", "fixed<8,6>", "fp8_e4m3fn", "mxint8", "mxfp4", "nvfp4", "bf16", "posit8", "log4_radix2"]


@pytest.fixture(params=[torch.float64, torch.bfloat16], ids=str)
def default_dtype(request):
    torch.set_default_dtype(request.param)
    yield
    torch.set_default_dtype(torch.float32)


def step(name: str, scale: lb.AbsMaxScale | lb.FixedScale | None) -> list[torch.Tensor]:
    """Output and gradients of a layer whose tensors are float32."""
    block = lb.parse_format(name)
    spec = lb.OpSpec.uniform(block, gradient_rounding=lb.Rounding("stochastic", random_bits=8), scale=scale)
    layer = torch.nn.Linear(40, 6, dtype=torch.float32)
    with torch.no_grad():
        layer.weight.copy_(reals(1, 6, 40))
        layer.bias.copy_(reals(2, 6))
    layer = lb.convert(layer, [lb.Rule("*", spec)])
    x = reals(0, 5, 40).requires_grad_()
    y = layer(x)
    y.backward(reals(3, 5, 6))
    return [y.detach(), x.grad, layer.weight.grad]  # type: ignore[list-item]


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", FORMATS)
def test_a_layer_has_the_same_bits(name, dtype) -> None:
    expected = step(name, None)
    try:
        torch.set_default_dtype(dtype)
        found = step(name, None)
    finally:
        torch.set_default_dtype(torch.float32)
    for tensor, wanted in zip(found, expected, strict=True):
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, wanted)


@pytest.mark.usefixtures("default_dtype")
@pytest.mark.parametrize("name", FORMATS)
def test_scales_and_values_are_float32(name) -> None:
    for scale in (lb.AbsMaxScale(), lb.FixedScale(0.5)):
        if name.startswith(("mx", "nv")) and scale != lb.AbsMaxScale():
            continue
        q = lb.Quantizer(lb.parse_format(name), scale=scale)(reals(0, 3, 40))
        assert q.scale.dtype == q.values().dtype == q.dequantize().dtype == torch.float32


@pytest.mark.usefixtures("default_dtype")
@pytest.mark.parametrize("backend", [None, "reference"])
def test_gemms_are_float32(backend) -> None:
    a, b = reals(0, 3, 8), reals(1, 8, 4)
    mac = lb.FloatMacUnit(accumulator=lb.FP16)
    found = run_float_gemm(a, b, mac, backend=backend).values
    assert found.dtype == torch.float32
    assert torch.equal(found, run_float_gemm(a, b, mac, backend="numba_cpu").values)
    blocks = run_block_gemm(a, b, torch.ones(3, 2, dtype=torch.float32), None, 4, mac, backend=backend)
    assert blocks.values.dtype == torch.float32
