import csv
import io
from dataclasses import replace

import pytest
from rich.console import Console

from hw_models.explore.sweep import SweepPoint
from lowbit_sim.study.sweep_table import ROWS, best_first, setting_text, sweep_csv, sweep_dict, sweep_table


def point(rows: int, seconds: float = 1.0, energy_pj: float = 1e12, refusal: str = "") -> SweepPoint:
    if refusal:
        return SweepPoint(settings=(("array.rows", rows),), refusal=refusal)
    return SweepPoint(
        settings=(("array.rows", rows),),
        cycles=int(seconds * 1000),
        seconds=seconds,
        energy_low_pj=energy_pj / 2,
        energy_pj=energy_pj,
        energy_high_pj=3 * energy_pj,
        utilization=0.5,
        dram_bytes=64,
    )


POINTS = [point(8, 3.0, 1e12), point(16, 2.0, 4e12), point(0, refusal="rows is 0"), point(32, 2.5, 5e12)]


def shown(points, objective="cycles", width=120) -> str:
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(sweep_table(points, "a sweep", objective))
    return console.export_text()


def rows_of(points: list[SweepPoint]) -> list[object]:
    return [dict(p.settings)["array.rows"] for p in points]


def test_the_objective_sorts_and_refused_points_come_last():
    assert rows_of(best_first(POINTS, "cycles")) == [16, 32, 8, 0]
    assert rows_of(best_first(POINTS, "energy")) == [8, 16, 32, 0]
    assert rows_of(best_first(POINTS, "edp")) == [8, 16, 32, 0]


def test_equally_fast_points_are_sorted_by_energy():
    points = [point(1, 2.0, 3e12), point(2, 2.0, 1e12), point(3, 1.0, 9e12)]
    assert rows_of(best_first(points, "cycles")) == [3, 2, 1]


def test_edp_is_joules_times_seconds():
    assert point(8, 3.0, 2e12).edp == 6.0


def test_the_table_marks_the_front_and_tells_refusals():
    text = shown(POINTS)
    marked = [line for line in text.splitlines() if "*" in line and "│" in line]
    assert [line.split("│")[2].strip() for line in marked] == ["16", "8"]
    assert "No cost for 1 point, such as array.rows=0: rows is 0" in text
    assert "500 mJ - 3.00 J" in text
    assert "3 points by time, least first (4 points in all" in " ".join(text.split())


def test_long_sweeps_show_their_best_rows():
    points = [point(i, seconds=1000.0 - i) for i in range(100)]
    text = shown(points)
    shown_rows = [int(line.split("│")[2]) for line in text.splitlines() if line.startswith("│")]
    assert shown_rows == list(range(99, 99 - ROWS, -1))
    assert f"{ROWS} points by time, least first (100 points in all" in " ".join(text.split())


def settings_point(notes: tuple[str, ...] = (), **settings) -> SweepPoint:
    keys = tuple((key.replace("__", "."), value) for key, value in settings.items())
    return replace(point(1), settings=keys, notes=notes)


def test_a_number_is_never_broken_and_large_ones_have_prefixes():
    points = [
        settings_point(
            memory__dram__bandwidth_bytes_per_second=bandwidth, array__rows=123456789, a__b=1, c=2.5
        )
        for bandwidth in (18_000_000_000, 19_200_000_000, 19_200_000_001)
    ]
    lines = shown(points, width=100).splitlines()
    assert max(map(len, lines)) <= 100
    for number in ("18 G", "19.2 G", "19200000001"):
        [line] = [line for line in lines if f" {number} " in line]
        assert "123456789" in line
    assert not any("J s ┃" in line for line in lines)
    assert "In the CSV alone, for want of room: J s." in " ".join(" ".join(lines).split())


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (18_000_000_000, "18 G"),
        (999_999, "999999"),
        (1 << 20, "1048576"),
        (True, "True"),
        ("ws", "ws"),
        (0.5, "0.5"),
    ],
)
def test_a_setting_in_words_is_exact(value, text):
    assert setting_text(value) == text


def test_notes_are_told_once_with_how_many_points_have_them():
    points = [settings_point(("wide", "all"), a=1), settings_point(("all",), a=2)]
    text = shown(points)
    assert text.count("Note: all") == 1
    assert "Note: wide (1 point)" in text
    assert "Note: all (" not in text


def test_equal_reasons_are_told_once_and_many_are_cut():
    points = [point(1), point(2, refusal="no"), point(3, refusal="no")]
    assert "No cost for 2 points, such as array.rows=2: no" in shown(points)
    many = [point(1), *(point(i, refusal=f"reason {i}") for i in range(10))]
    text = shown(many)
    assert text.count("No cost for") == 5
    assert "5 further reasons in the CSV" in text


def test_the_csv_has_every_point():
    rows = list(csv.DictReader(io.StringIO(sweep_csv(POINTS, "cycles"))))
    assert [(r["array.rows"], r["pareto"], r["refusal"]) for r in rows] == [
        ("16", "1", ""),
        ("32", "0", ""),
        ("8", "1", ""),
        ("0", "0", "rows is 0"),
    ]
    assert float(rows[0]["energy_high_pj"]) == 1.2e13
    assert rows[0]["area_mm2"] == ""
    assert rows[3]["cycles"] == ""


def test_the_json_form_has_every_point():
    found = sweep_dict(POINTS, "cycles")
    assert [p["settings"] for p in found] == [{"array.rows": n} for n in (16, 32, 8, 0)]
    assert found[0]["pareto"] is True
    assert found[0]["edp"] == 8.0
    assert found[3] == found[3] | {"cycles": None, "refusal": "rows is 0"}
