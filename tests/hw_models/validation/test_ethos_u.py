"""The cost model against Arm's compiler for Ethos-U."""

from __future__ import annotations

from functools import cache
from statistics import median

import pytest

import hw_models
from hw_models.validation.ethos_u import PARTS, gemm_cycles, points, vela_rows
from hw_models.validation.ethos_u_layers import anomaly_detection, keyword_spotting
from hw_models.validation.ethos_u_sizes import SIZES
from hw_models.validation.table import Point
from lowbit_sim.trace import WorkloadTrace


@cache
def _points() -> tuple[Point, ...]:
    return tuple(points())


def test_every_row_is_the_maximum_of_its_parts() -> None:
    rows = vela_rows()
    assert len(rows) == 408
    wrong = [r for r in rows if float(r["Op Cycles"]) != max(float(r[part]) for part in PARTS)]
    assert wrong == []


def test_rows_without_cycles_are_fused_activations_and_tables() -> None:
    idle = {r["NNG Operator"] for r in vela_rows() if not float(r["Op Cycles"])}
    assert idle == {"Relu", "LUT"}


def test_every_operator_that_takes_time_is_a_point() -> None:
    assert len(_points()) == sum(float(r["Op Cycles"]) > 0 for r in vela_rows()) == 294


def test_median_over_all_rows_within_20_percent() -> None:
    assert median(abs(p.error) for p in _points()) < 20


def test_median_without_the_rows_that_were_fitted_within_20_percent() -> None:
    fitted = [p for p in _points() if "fit" in p.note]
    assert {p.quantity for p in fitted} == {"cycles, layer, fitted", "cycles, element-wise, fitted"}
    assert len(fitted) == 10 + 6 * 10
    assert median(abs(p.error) for p in _points() if p not in fitted) < 20


@pytest.mark.parametrize("quantity", ["cycles, layer", "cycles, element-wise"])
@pytest.mark.parametrize("size", [*SIZES])
def test_median_of_each_kind_and_size_within_20_percent(size: str, quantity: str) -> None:
    """Without the rows that were fitted."""
    errors = [abs(p.error) for p in _points() if p.machine.endswith(size) and p.quantity == quantity]
    assert median(errors) <= 20


def test_depthwise_layers_by_the_mapping_of_any_estimate() -> None:
    """The array's cycles in an estimate on the profile itself, which is the U55-128."""
    layer = keyword_spotting()[2]
    cycles = hw_models.estimate(WorkloadTrace([layer]), hw_models.load("ethos_u55")).total.compute_cycles
    rows = [
        r for r in vela_rows() if r["accelerator"] == "ethos-u55-128" and "Depthwise" in r["NNG Operator"]
    ]
    # 75 units of 2 pixels, 9 positions padded to 12, 64 channels 8 at a time: 7,200 of Vela's 8,124.
    assert cycles == 75 * 12 * 8
    assert all(abs(cycles / float(r["NPU"]) - 1) < 0.12 for r in rows)
    errors = [abs(p.error) for p in _points() if "depthwise" in p.workload]
    assert len(errors) == 24
    assert max(errors) < 20


def test_convolutions_that_vela_says_the_array_bounds_are_within_25_percent() -> None:
    errors = [
        abs(p.error) for p in _points() if "NPU" in p.note and ("conv" in p.workload or "block" in p.workload)
    ]
    assert len(errors) == 54
    assert max(errors) < 25


def test_uncompressed_weights_bound_the_rows_that_flash_bounds() -> None:
    # 640 x 128 weights of a byte and 128 kernels' 10 bytes, a byte a cycle; Vela's are compressed.
    assert gemm_cycles(anomaly_detection()[0], SIZES["ethos-u55-32"]) == 83_200
