"""Published layers as events."""

from __future__ import annotations

import pytest

from hw_models.explore.overrides import with_overrides
from hw_models.load import load
from hw_models.validation.layers import ConvShape, convolution, engine_cycles, gemm, resnet50


def test_resnet50_has_its_published_macs_and_weights() -> None:
    events = resnet50()
    assert len(events) == 54
    assert sum(e.macs for e in events) == 3_857_973_248
    assert (
        sum(e.N * e.K for e in events) == 25_502_912
    )  # 25.6 M parameters less those of batch norm and biases


def test_resnet50_halves_in_the_first_1x1_of_a_stage() -> None:
    event = next(e for e in resnet50() if e.layer == "conv3_1/1x1_reduce")
    assert event.conv is not None
    assert (event.conv.in_height, event.conv.out_height, event.conv.stride) == (56, 28, (2, 2))


def test_groups_are_gemms_of_their_own() -> None:
    shape = ConvShape(
        name="grouped", channels=8, size=(4, 4), filters=6, kernel=(1, 1), output=(4, 4), groups=2
    )
    event = convolution(shape)
    assert (event.M, event.N, event.K, event.count) == (16, 3, 4, 2)


def test_an_engine_takes_as_long_as_its_slower_half() -> None:
    event = gemm("wide", M=64, N=64, K=8)
    fast = load("nvdla_large")
    slow = with_overrides(fast, {"vector.lanes": 1})
    assert engine_cycles(event, slow) == 64 * 64
    assert engine_cycles(event, fast) < 64 * 64


def test_results_have_the_width_that_leaves_the_engine() -> None:
    codes = gemm("codes", M=1, N=1, K=1)
    assert (codes.outer_bits, codes.result_bits) == (32, 8)
    sums = gemm("sums", M=1, N=1, K=1, sum_bits=8, result_bits=8)
    assert (sums.outer_bits, sums.result_bits) == (8, 8)


@pytest.mark.parametrize("layer", ["conv1", "fc"])
def test_layers_keep_their_names(layer: str) -> None:
    assert layer in [e.layer for e in resnet50()]
