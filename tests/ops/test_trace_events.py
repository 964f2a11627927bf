"""What the operators put on record."""

from dataclasses import replace

import pytest
import torch

import lowbit_sim as lb
from lowbit_sim.arith.spec import GemmSpec
from lowbit_sim.ops.conv import ConvContraction, conv
from lowbit_sim.ops.conv_transpose import conv_transpose
from lowbit_sim.ops.im2col import Window, geometry, input_windows
from lowbit_sim.ops.linear import linear
from lowbit_sim.ops.operand import CallSite
from lowbit_sim.trace import ConvGeometry, Operand
from tests.ops.cases import NATIVE, ROLES, output_shape, reals, run_conv, run_linear

SPEC = lb.OpSpec.uniform(lb.INT8)
AT = CallSite(layer="features.0")
BATCH, INPUTS, OUTPUTS = 4, 6, 5
X, W, G = reals(0, BATCH, INPUTS), reals(1, OUTPUTS, INPUTS), reals(2, BATCH, OUTPUTS)
WINDOW = Window(kernel=(3, 2), stride=(2, 1), padding=(1, 0, 1, 1))


def recorded_linear(spec: lb.OpSpec) -> lb.WorkloadTrace:
    with lb.record() as trace:
        run_linear(X, W, G, spec, at=AT)
    return trace


def recorded_conv(window: Window, spec: lb.OpSpec, shape=(2, 4, 5, 6)) -> lb.WorkloadTrace:
    w = reals(1, 8, shape[1] // window.groups, *window.kernel)
    with lb.record() as trace:
        run_conv(reals(0, *shape), w, reals(2, *output_shape(shape, 8, window)), window, spec, at=AT)
    return trace


def sizes(trace: lb.WorkloadTrace) -> dict[str, tuple[int, int, int, int]]:
    assert [e.role for e in trace.gemms] == list(ROLES)
    return {e.role: (e.count, e.M, e.N, e.K) for e in trace.gemms}


@pytest.mark.parametrize("spec", [SPEC, NATIVE], ids=["emulated", "native"])
def test_sizes_of_a_linear_layer(spec) -> None:
    trace = recorded_linear(spec)
    assert sizes(trace) == {
        "output": (1, BATCH, OUTPUTS, INPUTS),
        "grad_input": (1, BATCH, INPUTS, OUTPUTS),
        "grad_weight": (1, OUTPUTS, INPUTS, BATCH),
    }
    assert trace.macs == 3 * BATCH * OUTPUTS * INPUTS
    assert all(e.conv is None and e.layer == "features.0" for e in trace.gemms)


@pytest.mark.parametrize("spec", [SPEC, NATIVE], ids=["emulated", "native"])
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_sizes_of_a_convolution(spec, groups) -> None:
    # (5 + 1 - 3) // 2 + 1 = 2 output rows; 6 + 2 - 2 + 1 = 7 columns.
    window = replace(WINDOW, groups=groups)
    trace = recorded_conv(window, spec)
    inputs, outputs = 4 // groups, 8 // groups
    expected = {
        "output": (groups, 2 * 2 * 7, outputs, 3 * 2 * inputs),
        "grad_input": (groups, 2 * 5 * 6, inputs, 3 * 2 * outputs),
        "grad_weight": (groups, outputs, 3 * 2 * inputs, 2 * 2 * 7),
    }
    assert sizes(trace) == expected
    shapes = (2, 4, 5, 6), (8, inputs, 3, 2)
    for role in ROLES:
        layout = ConvContraction(x_shape=shapes[0], w_shape=shapes[1], window=window)
        assert layout.sizes(role) == expected[role][1:]  # type: ignore[arg-type]
    assert {e.conv for e in trace.gemms} == {
        ConvGeometry(
            batch=2,
            in_channels=4,
            in_height=5,
            in_width=6,
            out_channels=8,
            out_height=2,
            out_width=7,
            kernel_height=3,
            kernel_width=2,
            stride=(2, 1),
            dilation=(1, 1),
            groups=groups,
        )
    }
    assert geometry(torch.Size((2, 4, 5, 6)), 8, window) == trace.gemms[0].conv


def test_formats_and_mac_unit() -> None:
    mac = lb.MacUnit(accumulator_bits=16, overflow="saturate", chunk=4, outer_bits=20)
    gemm = GemmSpec(lb.Quantizer(lb.INT4), lb.Quantizer(lb.INT8), mac)
    [event] = recorded_linear(replace(NATIVE, output=gemm)).gemms[:1]
    assert event.lhs == Operand(format="int4", bits=4)
    assert event.rhs == Operand(format="int8", bits=8)
    assert (event.accumulator_bits, event.overflow, event.chunk, event.outer_bits) == (16, "saturate", 4, 20)
    # Six products, and the sums of two chunks.
    assert event.additions == BATCH * OUTPUTS * 8
    assert event.overflows == 0
    assert event.backend == "torch_exact"


def test_overflows_of_a_grouped_convolution_add_up() -> None:
    mac = lb.MacUnit(accumulator_bits=8, overflow="saturate")
    spec = lb.OpSpec.uniform(lb.INT8, mac=mac, scale=lb.FixedScale(1.0))
    x = torch.full((1, 2, 1, 2), 100.0)
    x[0, 0, 0, 1] = 127.0
    w = torch.tensor([1.0, 2.0]).reshape(2, 1, 1, 1)  # 127 fits into 8 bits, 200 does not
    with lb.record() as trace:
        conv(x, w, None, Window(kernel=(1, 1), groups=2), spec)
    [event] = trace.gemms
    assert (event.count, event.additions, event.overflows) == (2, 4, 2)
    assert trace.overflow_share() == 0.5


def test_native_gemms_are_fp32() -> None:
    for trace in (recorded_linear(NATIVE), recorded_conv(WINDOW, NATIVE)):
        assert not trace.vectors
        for event in trace.gemms:
            assert event.lhs == event.rhs == Operand(format="fp32", bits=32)
            assert (event.backend, event.overflow, event.accumulator_bits) == ("native", "float", 32)


def vectors(trace: lb.WorkloadTrace) -> list[tuple[str, int, int, int, int]]:
    return [(e.kind, e.elements, e.read_bytes, e.write_bytes, e.random_bits) for e in trace.vectors]


def test_vector_work_around_one_gemm() -> None:
    mac = lb.MacUnit(accumulator_bits=20)
    lhs = lb.Quantizer(lb.INT4, rounding=lb.Rounding("stochastic", random_bits=6))
    rhs = lb.Quantizer(lb.INT8, scale=lb.FixedScale(0.5))
    with lb.record() as trace:
        linear(X[:3, :5], W[:, :5], None, replace(NATIVE, output=GemmSpec(lhs, rhs, mac)), AT)
    x, w, y = 3 * 5, OUTPUTS * 5, 3 * OUTPUTS
    assert vectors(trace) == [
        ("scale_reduction", x, 4 * x, 0, 0),
        ("random_bits", x, 0, 0, 6 * x),
        ("quantize", x, 4 * x, 8, 0),  # 15 codes of 4 bits: 7.5 bytes
        ("quantize", w, 4 * w, w, 0),  # a fixed scale needs no reduction
        ("dequantize", y, 38, 4 * y, 0),  # 15 accumulators of 20 bits: 37.5 bytes
    ]
    assert all(e.layer == "features.0" and e.role == "overhead" for e in trace.vectors)


BF16, FP8 = lb.Quantizer(lb.parse_format("bf16"), scale=lb.FixedScale(1.0)), lb.Quantizer(lb.FP8_E5M2)
BF16_SUMS = lb.FloatMacUnit(accumulator=lb.parse_format("bf16"))
MX = lb.Quantizer(lb.parse_format("mxfp8_e4m3"))


@pytest.mark.parametrize(
    ("gemm", "read_bytes"),
    [
        (GemmSpec(BF16, BF16, lb.FloatMacUnit()), None),  # the float32 sums are the result
        (GemmSpec(BF16, BF16, BF16_SUMS), 2),
        (GemmSpec(BF16, FP8, lb.FloatMacUnit()), 4),  # times FP8's scale
        (GemmSpec(MX, MX, lb.FloatMacUnit()), None),  # the scales of blocks are part of the GEMM
        (GemmSpec(MX, FP8, lb.FloatMacUnit()), 4),  # that of a whole tensor is not
        (GemmSpec(MX, MX, lb.FloatMacUnit(), across=BF16_SUMS), 2),
        (GemmSpec(lb.Quantizer(lb.INT8, scale=lb.FixedScale(1.0)), lb.Quantizer(lb.INT8)), 4),
    ],
    ids=["bf16", "bf16_sums", "fp8_weight", "mx", "mx_and_fp8", "mx_bf16_sums", "int8"],
)
def test_only_sums_that_change_are_converted(gemm: GemmSpec, read_bytes: int | None) -> None:
    with lb.record() as trace:
        linear(X, W, None, replace(NATIVE, output=gemm), AT)
    y = BATCH * OUTPUTS
    found = [v for v in vectors(trace) if v[0] == "dequantize"]
    assert found == ([] if read_bytes is None else [("dequantize", y, read_bytes * y, 4 * y, 0)])


CHANNEL_BLOCKS = lb.Quantizer(lb.parse_format("block<int8,e8m0,block=2>"))
NEAREST = GemmSpec(CHANNEL_BLOCKS, CHANNEL_BLOCKS, lb.FloatMacUnit())
DRAWN = lb.Quantizer(CHANNEL_BLOCKS.format, rounding=lb.Rounding("stochastic", random_bits=4))
SQUARE = Window(kernel=(3, 3), padding=(1, 1, 1, 1))


def passes(trace: lb.WorkloadTrace) -> list[tuple[str, int, int, int, int, int]]:
    return [(e.kind, e.elements, e.copies, e.read_bytes, e.write_bytes, e.random_bits) for e in trace.vectors]


def both_passes(elements: int, copies: int = 0) -> list[tuple[str, int, int, int, int, int]]:
    """The passes over elements in blocks of two 8-bit codes with a scale of 8 bits."""
    return [
        ("scale_reduction", elements, copies, 4 * elements, 0, 0),
        ("quantize", elements, copies, 4 * elements, 3 * elements // 2, 0),
    ]


@pytest.mark.parametrize("groups", [1, 2])
def test_a_block_of_channels_is_quantised_once_for_all_windows(groups) -> None:
    x, w, y = 2 * 4 * 6 * 6 // groups, 8 * 4 // groups * 9 // groups, 2 * 8 * 6 * 6 // groups
    trace = recorded_conv(
        replace(SQUARE, groups=groups),
        lb.OpSpec(output=NEAREST, grad_input=NEAREST, grad_weight=NEAREST),
        (2, 4, 6, 6),
    )
    # In grad_weight blocks run along pixels, of which each kernel position sees others: all nine are quantised.
    assert passes(trace) == [
        *both_passes(x) * groups,
        *both_passes(w) * groups,
        *both_passes(y) * groups,
        *both_passes(w) * groups,
        *both_passes(y) * groups,
        *both_passes(9 * x, 8 * x) * groups,
    ]


def test_blocks_that_lie_otherwise_in_each_window_are_quantised_for_each() -> None:
    trace = recorded_conv(SQUARE, replace(NATIVE, output=NEAREST), (2, 3, 6, 6))
    x = 2 * 3 * 6 * 6
    # A window of 27 ends with half a block, whose scale is stored too.
    scales = 2 * 6 * 6 * 14
    assert passes(trace)[:2] == [
        ("scale_reduction", 9 * x, 8 * x, 36 * x, 0, 0),
        ("quantize", 9 * x, 8 * x, 36 * x, 9 * x + scales, 0),
    ]


def test_copies_that_draw_random_bits_become_codes_of_their_own() -> None:
    trace = recorded_conv(SQUARE, replace(NATIVE, output=replace(NEAREST, lhs=DRAWN)), (2, 4, 6, 6))
    x = 2 * 4 * 6 * 6
    assert passes(trace)[:3] == [
        ("scale_reduction", 9 * x, 8 * x, 36 * x, 0, 0),
        ("random_bits", 9 * x, 8 * x, 0, 0, 36 * x),
        ("quantize", 9 * x, 8 * x, 36 * x, 27 * x // 2, 0),
    ]


@pytest.mark.parametrize(
    ("window", "elements"),
    [
        (Window(kernel=(1, 1)), 2 * 3 * 6 * 6),  # rows end with half a block, but each element occurs once
        (Window(kernel=(1, 1), stride=(2, 2)), 2 * 3 * 3 * 3),  # three of four pixels are not read
        (Window(kernel=(1, 1), padding=(1, 1, 1, 1)), 2 * 3 * 6 * 6),
        (Window(kernel=(2, 2), stride=(2, 2)), 2 * 3 * 6 * 6),
    ],
    ids=["1x1", "1x1 stride 2", "1x1 padded", "2x2 stride 2"],
)
def test_windows_that_do_not_overlap_have_no_copies(window, elements) -> None:
    trace = recorded_conv(window, replace(NATIVE, output=NEAREST), (2, 3, 6, 6))
    assert [e[1:3] for e in passes(trace)[:2]] == [(elements, 0)] * 2


def test_a_transposed_convolution_quantises_as_its_inverse_does() -> None:
    x, w = reals(0, 2, 4, 6, 6).requires_grad_(), reals(1, 4, 2, 3, 3).requires_grad_()
    spec = lb.OpSpec(output=NEAREST, grad_input=NEAREST, grad_weight=NEAREST)
    with lb.record() as trace:
        conv_transpose(x, w, None, SQUARE, (0, 0), spec).sum().backward()
    inputs, outputs, weights = 2 * 4 * 36, 2 * 2 * 36, 4 * 2 * 9
    assert [(e.elements, e.copies) for e in trace.vectors if e.kind == "quantize"] == [
        *((inputs, 0), (weights, 0)),
        *((outputs, 0), (weights, 0)),
        *((9 * outputs, 8 * outputs), (inputs, 0)),  # its windows are those of y's gradient
    ]


def test_what_is_quantised_once_has_the_same_codes_wherever_it_occurs() -> None:
    """Why the bill is one for each element: quantising the image and then unfolding it gives the same bits."""
    x = reals(0, 2, 4, 6, 6)
    [windows] = input_windows(x, SQUARE)
    laid_out = CHANNEL_BLOCKS(windows).dequantize()
    [unfolded] = input_windows(CHANNEL_BLOCKS(x.movedim(1, -1)).dequantize().movedim(-1, 1), SQUARE)
    assert torch.equal(laid_out, unfolded)


@pytest.mark.parametrize("record", [recorded_linear, lambda spec: recorded_conv(WINDOW, spec)])
def test_kept_codes_are_quantised_once(record) -> None:
    kinds = [e.kind for e in record(SPEC).vectors]
    # Input, weight and gradient once each.
    assert kinds.count("quantize") == kinds.count("scale_reduction") == 3
    assert kinds.count("dequantize") == 3
    rounding = lb.Rounding("stochastic", random_bits=8)
    value = lb.Quantizer(lb.INT8, rounding=rounding)
    gemm = GemmSpec(value, value)
    fresh = [e.kind for e in record(lb.OpSpec(output=gemm, grad_input=gemm, grad_weight=gemm)).vectors]
    assert fresh.count("quantize") == fresh.count("random_bits") == 6


def test_nothing_is_recorded_outside() -> None:
    with lb.record() as trace:
        pass
    run_linear(X, W, G, SPEC)
    assert trace.events == []


def test_recorders_nest() -> None:
    with lb.record() as outer:
        linear(X, W, None, SPEC)
        with lb.record() as inner:
            linear(X, W, None, SPEC)
    assert len(inner.gemms) == 1
    assert len(outer.gemms) == 2
    assert outer.events[-len(inner.events) :] == inner.events


@pytest.mark.parametrize("spec", [SPEC, NATIVE], ids=["emulated", "native"])
@pytest.mark.parametrize(
    ("wants", "roles"), [("x", {"output", "grad_input"}), ("w", {"output", "grad_weight"})]
)
def test_gradients_that_nobody_wants_do_not_run(spec, wants, roles) -> None:
    x, w = X.clone().requires_grad_(wants == "x"), W.clone().requires_grad_(wants == "w")
    image, kernel = (t.detach()[:, :, None, None].requires_grad_(t.requires_grad) for t in (x, w))
    for call in (
        lambda: linear(x, w, None, spec),
        lambda: conv(image, kernel, None, Window(kernel=(1, 1)), spec),
    ):
        with lb.record() as trace:
            call().sum().backward()
        assert {e.role for e in trace.gemms} == roles


def test_without_any_gradient_nothing_runs_backward() -> None:
    bias = torch.zeros(OUTPUTS, requires_grad=True)
    with lb.record() as trace:
        linear(X, W, bias, SPEC).sum().backward()
    assert [e.role for e in trace.gemms] == ["output"]
    assert torch.equal(bias.grad, torch.full((OUTPUTS,), float(BATCH)))  # type: ignore[arg-type]
