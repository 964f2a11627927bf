"""A float32 tensor to INT8 codes with a given scale, against memory copies and qtorch."""

import numpy as np
import pytest
import torch

import lowbit_sim as lb

ELEMENTS = 1 << 22
SCALE = 2.0**-5


@pytest.fixture(scope="module")
def x():
    return torch.randn(ELEMENTS, generator=torch.Generator().manual_seed(0))


def quantizer(rounding):
    return lb.Quantizer(lb.INT8, scale=lb.FixedScale(SCALE), rounding=rounding)


def nearest_codes(x):
    return np.clip(np.rint(x.numpy() * np.float32(1 / SCALE)), -127, 127)


@pytest.mark.benchmark(group="quantize 4M to INT8, nearest, scale given")
def test_memory_copy_float32(benchmark, x):
    out = torch.empty_like(x)
    benchmark(out.copy_, x)


@pytest.mark.benchmark(group="quantize 4M to INT8, nearest, scale given")
def test_lowbit_sim_nearest(benchmark, x):
    run = quantizer(lb.Rounding("nearest_even"))
    assert np.array_equal(run(x).codes.numpy(), nearest_codes(x))
    benchmark(run, x)


@pytest.mark.benchmark(group="quantize 4M to INT8, nearest, scale given")
def test_qtorch_nearest(benchmark, x):
    quant = pytest.importorskip("qtorch.quant", reason="qtorch is not installed")

    def run():
        return quant.fixed_point_quantize(x, wl=8, fl=5, symmetric=True, rounding="nearest")

    assert np.array_equal(run().numpy() / SCALE, nearest_codes(x))
    benchmark(run)


@pytest.mark.benchmark(group="quantize 4M to INT8, stochastic, scale given")
def test_lowbit_sim_stochastic_8_bits(benchmark, x):
    run = quantizer(lb.Rounding("stochastic", random_bits=8))
    stream = lb.Stream(seed=0)
    error = run(x, stream=stream).codes - (x / SCALE).clamp(-127, 127)
    assert float(error.abs().max()) <= 1.0
    benchmark(run, x, stream=stream)


@pytest.mark.benchmark(group="quantize 4M to INT8, stochastic, scale given")
def test_qtorch_stochastic(benchmark, x):
    quant = pytest.importorskip("qtorch.quant", reason="qtorch is not installed")

    def run():
        return quant.fixed_point_quantize(x, wl=8, fl=5, symmetric=True, rounding="stochastic")

    error = run() / SCALE - (x / SCALE).clamp(-127, 127)
    assert float(error.abs().max()) <= 1.0
    benchmark(run)


@pytest.mark.benchmark(group="quantize 4M to INT8, nearest, absmax scale")
def test_lowbit_sim_absmax(benchmark, x):
    run = lb.Quantizer(lb.INT8)
    assert int(run(x).codes.abs().max()) == 127
    benchmark(run, x)
