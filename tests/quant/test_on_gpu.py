"""What a GPU's tensor goes through, with the CPU's tensors in Triton's interpreter: the same bits as on the CPU."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import lowbit_sim as lb
from lowbit_sim.numerics import triton_support
from lowbit_sim.numerics.catalog import parse_format
from lowbit_sim.quant.granularity import Granularity, PerAxis, PerBlock, PerGroup, PerSample, PerTensor
from lowbit_sim.quant.qtensor import QTensor
from lowbit_sim.quant.quantizer import NotANumberError, Quantizer
from lowbit_sim.quant.regions import absmax, extremes
from lowbit_sim.quant.scaling import (
    AbsMaxScale,
    EmaScale,
    FixedScale,
    LearnedScale,
    MinMaxScale,
    MseScale,
    PercentileScale,
    PowerOfTwoScale,
    SawbScale,
    ScaleRule,
    ScaleState,
    needs_state,
)

pytest.importorskip("triton", reason="Triton is not installed")
if triton_support.why_no_triton(torch.device("cpu")) is not None:
    pytest.skip("Triton compiles for the GPU here: see `make gpu`", allow_module_level=True)

STREAM = lb.Stream(seed=7, step=3, site=2, operand=1, offset=48)
STOCHASTIC = lb.Rounding("stochastic", random_bits=8)

GRANULARITIES: list[tuple[Granularity, tuple[int, ...]]] = [
    (PerTensor(), ()),
    (PerTensor(), (3, 5, 7)),
    (PerTensor(), (70, 70)),
    (PerAxis(0), (5, 3, 4)),
    (PerAxis(1), (2, 5, 6)),
    (PerAxis(-1), (4, 9)),
    (PerAxis(0), (2, 2500)),
    (PerSample(), (3, 2, 5)),
    (PerGroup(2, 1), (2, 5, 3)),
    (PerGroup(3, 0), (7, 4)),
    (PerBlock(4), (3, 8)),
    (PerBlock(4), (3, 10)),
    (PerBlock(16), (2, 3, 7)),
    (PerBlock(3000), (2, 5000)),
]


@contextmanager
def on_gpu() -> Iterator[None]:
    """Have the CPU's tensors take the way of a GPU's, and no kernel of the CPU run."""
    with pytest.MonkeyPatch.context() as patch, np.errstate(all="ignore"):
        patch.setattr(triton_support, "uses_triton", lambda device: True)
        patch.setattr("lowbit_sim.quant.codes.encode", _no_kernel)
        patch.setattr("lowbit_sim.quant.regions.absmax_on_cpu", _no_kernel)
        yield


def _no_kernel(*_: object) -> None:
    raise AssertionError("a kernel of the CPU was called")


def tensor(shape: tuple[int, ...], seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(shape, generator=generator)
    return x * torch.exp(2 * torch.randn(shape, generator=generator))


def assert_same(found: QTensor, expected: QTensor) -> None:
    assert found.codes.dtype == expected.codes.dtype
    assert torch.equal(found.codes, expected.codes)
    assert torch.equal(found.scale, expected.scale)
    assert (found.zero_point is None) == (expected.zero_point is None)
    if expected.zero_point is not None:
        assert torch.equal(found.zero_point, expected.zero_point)


def both(quantizer: Quantizer, x: torch.Tensor) -> tuple[QTensor, QTensor]:
    state = ScaleState() if quantizer.is_stateful else None
    expected = quantizer(x, stream=STREAM, state=state)
    state = ScaleState() if quantizer.is_stateful else None
    with on_gpu():
        return quantizer(x, stream=STREAM, state=state), expected


@pytest.mark.parametrize(("granularity", "shape"), GRANULARITIES, ids=str)
def test_extremes(granularity: Granularity, shape: tuple[int, ...]) -> None:
    for x in (tensor(shape), tensor(shape).abs(), -tensor(shape).abs()):
        if x.numel() > 2:
            x.view(-1)[1] = math.inf
            x.view(-1)[-1] = -math.inf
        expected = (*extremes(x, granularity), absmax(x, granularity))
        with on_gpu():
            found = (*extremes(x, granularity), absmax(x, granularity))
        assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize(("granularity", "shape"), GRANULARITIES, ids=str)
@pytest.mark.parametrize(
    ("fmt", "rule"), [("int8", AbsMaxScale()), ("uint8", MinMaxScale()), ("fp8_e4m3fn", PowerOfTwoScale())]
)
def test_granularities(granularity: Granularity, shape: tuple[int, ...], fmt: str, rule: ScaleRule) -> None:
    quantizer = Quantizer(parse_format(fmt), granularity=granularity, scale=rule, rounding=STOCHASTIC)
    assert_same(*both(quantizer, tensor(shape)))


@pytest.mark.parametrize(
    "rule",
    [
        FixedScale(0.25),
        EmaScale(0.9),
        PercentileScale(90.0),
        SawbScale(),
        MseScale(),
        LearnedScale(),
    ],
    ids=lambda rule: type(rule).__name__,
)
def test_scale_rules(rule: ScaleRule) -> None:
    x = tensor((4, 30))
    x[1] = 0.0
    x[2, 3] = math.inf
    assert_same(*both(Quantizer(parse_format("int4"), scale=rule, granularity=PerAxis(0)), x))
    assert needs_state(rule) == isinstance(rule, EmaScale | LearnedScale)


@pytest.mark.parametrize(
    "name", ["mxint8", "mxfp8_e4m3", "mxfp6_e2m3", "mxfp4", "nvfp4", "bfp<8,16>", "bfp<4>"]
)
@pytest.mark.parametrize("shape", [(3, 64), (2, 3, 40), (5,)], ids=str)
def test_block_formats(name: str, shape: tuple[int, ...]) -> None:
    x = tensor(shape, seed=1)
    x.view(-1)[:5] = torch.tensor([0.0, -0.0, 1e-40, math.inf, 1e-30])
    for how in (lb.Rounding(), STOCHASTIC):
        assert_same(*both(Quantizer(parse_format(name), rounding=how), x))


@settings(max_examples=20)
@given(
    st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=70),
    st.sampled_from(["int4", "fp4_e2m1", "posit8", "mxfp4", "nvfp4"]),
)
def test_any_numbers(values: list[float], name: str) -> None:
    assert_same(*both(Quantizer(parse_format(name), rounding=STOCHASTIC), torch.tensor(values)))


@pytest.mark.parametrize("rule", [AbsMaxScale(), FixedScale(1.0), EmaScale(0.5), MseScale()], ids=str)
def test_nan_is_refused_and_no_state_moves(rule: ScaleRule) -> None:
    x = tensor((3, 4))
    x[1, 2] = math.nan
    state = ScaleState()
    quantizer = Quantizer(parse_format("int8"), scale=rule)
    with (
        on_gpu(),
        pytest.raises(NotANumberError, match=r"1 of 12 elements .* to be quantised to int8 are NaN"),
    ):
        quantizer(x, state=state)
    assert state == ScaleState()


def test_nan_becomes_the_code_that_is_given() -> None:
    x = torch.tensor([1.0, math.nan, -2.0])
    found, expected = both(Quantizer(parse_format("int8"), nan=5), x)
    assert_same(found, expected)
    assert found.codes[1] == 5


def test_no_elements() -> None:
    assert_same(*both(Quantizer(parse_format("int8")), torch.empty(0, 4)))


def test_a_cuda_graph_is_refused_a_search_for_nan(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lowbit_sim.quant.quantizer.recording", lambda x: True)
    with on_gpu(), pytest.raises(RuntimeError, match=r"a CUDA graph can't do: .*Quantizer\(\.\.\., nan=0\)"):
        Quantizer(parse_format("int8"))(torch.ones(3))
