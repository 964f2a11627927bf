"""Requantisation against those who define it: ONNX Runtime, PyTorch's quantised operators, the published procedures.

The integer procedures are transcribed here from gemmlowp's fixedpoint.h, TensorFlow Lite's common.cc and the TOSA
specification (section on apply_scale), step by step and in C's arithmetic: division truncates, masks are two's
complement.
"""

import warnings

import numpy as np
import pytest
import torch

from lowbit_sim.arith.gemm import gemm
from lowbit_sim.arith.requant import FloatRequantizer, IntegerRequantizer
from lowbit_sim.numerics.formats import IntFormat

pytestmark = pytest.mark.oracle

INT8_FULL = IntFormat(bits=8, symmetric=False)
UINT8 = IntFormat(bits=8, signed=False, symmetric=False)
INT16_FULL = IntFormat(bits=16, symmetric=False)


def codes(shape, low, high, seed):
    return np.random.default_rng(seed).integers(low, high + 1, shape)


def onnx_qlinear_matmul(a, b, scales, zero_points):
    """ONNX's QLinearMatMul of int8 operands, as ONNX Runtime computes it; a column of b has its own scale."""
    onnx = pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    inputs = {"a": a, "b": b}
    for name, scale, zero_point in zip("aby", scales, zero_points, strict=True):
        inputs[f"{name}_scale"] = np.array(scale, dtype=np.float32)
        inputs[f"{name}_zero_point"] = np.broadcast_to(np.int8(zero_point), np.shape(scale)).copy()
    names = ["a", "a_scale", "a_zero_point", "b", "b_scale", "b_zero_point", "y_scale", "y_zero_point"]
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("QLinearMatMul", names, ["y"])],
        "requantisation",
        [
            onnx.helper.make_tensor_value_info(
                name, onnx.helper.np_dtype_to_tensor_dtype(inputs[name].dtype), inputs[name].shape
            )
            for name in names
        ],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.INT8, (a.shape[0], b.shape[1]))],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 13)], ir_version=8)
    session = runtime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, inputs)[0]


@pytest.mark.parametrize("zero_point", [0, 5, -128])
@pytest.mark.parametrize("per_column", [False, True])
def test_onnx_runtime(zero_point, per_column):
    a = codes((64, 48), -128, 127, 0).astype(np.int8)
    b = codes((48, 40), -127, 127, 1).astype(np.int8)
    a_scale, y_scale = np.float32(0.0173), np.float32(0.2)
    b_scale = np.float32(0.011)
    if per_column:
        b_scale = np.random.default_rng(2).uniform(0.002, 0.03, 40).astype(np.float32)
    expected = onnx_qlinear_matmul(a, b, (a_scale, b_scale, y_scale), (3, 0, zero_point))
    accumulators = gemm(torch.from_numpy(a.astype(np.int16) - 3), torch.from_numpy(b))
    scale = a_scale * b_scale / y_scale  # in float32, in this order
    requantize = FloatRequantizer(
        scale=tuple(float(s) for s in np.atleast_1d(scale)), zero_point=zero_point, format=INT8_FULL
    )
    got = requantize(accumulators).numpy()
    np.testing.assert_array_equal(got, expected)
    assert len(np.unique(got)) > 90
    assert np.mean((got == 127) | (got == -128)) < 0.6


def test_onnx_runtime_rounds_ties_to_even():
    """A scale of one half: every odd accumulator is a tie."""
    a = np.arange(-100, 100, dtype=np.int8)[:, None]
    expected = onnx_qlinear_matmul(a, np.ones((1, 1), np.int8), (0.5, 1.0, 1.0), (0, 0, 0))
    got = FloatRequantizer(scale=0.5, format=INT8_FULL)(torch.from_numpy(a.astype(np.int32))).numpy()
    np.testing.assert_array_equal(got, expected)
    assert got[100 + 1] == 0
    assert got[100 + 3] == 2


def per_tensor(codes, scale, zero_point):
    return torch._make_per_tensor_quantized_tensor(  # pyright: ignore[reportPrivateImportUsage]
        codes, scale, zero_point
    )


def per_channel_of(codes, scales):
    zeros = torch.zeros(len(scales), dtype=torch.int64)
    return torch._make_per_channel_quantized_tensor(  # pyright: ignore[reportPrivateImportUsage]
        codes, scales.double(), zeros, 0
    )


@pytest.fixture
def fbgemm():
    """PyTorch's quantised kernels of servers; the others scale in another order."""
    if "fbgemm" not in torch.backends.quantized.supported_engines:
        pytest.skip("this PyTorch has no FBGEMM")
    before = torch.backends.quantized.engine
    torch.backends.quantized.engine = "fbgemm"
    with warnings.catch_warnings():
        # The operators are deprecated; they remain what deployed models ran.
        warnings.simplefilter("ignore")
        yield
    torch.backends.quantized.engine = before


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("zero_point", [0, 7, 128])
def test_pytorch_quantized_linear(fbgemm, per_channel, zero_point):
    x = torch.from_numpy(codes((64, 32), 0, 127, 3).astype(np.uint8))
    w = torch.from_numpy(codes((24, 32), -64, 63, 4).astype(np.int8))
    w_scales = torch.from_numpy(np.random.default_rng(5).uniform(0.003, 0.03, 24 if per_channel else 1))
    w_scales = w_scales.to(torch.float32)
    x_scale, y_scale = 0.021, 0.17
    quantized_x = per_tensor(x, x_scale, 10)
    quantized_w = per_channel_of(w, w_scales) if per_channel else per_tensor(w, float(w_scales), 0)
    packed = torch.ops.quantized.linear_prepack(quantized_w, None)
    expected = torch.ops.quantized.linear(quantized_x, packed, y_scale, zero_point).int_repr()
    accumulators = gemm(x.to(torch.int16) - 10, w.t())
    scale = np.float32(x_scale) * w_scales.numpy() / np.float32(y_scale)
    requantize = FloatRequantizer(scale=tuple(float(s) for s in scale), zero_point=zero_point, format=UINT8)
    got = requantize(accumulators)
    assert torch.equal(got.to(torch.uint8), expected)
    assert len(got.unique()) > 50


def c_divide(a: int, b: int) -> int:
    quotient = abs(a) // abs(b)
    return quotient if (a < 0) == (b < 0) else -quotient


def gemmlowp_rescale(x: int, quantized_multiplier: int, shift: int) -> int:
    """TensorFlow Lite's MultiplyByQuantizedMultiplier over gemmlowp's two functions."""
    a = x * (1 << max(shift, 0))
    product = a * quantized_multiplier
    nudge = 1 << 30 if product >= 0 else 1 - (1 << 30)
    high = c_divide(product + nudge, 1 << 31)
    if a == quantized_multiplier == -(1 << 31):
        high = (1 << 31) - 1
    exponent = max(-shift, 0)
    mask = (1 << exponent) - 1
    threshold = (mask >> 1) + (1 if high < 0 else 0)
    return (high >> exponent) + (1 if (high & mask) > threshold else 0)


def tflite_single_rescale(x: int, quantized_multiplier: int, shift: int) -> int:
    total_shift = 31 - shift
    result = (x * quantized_multiplier + (1 << (total_shift - 1))) >> total_shift
    return min(max(result, -(1 << 31)), (1 << 31) - 1)


def tosa_scale_32(value: int, multiplier: int, shift: int, double_round: bool) -> int:
    rounding = 1 << (shift - 1)
    if double_round and shift > 31:
        rounding += (1 << 30) if value >= 0 else -(1 << 30)
    return (value * multiplier + rounding) >> shift


def tosa_scale_16(value: int, multiplier: int, shift: int) -> int:
    return (value * multiplier + (1 << (shift - 1))) >> shift


def saturate(value: int, fmt: IntFormat) -> int:
    return min(max(value, fmt.qmin), fmt.qmax)


def interesting(shift, bits, seed):
    """Accumulators whose results lie within, at and beyond the format, with many near-ties."""
    generator = np.random.default_rng(seed)
    reach = min(2 ** (17 - shift), 2 ** (bits - 1) - 1) if shift <= 0 else 2 ** max(17 - shift, 1)
    values = generator.integers(-reach, reach, 300).tolist()
    return [*values, *range(-20, 21), *([2**31 - 1, -(2**31)] if shift <= 0 else [])]


@pytest.mark.parametrize("shift", [-31, -20, -9, -8, -3, -1, 0, 1, 4])
@pytest.mark.parametrize("multiplier", [1 << 30, (1 << 30) + 1, 3 << 29, 1518500250, (1 << 31) - 1])
def test_the_published_integer_procedures(multiplier, shift):
    accumulators = interesting(shift, 32, seed=shift + 40)
    double, single = (
        IntegerRequantizer(multiplier=multiplier, shift=shift, rounding=rounding, format=INT16_FULL)(
            torch.tensor(accumulators)
        ).tolist()
        for rounding in ("double", "single")
    )
    for a, twice, once in zip(accumulators, double, single, strict=True):
        assert twice == saturate(gemmlowp_rescale(a, multiplier, shift), INT16_FULL)
        assert twice == saturate(tosa_scale_32(a, multiplier, 31 - shift, True), INT16_FULL)
        assert once == saturate(tflite_single_rescale(a, multiplier, shift), INT16_FULL)
        assert once == saturate(tosa_scale_32(a, multiplier, 31 - shift, False), INT16_FULL)


@pytest.mark.parametrize("shift", [-47, -20, -5, 0, 3])
def test_the_published_procedure_with_16_bits(shift):
    multiplier = 23170
    accumulators = [*interesting(min(shift, 0), 48, seed=1), 2**47 - 1, -(2**47)]
    requantize = IntegerRequantizer(
        multiplier=multiplier, shift=shift, rounding="single", multiplier_bits=16, format=INT16_FULL
    )
    expected = [saturate(tosa_scale_16(a, multiplier, 15 - shift), INT16_FULL) for a in accumulators]
    assert requantize(torch.tensor(accumulators)).tolist() == expected
