"""A float32 tensor of 16M elements to INT8 codes with a given scale, against a memory copy and other quantisers.

A quantiser reads four bytes and writes one for each element, a copy of float32 reads four and writes four.
torchao's `quantize_affine` is a chain of torch's operations that is made to be compiled: a row eager, a row compiled.
Its stochastic quantiser finds the scale itself. QPyTorch returns float32 values.
"""

import numpy as np
import pytest
import torch

import lowbit_sim as lb
from benchmarks.race import Contender, race
from benchmarks.targets import at_least_bandwidth, at_least_speed
from lowbit_sim.numerics.random import draw
from lowbit_sim.numerics.reference import encode_value
from lowbit_sim.quant.gradient.luq import luq

ELEMENTS = 1 << 24
SCALE = 2.0**-5
NEAREST = "quantise 16M to INT8, nearest, scale given"
STOCHASTIC = "quantise 16M to INT8, stochastic with 8 bits, scale given"
WITH_SCALE = "quantise 16M, scale found"
RANDOM_8 = lb.Rounding("stochastic", random_bits=8)
STREAM = lb.Stream(seed=0)

#: What is quantised in rows of 4096, the scale found as well: the tensor is read twice.
QUANTIZERS = {
    "INT8": lb.Quantizer(lb.INT8),
    "INT4, stochastic": lb.Quantizer(lb.INT4, rounding=RANDOM_8),
    "INT8 per row": lb.Quantizer(lb.INT8, granularity=lb.PerAxis(0)),
    "INT8 per column": lb.Quantizer(lb.INT8, granularity=lb.PerAxis(1)),
    "UINT8 with a zero point": lb.Quantizer(lb.parse_format("uint8"), scale=lb.MinMaxScale()),
    "INT8 wrapping": lb.Quantizer(
        lb.parse_format("int8_full"), scale=lb.FixedScale(SCALE), rounding=lb.Rounding(overflow="wrap")
    ),
    "FP8 E4M3": lb.Quantizer(lb.parse_format("fp8_e4m3fn")),
    "FP8 E5M2, stochastic": lb.Quantizer(lb.parse_format("fp8_e5m2"), rounding=RANDOM_8),
    "MXFP8": lb.Quantizer(lb.parse_format("mxfp8_e4m3")),
    "MXFP4": lb.Quantizer(lb.parse_format("mxfp4")),
    "NVFP4": lb.Quantizer(lb.parse_format("nvfp4")),
    "LUQ": luq(),
}


@pytest.fixture(scope="module")
def x():
    return torch.randn(ELEMENTS, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def beside_copy(benchmark, x):
    """Races a contender against a memory copy."""
    out = torch.empty_like(x)
    copy = Contender(name="memory copy", run=lambda: out.copy_(x), moved_bytes=8 * ELEMENTS)

    def run(name, function, *, work, case="", written=1, ours=False, targets=()):
        contender = Contender(name=name, run=function, ours=ours, moved_bytes=(4 + written) * ELEMENTS)
        race(benchmark, contender, against=copy, work=work, case=case, targets=targets)

    return run


def quantizer(rounding):
    return lb.Quantizer(lb.INT8, scale=lb.FixedScale(SCALE), rounding=rounding)


def nearest_codes(x):
    return np.clip(np.rint(x.numpy() * np.float32(1 / SCALE)), -127, 127)


def check_stochastic(codes, x, scale=SCALE):
    """Each code is a neighbour of its value, and not always the nearest."""
    error = (codes - (x / scale).clamp(-127, 127)).abs()
    assert float(error.max()) <= 1.0 + 1e-4
    assert float(error.max()) > 0.9


def test_lowbit_sim_nearest(beside_copy, x):
    run = quantizer(lb.Rounding("nearest_even"))
    assert np.array_equal(run(x).codes.numpy(), nearest_codes(x))
    targets = [at_least_bandwidth(0.5, "memory copy"), at_least_speed(30, "QPyTorch")]
    beside_copy("INT8 codes", lambda: run(x), work=NEAREST, ours=True, targets=targets)


def test_qtorch_nearest(beside_copy, peer, x):
    quant = peer("qtorch.quant", work=NEAREST, implementation="QPyTorch")

    def run():
        return quant.fixed_point_quantize(x, wl=8, fl=5, symmetric=True, rounding="nearest")

    assert np.array_equal(run().numpy() / SCALE, nearest_codes(x))
    beside_copy("QPyTorch", run, work=NEAREST, written=4)


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
def test_torchao_nearest(beside_copy, peer, x, compiled):
    name = "torchao, compiled" if compiled else "torchao"
    primitives = peer("torchao.quantization.quant_primitives", work=NEAREST, implementation=name)
    quantize = torch.compile(primitives.quantize_affine) if compiled else primitives.quantize_affine
    scale, zero_point = torch.tensor(SCALE), torch.tensor(0)

    def run():
        return quantize(x, (ELEMENTS,), scale, zero_point, torch.int8, -127, 127)

    assert np.array_equal(run().numpy(), nearest_codes(x))
    beside_copy(name, run, work=NEAREST)


def test_lowbit_sim_stochastic_8_bits(beside_copy, x):
    run = quantizer(lb.Rounding("stochastic", random_bits=8))
    stream = lb.Stream(seed=0)
    check_stochastic(run(x, stream=stream).codes, x)
    targets = [at_least_bandwidth(0.25, "memory copy"), at_least_speed(50, "QPyTorch")]
    beside_copy(
        "INT8 codes, Philox", lambda: run(x, stream=stream), work=STOCHASTIC, ours=True, targets=targets
    )


def test_qtorch_stochastic(beside_copy, peer, x):
    quant = peer("qtorch.quant", work=STOCHASTIC, implementation="QPyTorch")

    def run():
        return quant.fixed_point_quantize(x, wl=8, fl=5, symmetric=True, rounding="stochastic")

    check_stochastic(run() / SCALE, x)
    beside_copy("QPyTorch", run, work=STOCHASTIC, written=4)


def test_torchao_stochastic(beside_copy, peer, x):
    name = "torchao, with the scale"
    module = peer("torchao.prototype.quantized_training.int8", work=STOCHASTIC, implementation=name)

    def run():
        return module.quantize_int8_rowwise(x.view(1, -1), stochastic_rounding=True)

    codes, scale = run()
    check_stochastic(codes[0], x, float(scale))
    beside_copy(name, run, work=STOCHASTIC)


def check_by_definition(q, x, quantizer):
    """Every 8191st element has the code that the definition gives it."""
    y = (x * (1.0 / q.expanded_scale())).reshape(-1)
    zeros = q.expanded_zero_point().expand(x.shape).reshape(-1)
    rounding, fmt, codes = quantizer.rounding, quantizer.element_format, q.codes.reshape(-1)
    for i in range(0, x.numel(), 8191):
        random = draw(STREAM, i, rounding.random_bits) if rounding.is_stochastic else 0
        assert int(codes[i]) == encode_value(float(y[i]), fmt, rounding, random, int(zeros[i]))


@pytest.mark.parametrize("name", QUANTIZERS)
def test_lowbit_sim_formats(beside_copy, x, name):
    rows, run = x.reshape(-1, 4096), QUANTIZERS[name]
    check_by_definition(run(rows, stream=STREAM), rows, run)
    beside_copy(name, lambda: run(rows, stream=STREAM), work=WITH_SCALE, ours=True, case=name)
