"""The short way to integer codes of a whole tensor has the bits of the general one."""

import math

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given
from torch import Tensor

import lowbit_sim as lb
from lowbit_sim.numerics.rounding import RoundingMode
from lowbit_sim.quant import quantizer as quantizer_module
from lowbit_sim.quant.qtensor import QTensor

FORMATS = [lb.INT8, lb.INT4, lb.UINT8, lb.IntFormat(bits=2), lb.IntFormat(bits=16, symmetric=False)]
STREAM = lb.Stream(seed=3, step=2, site=7, operand=4, offset=5)


def rounding(mode: str, random_bits: int) -> lb.Rounding:
    return lb.Rounding(mode, random_bits=random_bits if mode == RoundingMode.STOCHASTIC else 0)


def in_general(quantizer: lb.Quantizer, x: Tensor) -> QTensor:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quantizer_module, "absmax_codes", lambda *arguments: None)
        return quantizer(x, stream=STREAM)


def assert_same(quantizer: lb.Quantizer, x: Tensor) -> None:
    found, expected = quantizer(x, stream=STREAM), in_general(quantizer, x)
    assert torch.equal(found.codes, expected.codes)
    assert found.codes.dtype is expected.codes.dtype
    assert found.codes.is_contiguous()
    assert found.scale.shape == expected.scale.shape
    assert torch.equal(found.scale.view(torch.int32), expected.scale.view(torch.int32))


@given(
    shape=st.lists(st.sampled_from([1, 2, 3, 17, 64]), max_size=3),
    exponent=st.integers(-149, 127),
    fmt=st.sampled_from(FORMATS),
    mode=st.sampled_from(list(RoundingMode)),
    random_bits=st.integers(1, 16),
    seed=st.integers(0, 9),
    infinite=st.booleans(),
)
def test_the_general_way(shape, exponent, fmt, mode, random_bits, seed, infinite) -> None:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(seed)).double() * 2.0**exponent
    x = x.to(torch.float32)
    if infinite:
        x.reshape(-1)[0] = -math.inf
    assert_same(lb.Quantizer(fmt, rounding=rounding(mode, random_bits)), x)


@pytest.mark.parametrize("mode", RoundingMode)
@pytest.mark.parametrize("size", [8191, 8193, 70_000])
def test_pieces_of_a_large_tensor(mode: str, size: int) -> None:
    x = torch.randn(size, generator=torch.Generator().manual_seed(0))
    for place in (0, size - 1):
        x[place] = 9.0
        assert_same(lb.Quantizer(lb.INT8, rounding=rounding(mode, 8)), x)
        x[place] = 0.0


@pytest.mark.parametrize("values", [[0.0, -0.0], [1e-45], [3.4e38, -1.0], [-0.0]])
def test_ends_of_the_scales(values: list[float]) -> None:
    assert_same(lb.Quantizer(lb.INT8), torch.tensor(values))


def test_a_transposed_tensor() -> None:
    assert_same(lb.Quantizer(lb.INT8), torch.arange(35.0).reshape(5, 7).t())


@pytest.mark.parametrize(
    "options",
    [
        {"granularity": lb.PerAxis(0)},
        {"scale": lb.PowerOfTwoScale()},
        {"scale": lb.AbsMaxScale(top=7.0)},
        {"nan": 0},
    ],
)
def test_what_only_the_general_way_can(monkeypatch, options) -> None:
    def refuse(*arguments):
        raise AssertionError("the short way was gone")

    quantizer, x = lb.Quantizer(lb.INT8, **options), torch.ones(3, 4)
    monkeypatch.setattr(quantizer_module, "absmax_codes", refuse)
    quantizer(x)
    with pytest.raises(AssertionError, match="short way"):
        lb.Quantizer(lb.INT8)(x)
