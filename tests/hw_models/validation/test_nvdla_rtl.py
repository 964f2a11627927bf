"""The cost model against the RTL of NVDLA nv_small."""

from __future__ import annotations

import re
from functools import cache
from statistics import median

import pytest

from hw_models.validation.nvdla_rtl import FITTED, Trace, points, trace_event, traces
from hw_models.validation.table import Point

TRACES = {trace.shape.name: trace for trace in traces()}


@cache
def _points() -> tuple[Point, ...]:
    return tuple(points())


def _magnitudes(quantity: str) -> dict[str, float]:
    return {p.workload: abs(p.error) for p in _points() if p.quantity == quantity}


def _outputs(trace: Trace) -> tuple[int, int]:
    """Height and width of the output by the hardware manual's formula, from input, padding, kernel and stride."""
    shape = trace.shape
    left, right, top, bottom = trace.padding
    padded = (shape.size[0] + top + bottom, shape.size[1] + left + right)
    spans = [d * (k - 1) + 1 for d, k in zip(shape.dilation, shape.kernel, strict=True)]
    return (
        (padded[0] - spans[0]) // shape.stride[0] + 1,
        (padded[1] - spans[1]) // shape.stride[1] + 1,
    )


def test_all_thirteen_published_traces_are_there() -> None:
    assert len(TRACES) == 13


@pytest.mark.parametrize("name", sorted(TRACES))
def test_registers_agree_with_each_other(name: str) -> None:
    assert _outputs(TRACES[name]) == TRACES[name].shape.output


@pytest.mark.parametrize("name", sorted(TRACES))
def test_registers_agree_with_the_name(name: str) -> None:
    shape = TRACES[name].shape
    width, height, channels, across, down, again, kernels = map(int, re.findall(r"\d+", name))
    assert (shape.size, shape.channels) == ((height, width), channels)
    assert (shape.kernel, again, shape.filters) == ((down, across), channels, kernels)


def test_a_trace_is_the_gemm_of_its_convolution() -> None:
    event = trace_event(TRACES["dc_24x33x55_5x5x55x25"])
    assert (event.M, event.N, event.K) == (12 * 7, 25, 55 * 25)


def test_median_within_15_percent() -> None:
    magnitudes = _magnitudes("cycles")
    assert median(magnitudes.values()) < 15
    assert median(m for name, m in magnitudes.items() if name != FITTED) < 15


def test_median_within_15_percent_with_hidden_loads() -> None:
    magnitudes = _magnitudes("cycles, loads hidden")
    assert median(magnitudes.values()) < 15
    assert median(m for name, m in magnitudes.items() if name != FITTED) < 15


def test_the_point_that_start_up_was_fitted_to_is_met_and_marked() -> None:
    (point,) = (p for p in _points() if p.workload == FITTED and p.quantity == "cycles")
    assert point.is_exact
    assert "fit" in point.note


def test_loads_that_show_are_never_faster() -> None:
    exposed = {p.workload: p.modelled for p in _points() if p.quantity == "cycles"}
    hidden = {p.workload: p.modelled for p in _points() if p.quantity == "cycles, loads hidden"}
    assert all(exposed[name] >= hidden[name] for name in exposed)


def test_the_rtl_is_slower_than_any_bound_but_on_layers_whose_loads_it_hides_in_part() -> None:
    assert all(p.error < 1 for p in _points())
