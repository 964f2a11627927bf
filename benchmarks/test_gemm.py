"""The emulated matrix product on random INT8 codes, against torch's own products."""

import pytest
import torch

import lowbit_sim as lb
from lowbit_sim.arith.gemm import run_gemm

SIZES = [256, 1024]
SATURATING_16 = lb.MacUnit(accumulator_bits=16, overflow="saturate")
CHUNKED_16 = lb.MacUnit(accumulator_bits=16, overflow="saturate", chunk=64, outer_bits=24)


def codes(n, limit, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-limit, limit + 1, (n, n), dtype=torch.int8, generator=generator)


def check(a, b, mac):
    """The first rows against the reference, which is too slow for more."""
    rows = a[:2]
    expected = run_gemm(rows, b, mac, backend="reference")
    got = run_gemm(a, b, mac)
    assert torch.equal(got.values[:2], expected.values)


@pytest.mark.parametrize("n", SIZES)
def test_native_float32(benchmark, n):
    benchmark.group = f"gemm {n}^3"
    a, b = codes(n, 127, 0).float(), codes(n, 127, 1).float()
    benchmark(torch.mm, a, b)


@pytest.mark.parametrize("n", SIZES)
def test_torch_int_mm(benchmark, n):
    benchmark.group = f"gemm {n}^3"
    benchmark(torch._int_mm, codes(n, 127, 0), codes(n, 127, 1))  # pyright: ignore


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize(
    ("limit", "mac"),
    [
        pytest.param(127, lb.MacUnit(), id="int8_32-bit"),
        pytest.param(7, lb.MacUnit(), id="int4_32-bit"),
        pytest.param(127, SATURATING_16, id="int8_16-bit_saturating"),
        pytest.param(127, CHUNKED_16, id="int8_16-bit_saturating_chunks_of_64_into_24-bit"),
    ],
)
def test_lowbit_sim(benchmark, n, limit, mac):
    benchmark.group = f"gemm {n}^3"
    a, b = codes(n, limit, 0), codes(n, limit, 1)
    check(a, b, mac)
    benchmark(run_gemm, a, b, mac)
