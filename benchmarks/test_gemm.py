"""The emulated product of integer codes against `torch._int_mm`, float32 matmul and torchao on the same operands.

Where the bound proves that no addition overflows, ours is the proof and a library product; the sequential kernels
run where it can't, with codes so large that the proof fails for every row and column.
"""

import pytest
import torch

import lowbit_sim as lb
from benchmarks.race import Contender, race
from benchmarks.targets import at_most_time
from lowbit_sim.arith.gemm import run_gemm

INT_MM, FLOAT32 = "torch._int_mm", "float32 matmul"
PROVEN = "gemm, 32-bit accumulator (proof holds)"
BATCH = 64

#: M, N, K of the squares, and of the three GEMMs of layers of ResNet-20 and of the small VGG.
SHAPES = {f"{n}^3": (n, n, n) for n in (64, 128, 256, 512, 1024, 2048, 4096)}


def layer(name: str, size: int, inputs: int, outputs: int) -> dict[str, tuple[int, int, int]]:
    """The GEMMs of a 3x3 convolution: output, grad_input, grad_weight."""
    pixels = BATCH * size * size
    return {
        f"{name} output": (pixels, outputs, 9 * inputs),
        f"{name} grad_input": (pixels, inputs, 9 * outputs),
        f"{name} grad_weight": (outputs, 9 * inputs, pixels),
    }


SHAPES |= layer("ResNet-20 16-16", 32, 16, 16) | layer("ResNet-20 64-64", 8, 64, 64)
SHAPES |= layer("VGG 64-64", 32, 64, 64) | layer("VGG 256-256", 8, 256, 256)

SATURATING_16 = lb.MacUnit(accumulator_bits=16, overflow="saturate")
CHUNKED_16 = lb.MacUnit(accumulator_bits=16, overflow="saturate", chunk=64, outer_bits=24)

#: Name of the work: the MAC unit, the magnitude of the codes, and the time in those of a float32 matmul.
SEQUENTIAL = {
    "INT8, 16-bit saturating": (SATURATING_16, 127, 4.0),
    "INT4, 16-bit saturating": (SATURATING_16, 7, 4.0),
    "INT8, 16-bit saturating chunks of 64 into 24-bit": (CHUNKED_16, 127, 6.0),
    "INT4, 12-bit chunks of 64 into 16-bit, saturating": (
        lb.MacUnit(accumulator_bits=12, overflow="saturate", chunk=64, outer_bits=16),
        7,
        6.0,
    ),
}


def codes(rows, columns, limit, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-limit, limit + 1, (rows, columns), dtype=torch.int8, generator=generator)


def largest_codes(rows, columns, limit, seed):
    """Of one magnitude and random signs."""
    return (2 * codes(rows, columns, 1, seed).clamp(0, 1) - 1) * limit


def operands(case, limit):
    m, n, k = SHAPES[case]
    return codes(m, k, limit, 0), codes(k, n, limit, 1)


def beside_int_mm(benchmark, case, a, b, name, run, *, ours=False, targets=()):
    macs = a.shape[0] * a.shape[1] * b.shape[1]
    race(
        benchmark,
        Contender(name=name, run=run, ours=ours, macs=macs),
        against=Contender(name=INT_MM, run=lambda: torch._int_mm(a, b), macs=macs),  # pyright: ignore
        work=PROVEN,
        case=case,
        targets=targets,
    )


@pytest.mark.parametrize("case", SHAPES)
@pytest.mark.parametrize(("name", "limit"), [("INT8", 127), ("INT4", 7)], ids=["int8", "int4"])
def test_proven(benchmark, case, name, limit):
    """Exact whatever the order, so float64 is a reference: |sum| < 2^53."""
    a, b = operands(case, limit)
    gemm, mac = lb.gemm, lb.MacUnit()
    result = gemm(a, b, mac)
    assert torch.equal(result[:8].double(), a[:8].double() @ b.double())
    targets = [at_most_time(1.15, INT_MM), at_most_time(1.0, FLOAT32)]
    beside_int_mm(benchmark, case, a, b, name, lambda: gemm(a, b, mac), ours=True, targets=targets)


@pytest.mark.parametrize("case", SHAPES)
def test_float32(benchmark, case):
    a, b = operands(case, 127)
    floats = a.float(), b.float()
    beside_int_mm(benchmark, case, a, b, FLOAT32, lambda: torch.mm(*floats))


@pytest.mark.parametrize("case", SHAPES)
def test_torchao(benchmark, peer, case):
    kernel = peer("torchao.kernel", work=PROVEN, case=case, implementation="torchao")
    a, b = operands(case, 127)
    scales = torch.ones(a.shape[0], 1)
    found = kernel.int_scaled_matmul(a, b, scales)
    assert torch.equal(found, torch._int_mm(a, b).float())  # pyright: ignore
    beside_int_mm(benchmark, case, a, b, "torchao", lambda: kernel.int_scaled_matmul(a, b, scales))


@pytest.mark.parametrize("name", SEQUENTIAL)
def test_sequential(benchmark, name):
    """1024^3; a corner of the result against the reference, which is too slow for more."""
    mac, limit, at_most = SEQUENTIAL[name]
    n = 1024
    a, b = largest_codes(n, n, limit, 0), largest_codes(n, n, limit, 1)
    corner = run_gemm(a[:4], b[:, :8], mac, backend="reference").values
    assert torch.equal(lb.gemm(a, b, mac)[:4, :8], corner)
    assert not torch.equal(corner.double(), a[:4].double() @ b[:, :8].double()) or limit == 7
    floats = a.float(), b.float()
    race(
        benchmark,
        Contender(name=name, run=lambda: lb.gemm(a, b, mac), ours=True, macs=n**3),
        against=Contender(name=FLOAT32, run=lambda: torch.mm(*floats), macs=n**3),
        work="gemm 1024^3, proof fails everywhere",
        targets=[at_most_time(at_most, FLOAT32)],
        seconds=5,
    )
