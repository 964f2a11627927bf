"""TPU v1: the weight matrix within 5 %, and no application above its roofline."""

import pytest

from hw_models.estimate import estimate
from hw_models.load import load
from hw_models.validation.tpu import OPERATIONS_PER_WEIGHT, _event, points
from hw_models.workloads.layer import Layer
from hw_models.workloads.step import step_trace

POINTS = points()
ROOFLINES = {p.workload: p for p in POINTS if p.quantity == "roofline"}


def test_a_600_by_600_matrix_within_5_percent():
    (tile,) = [p for p in POINTS if p.quantity == "time to load the weights"]
    assert tile.modelled == pytest.approx(1e6 * 9 * 65_536 / 34e9)
    assert abs(tile.error) < 5


def test_every_application_is_compared():
    assert set(ROOFLINES) == set(OPERATIONS_PER_WEIGHT)
    assert len(POINTS) == 13


@pytest.mark.parametrize("name", OPERATIONS_PER_WEIGHT)
def test_no_application_is_above_its_roofline(name):
    point = ROOFLINES[name]
    assert point.limit == "at least"
    assert point.modelled >= point.published


def test_the_events_are_those_of_an_estimate_of_inference():
    """What the roofline leaves out beside the GEMM is the network's input, once: no weight is quantised in a run."""
    profile = load("tpu_v1")
    event = _event(profile, 200, 2048, 2048)
    assert event.result_bits == 8
    chain = [Layer(name=f"fc{i}", M=200, N=2048, K=2048) for i in range(5)]
    report = estimate(step_trace(chain, profile.op_spec(), training=False), profile)
    weights = {cost.traffic["dram", "rhs"] for cost in report.by_layer.values()}
    assert weights == {8 * 2048 * 2048}
    read = 200 * 2048 * 4
    assert report.by_kind["scale_reduction"].dram_bytes == read
    assert report.by_kind["quantize"].dram_bytes == read + 200 * 2048
    assert report.by_kind["requantize"].dram_bytes == 0


def test_rooflines_by_hand():
    # Two operations for each use of a byte, at 34 GB/s; never more than 92 TOPS.
    assert ROOFLINES["MLP0"].modelled == pytest.approx(2 * 200 * 34e9 / 1e12)
    assert ROOFLINES["CNN1"].modelled == pytest.approx(2 * 65_536 * 700e6 / 1e12)
