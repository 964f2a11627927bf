"""The cost model against Arm's compiler for Ethos-U."""

from __future__ import annotations

from functools import cache
from statistics import median

import pytest

from hw_models.validation.ethos_u import PARTS, SIZES, elementwise_cycles, gemm_cycles, points, vela_rows
from hw_models.validation.ethos_u_layers import anomaly_detection
from hw_models.validation.table import Point


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
    assert len(fitted) == 10
    assert median(abs(p.error) for p in _points() if p not in fitted) < 20
    layers = [p for p in _points() if p not in fitted and p.quantity == "cycles, layer"]
    assert median(abs(p.error) for p in layers) < 20


@pytest.mark.parametrize("quantity", ["cycles, layer", "cycles, element-wise"])
def test_median_of_each_kind_within_20_percent(quantity: str) -> None:
    assert median(abs(p.error) for p in _points() if p.quantity == quantity) <= 20


def test_convolutions_that_vela_says_the_array_bounds_are_within_25_percent() -> None:
    errors = [
        abs(p.error) for p in _points() if "NPU" in p.note and ("conv" in p.workload or "block" in p.workload)
    ]
    assert len(errors) == 54
    assert max(errors) < 25


def test_uncompressed_weights_bound_the_rows_that_flash_bounds() -> None:
    # 640 x 128 weights of a byte and 128 kernels' 10 bytes, a byte a cycle; Vela's are compressed.
    assert gemm_cycles(anomaly_detection()[0], SIZES["ethos-u55-32"]) == 83_200


def test_element_wise_work_by_hand() -> None:
    small, large = SIZES["ethos-u55-32"], SIZES["ethos-u65-512"]
    assert elementwise_cycles("Mul", 1, small, rescales=False) == 48  # one brick of 16, 3 cycles each
    assert elementwise_cycles("Sub", 17, small, rescales=True) == 192  # two bricks, 6 cycles each
    assert elementwise_cycles("CLZ", 16, small, rescales=False) == 32
    assert elementwise_cycles("Mul", 1, large, rescales=False) == 9  # 16 elements of 0.5625 cycles
    assert elementwise_cycles("CLZ", 1, large, rescales=False) == 8  # 128 bytes at 16 a cycle


def test_other_operators_are_no_element_wise_work() -> None:
    with pytest.raises(ValueError, match="unknown element-wise operator 'Sup'.*Sub"):
        elementwise_cycles("Sup", 1, SIZES["ethos-u55-32"], rescales=False)
