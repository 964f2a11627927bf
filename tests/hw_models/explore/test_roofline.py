import csv
import io
import math

import pytest

import hw_models
from hw_models.explore.roofline import Roofline, roofline, roofline_csv
from lowbit_sim.trace import ROLES, GemmEvent, Operand, WorkloadTrace
from tests.hw_models.explore.test_sweep import PROFILE, TRACE, gemm

SIZES = [(64, 48, 80), (1, 512, 512), (512, 512, 512), (7, 3, 2000), (4096, 16, 16)]


def line_of(*events: GemmEvent) -> Roofline:
    return roofline(WorkloadTrace(list(events)), PROFILE)


def test_roofs_and_slopes_by_hand():
    line = line_of(gemm())
    hertz = PROFILE.clock.frequency_hz
    assert {roof.mode: roof.macs_per_second for roof in line.roofs} == {"8-bit integer": 16 * 16 * hertz}
    assert {slope.level: slope.bytes_per_second for slope in line.slopes} == {
        "sram": 128 * hertz,
        "accumulator": 128 * hertz,
        "dram": 16_000_000_000,
    }
    assert line.balance(line.roofs[0], line.slopes[-1]) == 16 * 16 * hertz / 16e9


def test_a_point_is_the_estimate_of_its_event():
    [point] = line_of(gemm()).points
    report = hw_models.estimate(WorkloadTrace([gemm()]), PROFILE)
    assert point.seconds == report.seconds
    assert point.macs == 64 * 48 * 80
    assert point.macs_per_second == report.macs / report.seconds
    assert point.intensity["dram"] == report.macs / report.bytes
    assert point.bound_by == report.total.bound_by


@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_points_lie_under_their_roof_and_every_slope(sizes):
    line = line_of(gemm(*sizes))
    [point] = line.points
    [roof] = [roof for roof in line.roofs if roof.mode == point.mode]
    assert point.macs_per_second <= roof.macs_per_second * (1 + 1e-12)
    for slope in line.slopes:
        attainable = point.intensity[slope.level] * slope.bytes_per_second
        assert point.macs_per_second <= attainable * (1 + 1e-12)


def test_equal_events_of_different_layers_are_both_there():
    a, b = line_of(gemm(), GemmEvent(**{**vars(gemm()), "layer": "other"})).points
    assert (a.event.layer, b.event.layer) == ("fc", "other")
    assert (a.seconds, a.intensity) == (b.seconds, b.intensity)


def test_floats_without_a_mode_lie_under_the_vector_units_roof():
    fp32 = Operand(format="fp32", bits=32)
    native = GemmEvent(**{**vars(gemm(operand=fp32)), "overflow": "float"})
    line = line_of(gemm(), native)
    assert [point.mode for point in line.points] == ["8-bit integer", "vector unit"]
    assert line.roofs[-1].mode == "vector unit"
    assert line.roofs[-1].macs_per_second == PROFILE.vector.operations_per_cycle * PROFILE.clock.frequency_hz
    assert line.points[1].macs_per_second <= line.roofs[-1].macs_per_second * (1 + 1e-12)


def test_vector_work_and_empty_gemms_are_no_points():
    assert len(roofline(TRACE, PROFILE).points) == 1
    assert line_of(gemm(K=0), gemm(M=0)).points == ()


def test_the_csv_has_every_point_with_its_intensities():
    line = line_of(*(gemm(*sizes) for sizes in SIZES))
    rows = list(csv.DictReader(io.StringIO(roofline_csv(line))))
    assert [(int(r["M"]), int(r["N"]), int(r["K"])) for r in rows] == SIZES
    for row, point in zip(rows, line.points, strict=True):
        assert float(row["macs_per_dram_byte"]) == point.intensity["dram"]
        assert float(row["macs_per_second"]) == point.macs_per_second
        assert 0 < float(row["share_of_peak"]) <= 1
        assert row["role"] in ROLES
        assert math.isclose(float(row["macs"]) / float(row["seconds"]), point.macs_per_second)
