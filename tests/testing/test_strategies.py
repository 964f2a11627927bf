import math
import subprocess
import sys

import pytest
import torch
from hypothesis import HealthCheck, Phase, find, given, settings
from hypothesis import strategies as st

from lowbit_sim.numerics.block_formats import BlockFormat
from lowbit_sim.numerics.catalog import FP16, FP32, INT8, parse_format
from lowbit_sim.numerics.encode import check_rounding
from lowbit_sim.numerics.formats import FixedFormat, FloatFormat, IntFormat, LogFormat, PositFormat
from lowbit_sim.numerics.random import Stream
from lowbit_sim.quant.quantizer import Quantizer
from lowbit_sim.quant.scaling import FixedScale
from lowbit_sim.testing import (
    code_matrices,
    float_mac_units,
    formats,
    gemm_shapes,
    mac_units,
    quantizers,
    roundings,
    tensors,
)
from lowbit_sim.testing.grid import Grid

QUICK = settings(
    max_examples=2000,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


class Found(BaseException):
    """Not an `Exception`, so that Hypothesis stops at once and shrinks nothing."""


def finds(strategy, condition) -> bool:
    @QUICK
    @given(strategy)
    def look(value):
        if condition(value):
            raise Found

    try:
        look()
    except Found:
        return True
    return False


@pytest.mark.parametrize("kind", [IntFormat, FixedFormat, FloatFormat, LogFormat, PositFormat, BlockFormat])
def test_every_kind_of_format_comes_up(kind):
    assert finds(formats("any"), lambda fmt: isinstance(fmt, kind))


@given(formats(max_bits=8))
def test_formats_keep_their_width_and_are_elements(fmt):
    assert fmt.bits <= 8
    assert not isinstance(fmt, BlockFormat)


@given(st.data(), formats("any"))
def test_roundings_suit_their_format(data, fmt):
    check_rounding(fmt, data.draw(roundings(fmt)))
    assert not data.draw(roundings(fmt, stochastic=False)).is_stochastic


@settings(max_examples=20)
@given(st.data(), quantizers())
def test_quantizers_take_tensors(data, quantizer):
    x = data.draw(tensors(quantizer.format, infinities=True))
    assert quantizer(x, stream=Stream(seed=0)).codes.shape == x.shape


KINDS = {
    "empty": lambda x: x.numel() == 0,
    "all zero": lambda x: x.numel() > 2 and not x.any(),
    "all equal": lambda x: x.numel() > 2 and x[..., :1].item() != 0 and bool((x == x.flatten()[0]).all()),
    "one outlier": lambda x: x.numel() > 3 and x.abs().max() > 1000 * x.abs().flatten().sort().values[-2] > 0,
    "subnormal": lambda x: bool(((x != 0) & (x.abs() < 2.0**-126)).any()),
    "huge": lambda x: bool((x.abs() > 1e35).any()),
    "a tie that survives scaling": lambda x: bool(
        (x * (1 / Quantizer(INT8)(x).scale)).frac().abs().eq(0.5).any()
    ),
    "two axes": lambda x: x.ndim == 2,
    "no two axes alike": lambda x: x.ndim == 3 and len(set(x.shape)) == 3,
}


@pytest.mark.parametrize("kind", KINDS)
def test_tensors_have_every_kind(kind):
    strategy = tensors("int8")
    guarded = KINDS[kind] if kind != "all equal" else lambda x: x.ndim == 1 and KINDS[kind](x)
    assert finds(strategy, guarded)


@given(tensors("int8"))
def test_tensors_are_finite_float32_unless_asked(x):
    assert x.dtype is torch.float32
    assert torch.isfinite(x).all()
    assert x.is_contiguous()


@given(tensors("int8", subnormals=False))
def test_tensors_without_small_magnitudes(x):
    assert ((x == 0) | (x.abs() >= 2.0**-60)).all()


def test_infinities_nan_and_strides_are_opt_in():
    assert finds(tensors(infinities=True), lambda x: bool(torch.isinf(x).any()))
    assert finds(tensors(nan=True), lambda x: bool(torch.isnan(x).any()))
    assert finds(tensors(strided=True), lambda x: not x.is_contiguous())


@given(tensors(shapes=st.just((2, 5))))
def test_shapes_are_the_users(x):
    assert x.shape == (2, 5)


def test_mac_units_have_every_field():
    for field, value in (
        ("overflow", "saturate_symmetric"),
        ("overflow_at", "outer"),
        ("order", "tree"),
        ("truncation", "nearest_even"),
        ("accumulator_bits", 64),
        ("chunk", 7),
    ):
        assert finds(mac_units(), lambda mac, field=field, value=value: getattr(mac, field) == value)


def test_float_mac_units_have_every_field():
    for field, value in (
        ("accumulator", FP16),
        ("outer", FP32),
        ("product", FP16),
        ("order", "tree"),
        ("kahan", True),
        ("chunk", 7),
    ):
        assert finds(float_mac_units(), lambda mac, field=field, value=value: getattr(mac, field) == value)
    assert finds(float_mac_units(stochastic=True), lambda mac: mac.rounding.is_stochastic)


@given(float_mac_units())
def test_float_mac_units_are_not_stochastic_unless_asked(mac):
    assert not mac.rounding.is_stochastic


@given(gemm_shapes(chunk=300, largest=600, products=5000))
def test_gemm_shapes_keep_to_a_number_of_products(shape):
    assert math.prod(shape) <= 5000


@given(mac_units(narrowest=10, widest=20))
def test_mac_units_keep_their_width(mac):
    assert 10 <= mac.accumulator_bits <= 20
    assert 10 <= mac.result_bits <= 20


def test_gemm_shapes_surround_the_chunk():
    for reduction in (0, 1, 15, 16, 17, 33):
        assert finds(gemm_shapes(chunk=16), lambda s, reduction=reduction: s[2] == reduction)


def test_code_matrices_are_what_a_qtensor_holds():
    strategy = code_matrices("int8", (2, 3))
    assert finds(strategy, lambda a: a.min() == -127 and a.max() == 127)
    assert find(strategy, lambda a: True).dtype is torch.int8
    assert find(code_matrices("uint8", (0, 3)), lambda a: True).shape == (0, 3)


@pytest.mark.parametrize(
    "name",
    ["int4", "uint4", "int8_full", "fixed<6,3>", "fp8_e4m3fn", "fp4_e2m1", "posit8", "log4_radix2", "bf16"],
)
def test_a_grid_is_ascending_and_complete(name):
    fmt = parse_format(name)
    grid = Grid(fmt)
    values = list(grid)
    assert values == sorted(set(values))
    assert values[-1] == grid[-1] == fmt.max_value
    assert all(math.isfinite(v) for v in values)
    x = torch.tensor(values[:: max(1, len(values) // 50)])
    assert torch.equal(Quantizer(fmt, scale=FixedScale(1.0))(x).dequantize(), x)


@pytest.mark.parametrize(
    ("call", "message"),
    [(lambda: formats("floats"), "kind is one of"), (lambda: formats(max_bits=2), "4 bits")],
)
def test_wrong_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_without_hypothesis_the_import_says_what_to_install():
    code = "import sys; sys.modules['hypothesis'] = None\nimport lowbit_sim\nimport lowbit_sim.testing"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "pip install 'lowbit-sim[test]'" in done.stderr
