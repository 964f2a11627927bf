"""QTensor's invariants and the meaning of its codes."""

import dataclasses
import math
from fractions import Fraction

import numpy as np
import pytest
import torch

from lowbit_sim.numerics import catalog
from lowbit_sim.numerics.catalog import CATALOG, parse_format
from lowbit_sim.numerics.encode import code_range
from lowbit_sim.numerics.formats import ElementFormat, FloatFormat, Format, PositFormat
from lowbit_sim.numerics.reference import decode_value, float32, float_value
from lowbit_sim.quant.granularity import PerAxis, PerTensor
from lowbit_sim.quant.qtensor import QTensor, code_dtype, decode
from lowbit_sim.quant.quantizer import Quantizer
from lowbit_sim.quant.scaling import MinMaxScale
from tests.numerics.cases import ELEMENTS, FLOATS, NF4


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("int2", torch.int8),
        ("int8", torch.int8),
        ("int8_full", torch.int8),
        ("int9", torch.int16),
        ("int16", torch.int16),
        ("uint8", torch.uint8),
        ("uint9", torch.int32),
        ("uint16", torch.int32),
        ("fp4_e2m1", torch.uint8),
        ("fp8_e4m3fn", torch.uint8),
        ("fp16", torch.int32),
        ("tf32", torch.int32),
        ("fp32", torch.int64),
        ("posit16", torch.int32),
        ("fixed<8,6>", torch.int8),
        ("fixed<9,6>", torch.int16),
        ("mxint8", torch.int8),
        ("mxfp8_e5m2", torch.uint8),
    ],
)
def test_code_dtype(name: str, dtype: torch.dtype) -> None:
    assert code_dtype(parse_format(name)) == dtype


@pytest.mark.parametrize("fmt", CATALOG.values(), ids=str)
def test_dtype_holds_every_code(fmt: Format) -> None:
    info = torch.iinfo(code_dtype(fmt))
    low, high = code_range(fmt)
    assert info.min <= low
    assert high <= info.max


@pytest.mark.parametrize(
    "fmt", [catalog.INT4, catalog.INT8, catalog.UINT8, catalog.INT16, catalog.FP8_E5M2, catalog.BF16], ids=str
)
@pytest.mark.parametrize("granularity", [PerTensor(), PerAxis(0), PerAxis(1), PerAxis(-1)])
def test_invariants_of_a_result(fmt: Format, granularity) -> None:
    x = torch.linspace(-3, 5, 30).reshape(2, 5, 3).transpose(0, 2)
    q = Quantizer(fmt, granularity=granularity)(x)
    assert q.codes.shape == q.shape == x.shape
    assert q.codes.is_contiguous()
    assert q.codes.dtype == code_dtype(fmt)
    assert q.scale.dtype == torch.float32
    assert (torch.isfinite(q.scale) & (q.scale > 0)).all()
    assert torch.broadcast_shapes(q.scale.shape, q.shape) == q.shape
    assert q.scale.ndim == x.ndim
    assert q.zero_point is None
    assert q.format is fmt
    assert q.dequantize().dtype == torch.float32


def test_zero_point_has_the_shape_of_the_scale() -> None:
    q = Quantizer(catalog.UINT8, scale=MinMaxScale(), granularity=PerAxis(1))(torch.randn(3, 4, 2))
    assert q.zero_point is not None
    assert q.zero_point.shape == q.scale.shape == (1, 4, 1)
    assert q.zero_point.dtype == torch.int32


def test_dequantize_is_one_float32_multiply() -> None:
    codes = torch.arange(-127, 128, dtype=torch.int8)
    for scale in (0.1, 1 / 3, 1e-38, 2.0**-126):
        q = QTensor(codes=codes, scale=torch.tensor([scale]), format=catalog.INT8)
        exact = float(torch.tensor(scale))
        assert q.dequantize().tolist() == [float32(code * exact) for code in codes.tolist()]


def test_dequantize_takes_the_zero_point_off_without_wrapping() -> None:
    q = QTensor(
        codes=torch.tensor([[0, 255], [3, 200]], dtype=torch.uint8),
        scale=torch.tensor([[0.5], [2.0]]),
        format=catalog.UINT8,
        zero_point=torch.tensor([[255], [100]], dtype=torch.int32),
    )
    assert q.integers().tolist() == [[-255, 0], [-97, 100]]
    assert q.integers().dtype == torch.int32
    assert q.dequantize().tolist() == [[-127.5, 0.0], [-194.0, 200.0]]


@pytest.mark.parametrize(("bits", "dtype"), [(2, torch.int8), (7, torch.int8), (8, torch.int32)])
def test_integers_are_int8_where_that_holds_every_difference(bits: int, dtype: torch.dtype) -> None:
    top = (1 << bits) - 1
    fmt = parse_format(f"uint{bits}")
    codes = torch.tensor([0, 1, top], dtype=torch.uint8)
    plain = QTensor(codes=codes, scale=torch.ones(1), format=fmt)
    for zero_point in (0, 1, top):
        offset = torch.tensor([zero_point], dtype=torch.int32)
        q = QTensor(codes=codes, scale=torch.ones(1), format=fmt, zero_point=offset)
        assert q.integers().dtype == dtype
        assert q.integers().tolist() == [code - zero_point for code in (0, 1, top)]
    assert plain.integers().tolist() == [0, 1, top]
    assert plain.integers().dtype == (torch.int8 if bits < 8 else torch.uint8)


def test_dequantize_floats() -> None:
    q = QTensor(
        codes=torch.tensor([0x7E, 0x81, 0x80], dtype=torch.uint8),
        scale=torch.tensor([0.1]),
        format=catalog.FP8_E4M3FN,
    )
    exact = float32(0.1)
    assert q.dequantize().tolist() == [float32(448 * exact), float32(-(2.0**-9) * exact), -0.0]
    assert math.copysign(1, q.dequantize()[2].item()) == -1.0


def test_integers_without_zero_point_are_the_codes() -> None:
    q = Quantizer(catalog.INT4)(torch.tensor([1.0, -2.0]))
    assert q.integers() is q.codes


@pytest.mark.parametrize("fmt", [catalog.FP8_E5M2, catalog.FP8_E4M3FN, catalog.BF16, NF4], ids=str)
def test_codes_without_a_unit_are_not_integers(fmt) -> None:
    with pytest.raises(TypeError, match=f"codes of {fmt} are not integers"):
        Quantizer(fmt)(torch.ones(2)).integers()


UNITS = [fmt for fmt in ELEMENTS if fmt.unit is not None and fmt.bits <= 8]


@pytest.mark.parametrize("fmt", UNITS, ids=str)
def test_integers_are_the_values_in_units_of_the_format(fmt: ElementFormat) -> None:
    low, high = code_range(fmt)
    finite = [code for code in range(low, high + 1) if math.isfinite(decode_value(code, fmt))]
    every = torch.tensor(finite).to(code_dtype(fmt))
    q = QTensor(codes=every, scale=torch.ones(1), format=fmt)
    assert fmt.unit is not None
    expected = [Fraction(decode_value(int(code), fmt)) / Fraction(fmt.unit) for code in every]
    assert q.integers().tolist() == expected
    assert q.integers().dtype in (torch.int8, torch.int16, torch.int32, torch.uint8)
    assert q.values().tolist() == [decode_value(int(code), fmt) for code in every]


def test_what_is_no_number_is_no_integer() -> None:
    fmt = PositFormat(bits=3, exponent_bits=0)
    q = QTensor(codes=torch.tensor([1, 0b100], dtype=torch.uint8), scale=torch.ones(1), format=fmt)
    with pytest.raises(ValueError, match="codes of posit<3,0> hold NaN or infinity"):
        q.integers()


def test_units_are_those_of_the_small_formats() -> None:
    assert {fmt.name for fmt in UNITS} >= {
        "int8",
        "fixed<8,6>",
        "fp4_e2m1",
        "fp6_e2m3",
        "log4_radix2",
        "log4_radix4",
    }


def test_integers_of_a_unit_whose_reciprocal_is_no_float32() -> None:
    fmt = FloatFormat(exponent_bits=2, mantissa_bits=1, bias=149, has_infinity=False, has_nan=False)
    assert fmt.unit == 2.0**-149
    q = QTensor(codes=torch.arange(8, dtype=torch.uint8), scale=torch.ones(1), format=fmt)
    assert q.integers().tolist() == [0, 1, 2, 3, 4, 6, 8, 12]


def blocked() -> QTensor:
    """Codes [2, 5] in blocks of 2: the last block of a row holds one element."""
    return QTensor(
        codes=torch.arange(10, dtype=torch.int8).reshape(2, 5),
        scale=torch.tensor([[1.0, 2.0, 0.5], [4.0, 1.0, 8.0]]),
        format=catalog.INT8,
        block=2,
    )


def test_block_scales_are_expanded_along_the_last_axis() -> None:
    q = blocked()
    assert q.expanded_scale().tolist() == [[1, 1, 2, 2, 0.5], [4, 4, 1, 1, 8]]
    assert q.dequantize().tolist() == [[0, 1, 4, 6, 2], [20, 24, 7, 8, 72]]
    assert q.integers() is q.codes
    assert q.expanded_zero_point().tolist() == [[0] * 5] * 2


def test_block_zero_points_are_expanded_too() -> None:
    q = dataclasses.replace(blocked(), zero_point=torch.tensor([[0, 1, 2], [3, 4, 5]], dtype=torch.int32))
    assert q.integers().tolist() == [[0, 1, 1, 2, 2], [2, 3, 3, 4, 4]]
    assert q.values().tolist() == [[0, 1, 1, 2, 2], [2, 3, 3, 4, 4]]
    assert q.dequantize().tolist() == [[0, 1, 2, 4, 1], [8, 12, 3, 4, 32]]


def test_element_format_of_a_block_format() -> None:
    q = Quantizer(catalog.MXFP4)(torch.ones(2, 40))
    assert (q.format, q.element_format, q.block) == (catalog.MXFP4, catalog.FP4_E2M1, 32)
    q = Quantizer(catalog.INT8)(torch.ones(2, 40))
    assert (q.format, q.element_format, q.block) == (catalog.INT8, catalog.INT8, 0)


@pytest.mark.parametrize(
    "fmt",
    [
        *FLOATS,
        FloatFormat(exponent_bits=8, mantissa_bits=9, bias=127, has_subnormals=False),
        FloatFormat(exponent_bits=7, mantissa_bits=9, bias=63, has_infinity=False),
        FloatFormat(exponent_bits=7, mantissa_bits=9, bias=63, has_infinity=False, has_nan=False),
        FloatFormat(exponent_bits=4, mantissa_bits=3, bias=8, has_nan=False, has_subnormals=False),
    ],
    ids=str,
)
def test_decode_is_the_definition(fmt: FloatFormat) -> None:
    codes = np.unique(np.linspace(0, (1 << fmt.bits) - 1, 5000).astype(np.int64))
    codes = np.union1d(
        codes, [fmt.max_code, fmt.max_code + 1, (1 << (fmt.bits - 1)) - 1, 1 << (fmt.bits - 1)]
    )
    expected = np.array([float_value(int(code), fmt) for code in codes], dtype=np.float32)
    found = decode(torch.from_numpy(codes), fmt).numpy()
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(
        np.signbit(found)[~np.isnan(found)], np.signbit(expected)[~np.isnan(expected)]
    )


def test_decode_of_float32_itself() -> None:
    fmt = FloatFormat(exponent_bits=8, mantissa_bits=23, bias=127)
    values = torch.tensor([0.0, -0.0, 1.5, -(2.0**-149), 3.4028234663852886e38, math.inf, -math.inf])
    found = decode(values.view(torch.int32), fmt)
    assert torch.equal(found.view(torch.int32), values.view(torch.int32))
