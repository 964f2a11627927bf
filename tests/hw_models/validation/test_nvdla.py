"""NVDLA's sheet by its own conventions and by the cost model."""

from __future__ import annotations

import pytest

from hw_models.validation.nvdla import model_points, sheet_event, sheet_points, sheet_rows


def test_the_sheets_cycles_are_met_exactly_in_both_modes() -> None:
    points = sheet_points()
    assert len(points) == 22
    assert [p for p in points if p.modelled != p.published] == []


def test_every_row_is_compared_with_the_cost_model_too() -> None:
    points = model_points()
    assert [p.workload for p in points] == [row.name for row in sheet_rows()]
    assert all(p.note for p in points)


def test_fully_connected_layers_are_bound_by_memory_as_in_the_sheet() -> None:
    errors = [p.error for p in model_points() if p.workload.startswith("fc")]
    assert errors == pytest.approx([2.4] * 3, abs=0.1)  # 1024 bytes to the kB, for 1000


def test_the_sheets_layers_without_winograd_take_longer_here_than_there() -> None:
    # The array takes 64 channels at once, and the layers have 48: a third more cycles than the sheet's steps of 16.
    points = {p.workload: p for p in model_points()}
    assert points["conv 2"].error == pytest.approx(100 / 3)


def test_channel_extension_keeps_the_first_layers_operands() -> None:
    layer = sheet_rows()[0].layer
    event = sheet_event(layer)
    assert (event.M, event.N) == (55 * 55, 96)
    assert event.K == 48 * 9  # 3 channels x 16 positions of the stride, 3 x 3 taps of 11 / 4
