"""That products proven exact stay so where torch was told to take bfloat16 or TF32 for float32 on the CPU."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import nn

import lowbit_sim as lb
from lowbit_sim.arith.backends.torch_exact import exact_product
from lowbit_sim.arith.gemm import run_gemm

INT10 = lb.OpSpec.uniform(lb.IntFormat(bits=10))


def set_library(precision: str) -> None:
    matmul = getattr(torch.backends.mkldnn, "matmul", None)
    if not hasattr(matmul, "fp32_precision"):
        pytest.skip("this torch has no precision of the library's own")
    matmul.fp32_precision = precision  # pyright: ignore


SWITCHES = ("medium", "high", "library bf16", "library tf32")


@contextmanager
def reduce_precision(switch: str) -> Iterator[None]:
    """One of the switches; the processor may have no units for what it asks for."""
    matmuls = (getattr(torch.backends.mkldnn, "matmul", None), torch.backends.cuda.matmul)
    known = [m for m in matmuls if hasattr(m, "fp32_precision")]
    before, own = torch.get_float32_matmul_precision(), [m.fp32_precision for m in known]  # pyright: ignore
    library, _, precision = switch.rpartition(" ")
    try:
        set_library(precision) if library else torch.set_float32_matmul_precision(precision)
        yield
    finally:
        torch.set_float32_matmul_precision(before)
        for matmul, precision in zip(known, own, strict=True):
            matmul.fp32_precision = precision  # pyright: ignore


@pytest.fixture(params=SWITCHES)
def reduced(request):
    with reduce_precision(request.param):
        yield


def integers(rows: int, columns: int, largest: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randint(-largest, largest + 1, (rows, columns), generator=generator)
    x[0] = largest
    return x


@pytest.mark.usefixtures("reduced")
@pytest.mark.parametrize(("largest", "k"), [(255, 255), (256, 255), (257, 250), (511, 64), (4095, 1)])
def test_integer_products(largest, k):
    a, b = integers(256, k, largest, 0), integers(k, 256, largest, 1)
    assert torch.equal(exact_product(a.short(), b.short()).long(), a @ b)
    result = run_gemm(a.short(), b.short(), lb.MacUnit(accumulator_bits=32))
    assert torch.equal(result.values.long(), a @ b)


@pytest.mark.usefixtures("reduced")
@pytest.mark.parametrize("largest", [256, 511])
def test_float_accumulators(largest):
    a, b = integers(256, 64, largest, 0), integers(64, 256, largest, 1)
    result = lb.run_float_gemm(a.float() * 0.25, b.float(), lb.FloatMacUnit())
    assert result.backend == "torch_exact"
    assert torch.equal(result.values.double(), (a @ b).double() * 0.25)


@pytest.mark.parametrize("switch", SWITCHES)
def test_a_converted_layer(switch):
    layer = lb.convert(nn.Sequential(nn.Linear(64, 256)), [lb.Rule("*", INT10)])
    x = torch.randn(256, 64, generator=torch.Generator().manual_seed(0))
    expected = layer(x)
    with reduce_precision(switch):
        assert torch.equal(layer(x), expected)
