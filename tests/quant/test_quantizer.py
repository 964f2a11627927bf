"""The quantiser: what it refuses, what it accepts, and its codes by the definition."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from torch._subclasses import FakeTensorMode

import lowbit_sim as lb
from lowbit_sim.numerics import catalog
from lowbit_sim.numerics.formats import FloatFormat, Format, IntFormat
from lowbit_sim.numerics.random import Stream
from lowbit_sim.numerics.rounding import Rounding, RoundingMode
from lowbit_sim.quant.granularity import PerAxis, PerTensor
from lowbit_sim.quant.qtensor import QTensor
from lowbit_sim.quant.quantizer import NotANumberError, Quantizer
from lowbit_sim.quant.scaling import EmaScale, FixedScale, MinMaxScale, PowerOfTwoScale, ScaleState
from tests.numerics.cases import reference_codes, rounding

INT8_FULL = IntFormat(bits=8, symmetric=False)
STOCHASTIC = Rounding("stochastic", random_bits=8)
UNIT = FixedScale(1.0)


def assert_same(found, expected) -> None:
    """Two results with the same bits."""
    assert torch.equal(found.codes, expected.codes)
    assert torch.equal(found.scale, expected.scale)
    assert (found.zero_point is None) == (expected.zero_point is None)
    assert found.zero_point is None or torch.equal(found.zero_point, expected.zero_point)


@pytest.mark.parametrize(
    ("fmt", "options", "message"),
    [
        (catalog.INT8, {"rounding": Rounding(overflow="wrap")}, "int8 leaves out a code.*symmetric=False"),
        (catalog.INT8, {"rounding": Rounding(overflow="infinity")}, "int8 has no infinity"),
        (catalog.FP16, {"rounding": Rounding(overflow="wrap")}, "fp16 can't wrap"),
        (catalog.FP4_E2M1, {"rounding": Rounding(overflow="infinity")}, "fp4_e2m1 has neither"),
        (catalog.FP16, {"scale": MinMaxScale()}, "zero point, which fp16 can't have"),
        (catalog.INT8, {"nan": -128}, r"int8 \(-127 to 127\), got -128"),
        (catalog.INT8, {"nan": 128}, "got 128"),
        (catalog.UINT8, {"nan": -1}, r"uint8 \(0 to 255\), got -1"),
        (catalog.FP8_E5M2, {"nan": 256}, r"fp8_e5m2 \(0 to 255\), got 256"),
        (catalog.INT8, {"nan": "zero"}, "got 'zero'"),
        (catalog.INT8, {"nan": 1.5}, "got 1.5"),
    ],
)
def test_impossible_combination(fmt: Format, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Quantizer(fmt, **options)


@pytest.mark.parametrize("fmt", ["int8", 8, None])
def test_a_format_is_not_a_name(fmt) -> None:
    with pytest.raises(TypeError, match="format"):
        Quantizer(fmt)


@pytest.mark.parametrize(
    "x",
    [
        torch.ones(3, dtype=torch.int32),
        torch.ones(3, dtype=torch.bool),
        torch.ones(3, dtype=torch.complex64),
        [1.0],
        1.0,
        np.ones(3),
    ],
)
def test_only_floating_point_tensors(x) -> None:
    with pytest.raises(TypeError, match="takes a floating-point tensor, got"):
        Quantizer(catalog.INT8)(x)


def test_stochastic_rounding_needs_a_stream() -> None:
    with pytest.raises(ValueError, match=r"pass stream=Stream\(seed="):
        Quantizer(catalog.INT8, rounding=STOCHASTIC)(torch.ones(3))


def test_axis_that_the_tensor_lacks() -> None:
    with pytest.raises(ValueError, match=r"PerAxis\(2\).*\[3, 4\]"):
        Quantizer(catalog.INT8, granularity=PerAxis(2))(torch.ones(3, 4))


def test_a_device_without_kernels_is_refused() -> None:
    with FakeTensorMode():
        x = torch.empty(3, device="mps")
    with pytest.raises(
        ValueError, match="no quantisation kernel for device mps.*; or move the tensor to the CPU"
    ):
        Quantizer(catalog.INT8)(x)


def test_a_gpu_without_triton_is_refused_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with FakeTensorMode():
        x = torch.empty(3, device="cuda")
    with pytest.raises(
        ValueError, match=r"device cuda:0: Triton is not installed \(pip install lowbit-sim\[gpu\]\)"
    ):
        Quantizer(catalog.INT8)(x)


@pytest.mark.parametrize("fmt", ["int4", "uint8", "fp8_e4m3fn", "mxfp4", "nvfp4", "posit8"])
@pytest.mark.parametrize("shape", [(3, 5), (2, 33), (0, 4), (64,)], ids=str)
def test_without_data_the_result_has_the_shapes_and_dtypes(fmt: str, shape: tuple[int, ...]) -> None:
    quantizer = Quantizer(catalog.parse_format(fmt))
    real, empty = quantizer(torch.ones(shape)), quantizer(torch.ones(shape, device="meta"))
    for ours, theirs in zip(
        *(
            (q.codes, q.scale, q.values(), q.dequantize(), q.expanded_scale(), *_integers(q))
            for q in (empty, real)
        ),
        strict=True,
    ):
        assert (ours.shape, ours.dtype, ours.device.type) == (theirs.shape, theirs.dtype, "meta")


def _integers(q: QTensor) -> tuple[torch.Tensor, ...]:
    return (q.integers(),) if q.element_format.unit is not None else ()


def test_without_data_a_bad_call_is_an_error_and_no_state_moves() -> None:
    x = torch.ones(3, 4, device="meta")
    with pytest.raises(ValueError, match=r"PerAxis\(2\).*\[3, 4\]"):
        Quantizer(catalog.INT8, granularity=PerAxis(2))(x)
    running = Quantizer(catalog.INT8, scale=EmaScale())
    with pytest.raises(ValueError, match=r"pass state=ScaleState\(\)"):
        running(x)
    state = ScaleState()
    running(x, state=state)
    assert state == ScaleState()


@pytest.mark.parametrize("fmt", [catalog.INT8, catalog.FP8_E4M3FN, catalog.FP4_E2M1], ids=str)
def test_nan_is_an_error_that_names_shape_and_count(fmt: Format) -> None:
    x = torch.ones(3, 5)
    x[1, 2] = x[2, 0] = math.nan
    with pytest.raises(NotANumberError, match=rf"2 of 15 elements .*shape \[3, 5\].*{fmt} are NaN"):
        Quantizer(fmt)(x)


@pytest.mark.parametrize(
    ("fmt", "code"),
    [
        (catalog.INT8, 0),
        (catalog.INT8, -127),
        (INT8_FULL, -128),
        (catalog.UINT8, 255),
        (catalog.FP8_E4M3FN, 0x7F),
    ],
    ids=str,
)
def test_nan_becomes_the_chosen_code_and_counts_for_nothing_else(fmt: Format, code: int) -> None:
    x = torch.tensor([[1.0, math.nan, -3.0], [math.nan, 2.0, 0.5]])
    q = Quantizer(fmt, nan=code)(x)
    without = Quantizer(fmt)(torch.nan_to_num(x))
    missing = torch.isnan(x)
    assert (q.codes[missing] == code).all()
    assert torch.equal(q.codes[~missing], without.codes[~missing])
    assert torch.equal(q.scale, without.scale)
    assert torch.isnan(x).sum() == 2


def test_nan_code_of_a_32_bit_format_keeps_its_bits() -> None:
    fmt = FloatFormat(exponent_bits=8, mantissa_bits=23, bias=127)
    q = Quantizer(fmt, scale=UNIT, nan=0xFFC00000)(torch.tensor([math.nan, -1.5]))
    assert (q.codes.to(torch.int64) & 0xFFFFFFFF).tolist() == [0xFFC00000, 0xBFC00000]


@pytest.mark.parametrize("mode", RoundingMode)
@pytest.mark.parametrize("fmt", [catalog.INT4, catalog.INT8, catalog.FP8_E4M3FN], ids=str)
def test_codes_by_the_definition(fmt: Format, mode: str) -> None:
    x = np.random.default_rng(2).standard_normal((6, 7)).astype(np.float32)
    stream = Stream(seed=5, step=6, site=7, operand=2, offset=100)
    how = rounding(mode)
    q = Quantizer(fmt, granularity=PerAxis(1), rounding=how)(torch.from_numpy(x), stream=stream)
    scale = np.abs(x).max(0, keepdims=True) / np.float32(fmt.max_value)
    np.testing.assert_array_equal(q.scale.numpy(), scale)
    expected = reference_codes(x * (np.float32(1) / scale), fmt, how, stream)
    np.testing.assert_array_equal(q.codes.numpy(), expected)


def test_docstring_example_by_hand() -> None:
    q = Quantizer(catalog.INT4, scale=FixedScale(0.5))(
        torch.tensor([0.25, 0.75, -0.25, -1.25, 3.5, 4.0, -100.0])
    )
    assert q.codes.tolist() == [0, 2, 0, -2, 7, 7, -7]
    assert q.dequantize().tolist() == [0.0, 1.0, 0.0, -1.0, 3.5, 3.5, -3.5]


def test_wrapping_keeps_the_low_bits() -> None:
    wrap = Quantizer(INT8_FULL, scale=UNIT, rounding=Rounding(overflow="wrap"))
    x = torch.tensor([127.0, 128.0, 255.5, 256.0, -129.0, 2.0**40, 2.0**20 + 3, -(2.0**21) - 5])
    assert wrap(x).codes.tolist() == [127, -128, 0, 0, 127, 0, 3, -5]


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize("scale", [PowerOfTwoScale(), FixedScale(2.0**-10)])
def test_a_power_of_two_scale_never_reaches_the_code_left_out(bits: int, scale) -> None:
    # 2^n / 2^ceil(log2(2^n / qmax)) is the case that wraps where the bound is taken from the width.
    fmt = IntFormat(bits=bits)
    for exponent in range(-9, 10):
        codes = Quantizer(fmt, scale=scale)(torch.tensor([2.0**exponent, -(2.0**exponent)])).codes
        assert codes.min() >= fmt.qmin
        assert codes.max() <= fmt.qmax


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("fmt", [catalog.INT8, catalog.FP8_E5M2], ids=str)
def test_other_float_dtypes_are_converted_to_float32_first(fmt: Format, dtype: torch.dtype) -> None:
    x = torch.linspace(-7, 3, 40, dtype=torch.float64).to(dtype)
    assert_same(Quantizer(fmt)(x), Quantizer(fmt)(x.to(torch.float32)))


def test_float64_is_rounded_before_anything_else() -> None:
    # 2.5 + 2^-40 is above the tie in float64 and on it in float32; 1e300 is an infinity, which saturates.
    x = torch.tensor([2.5 + 2.0**-40, 1e300, -1e300], dtype=torch.float64)
    assert Quantizer(catalog.INT8, scale=UNIT)(x).codes.tolist() == [2, 127, -127]


def _layouts() -> dict[str, torch.Tensor]:
    base = torch.linspace(-4, 6, 2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    return {
        "transposed": base.transpose(1, 3),
        "channels_last": base.contiguous(memory_format=torch.channels_last),
        "strided": base[:, :, ::2, 1::3],
        "expanded": base[:, :1].expand(2, 3, 4, 5),
        "offset": base.reshape(-1)[7:],
        "flipped": base.flip(0),
        "negated view": torch.complex(base, base).conj().imag,
    }


@pytest.mark.parametrize("layout", _layouts())
@pytest.mark.parametrize("granularity", [PerTensor(), PerAxis(0), PerAxis(-1)])
def test_layout_does_not_change_the_bits(layout: str, granularity) -> None:
    x = _layouts()[layout]
    plain = torch.tensor(x.tolist())
    quantizer = Quantizer(catalog.INT8, granularity=granularity, rounding=STOCHASTIC)
    stream = Stream(seed=1)
    assert_same(quantizer(x, stream=stream), quantizer(plain, stream=stream))


@pytest.mark.parametrize("fmt", [catalog.INT8, catalog.FP8_E5M2], ids=str)
@pytest.mark.parametrize("shape", [(0,), (0, 3), (3, 0), (2, 0, 3), ()])
def test_empty_and_zero_dimensional_tensors(fmt: Format, shape: tuple[int, ...]) -> None:
    x = torch.full(shape, -2.0)
    for granularity in [PerTensor(), *(PerAxis(axis) for axis in range(len(shape)))]:
        q = Quantizer(fmt, granularity=granularity)(x)
        assert q.codes.shape == shape
        assert q.dequantize().shape == shape
        assert (q.scale == 1).all() or x.numel()
    if not shape:
        assert Quantizer(catalog.INT8)(x).codes.item() == -127


def test_gradients_and_the_input_are_left_alone() -> None:
    x = torch.tensor([1.0, -3.0, math.inf], requires_grad=True)
    before = x.detach().clone()
    q = Quantizer(catalog.INT8)(x)
    assert not q.codes.requires_grad
    assert not q.scale.requires_grad
    assert not q.dequantize().requires_grad
    assert torch.equal(x.detach(), before)
    assert x.grad is None
    parameter = torch.nn.Parameter(before)
    assert_same(Quantizer(catalog.INT8)(parameter), q)


def test_zeros_have_scale_one_and_codes_zero() -> None:
    q = Quantizer(catalog.INT4, granularity=PerAxis(0))(torch.tensor([[0.0, -0.0], [0.0, 7.0]]))
    assert q.scale.flatten().tolist() == [1.0, 1.0]
    assert q.codes.tolist() == [[0, 0], [0, 7]]


@pytest.mark.parametrize("random_bits", [8, 16, 32])
@pytest.mark.parametrize("fmt", [catalog.INT8, catalog.FP8_E4M3FN], ids=str)
@pytest.mark.parametrize("start", [1, 3, 4, 7])
def test_a_slice_with_its_offset_draws_the_bits_of_the_whole(
    fmt: Format, random_bits: int, start: int
) -> None:
    x = torch.randn(9, 37, generator=torch.Generator().manual_seed(0))
    quantizer = Quantizer(
        fmt, scale=FixedScale(2.0**-5), rounding=Rounding("stochastic", random_bits=random_bits)
    )
    stream = Stream(seed=1, step=2, site=3, operand=1, offset=(1 << 36) - 50)
    whole = quantizer(x, stream=stream)
    moved = dataclasses.replace(stream, offset=stream.offset + start * 37)
    assert torch.equal(quantizer(x[start:], stream=moved).codes, whole.codes[start:])
    assert not torch.equal(quantizer(x[start:], stream=stream).codes, whole.codes[start:])


@pytest.mark.parametrize("field", ["seed", "step", "site", "operand", "offset"])
@pytest.mark.parametrize("fmt", [catalog.INT8, catalog.FP8_E4M3FN], ids=str)
def test_every_field_of_the_stream_changes_the_codes(fmt: Format, field: str) -> None:
    x = torch.full((400,), 20.3)
    quantizer = Quantizer(fmt, scale=UNIT, rounding=STOCHASTIC)
    stream = Stream(seed=0)
    codes = quantizer(x, stream=stream).codes
    assert torch.equal(quantizer(x, stream=stream).codes, codes)
    other = dataclasses.replace(stream, **{field: 1})
    assert not torch.equal(quantizer(x, stream=other).codes, codes)


def test_a_stream_changes_nothing_without_stochastic_rounding() -> None:
    x = torch.randn(50, generator=torch.Generator().manual_seed(0))
    assert_same(Quantizer(catalog.INT8)(x, stream=Stream(seed=1)), Quantizer(catalog.INT8)(x))


def test_seed_zero_draws_too() -> None:
    # A seed of zero must not mean "off".
    codes = Quantizer(catalog.INT8, scale=UNIT, rounding=STOCHASTIC)(
        torch.full((64,), 0.5), stream=Stream(seed=0)
    ).codes
    assert codes.unique().tolist() == [0, 1]


def test_equal_quantizers_are_equal_values() -> None:
    assert Quantizer(catalog.INT8) == Quantizer(
        IntFormat(bits=8), granularity=PerTensor(), rounding=Rounding()
    )
    assert len({Quantizer(catalog.INT8), Quantizer(catalog.INT8), Quantizer(catalog.INT4)}) == 2


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"scale": "power_of_two"}, r"scale is one of AbsMaxScale\(...\), .*; got 'power_of_two'"),
        ({"scale": lb.MinMaxScale}, r"scale is one of .*; got <class"),
        (
            {"granularity": "axis"},
            r"granularity is one of PerTensor\(...\), PerAxis\(...\), .*PerBlock\(...\); got 'axis'",
        ),
        ({"rounding": "stochastic"}, r"rounding is one of Rounding\(...\); got 'stochastic'"),
    ],
)
def test_what_is_not_a_rule_is_refused(fields, message) -> None:
    with pytest.raises(TypeError, match=message):
        lb.Quantizer(lb.INT8, **fields)


def test_truth_is_not_a_code_and_an_axis_is_whole() -> None:
    with pytest.raises(ValueError, match="got True"):
        lb.Quantizer(lb.INT8, nan=True)
    with pytest.raises(ValueError, match=r"PerAxis\(0.0\)"):
        lb.PerAxis(0.0)


class FixedPoint:
    """What qtorch's number looks like from outside."""

    wl, fl, clamp, symmetric = 8, 4, True, False


FixedPoint.__module__ = "qtorch.number"


def test_a_qtorch_number_is_a_format() -> None:
    quantizer = Quantizer(FixedPoint(), scale=UNIT)  # pyright: ignore[reportArgumentType]
    assert quantizer.format == lb.FixedFormat(word_length=8, fraction_length=4)
    assert quantizer(torch.tensor([0.5, 100.0])).dequantize().tolist() == [0.5, 127 / 16]


@pytest.mark.parametrize(
    ("quantizer", "name"),
    [
        (Quantizer(catalog.INT4, granularity=lb.PerBlock(16)), "int4 block 16"),
        (Quantizer(catalog.INT8, granularity=lb.PerSample(), rounding=STOCHASTIC), "int8 sample stochastic"),
        (Quantizer(catalog.MXFP4), "mxfp4"),
    ],
)
def test_names_of_blocks(quantizer: Quantizer, name: str) -> None:
    assert str(quantizer) == name


@pytest.mark.parametrize(
    "fmt", [catalog.FP8_E5M2, catalog.LOG4_RADIX2, lb.FixedFormat(word_length=8, fraction_length=4)]
)
def test_a_zero_point_is_for_integers(fmt: Format) -> None:
    with pytest.raises(ValueError, match=f"zero point, which {fmt} can't have"):
        Quantizer(fmt, scale=MinMaxScale())
