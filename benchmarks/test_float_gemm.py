"""GEMMs in floating-point accumulators, against torch's float32 product of the same size."""

import pytest
import torch

import lowbit_sim as lb
from benchmarks.race import Contender, race
from benchmarks.targets import at_most_time
from lowbit_sim.arith.float_gemm import run_float_gemm
from lowbit_sim.arith.float_mac import FloatMacUnit
from lowbit_sim.numerics.catalog import BF16, FP16, FP32

FLOAT32 = "float32 matmul"

#: M, N, K: a cube and layers of ResNet-20 and VGG-small.
SIZES = [(512, 512, 512), (16384, 32, 288), (16384, 128, 576)]
SR = lb.Rounding("stochastic", random_bits=8, overflow="infinity")
UNITS = {
    "fp32": FloatMacUnit(),
    "fp16": FloatMacUnit(accumulator=FP16),
    "fp16_chunks_of_64_into_fp32": FloatMacUnit(accumulator=FP16, chunk=64, outer=FP32),
    "bf16_toward_zero": FloatMacUnit(
        accumulator=BF16, rounding=lb.Rounding("toward_zero", overflow="infinity")
    ),
    "fp16_stochastic": FloatMacUnit(accumulator=FP16, rounding=SR),
}
STREAM = lb.Stream(seed=0)


def operands(m, n, k):
    generator = torch.Generator().manual_seed(0)
    shapes = (m, k), (k, n)
    return [torch.randn(s, generator=generator).to(torch.float8_e4m3fn).float() for s in shapes]


@pytest.mark.parametrize("size", SIZES, ids=lambda s: "x".join(map(str, s)))
@pytest.mark.parametrize("unit", UNITS)
def test_lowbit_sim(benchmark, unit, size):
    """Verified on one row and a few columns, as the reference is slow; not counted, as in most training steps."""
    a, b = operands(*size)
    mac = UNITS[unit]

    def gemm():
        return run_float_gemm(a, b, mac, stream=STREAM, count_overflows=False).values

    # The first row's first columns draw the same bits in a narrower product.
    expected = run_float_gemm(a[:1], b[:, :4].contiguous(), mac, stream=STREAM, backend="reference")
    assert torch.equal(gemm()[:1, :4], expected.values)
    m, n, k = size
    race(
        benchmark,
        Contender(name=unit, run=gemm, ours=True, macs=m * n * k),
        against=Contender(name=FLOAT32, run=lambda: torch.mm(a, b), macs=m * n * k),
        work="gemm of FP8 E4M3, float accumulators",
        case=f"{m} x {n} x {k}",
        targets=[at_most_time(40.0 if mac.rounding.is_stochastic else 15.0, FLOAT32)],
        seconds=5,
    )
