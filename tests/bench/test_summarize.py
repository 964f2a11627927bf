import json
from dataclasses import asdict
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks.summarize import main, record_of, table, updated_page, works_in
from benchmarks.targets import at_most_time
from tests.bench.reports import bench, raced, report

ROOT = Path(__file__).parents[2]
RECORD = ROOT / "experiments" / "records" / "benchmark_cpu.json"
PAGE = ROOT / "docs" / "performance.md"

TARGET = at_most_time(2.5, "memory copy")
MISSING = {"work": "quantise", "case": "16M", "implementation": "QPyTorch", "why": "No module named 'qtorch'"}
REPORT = report(
    raced(3.0, [2.0, 1.5], "ours", targets=[asdict(TARGET)], parts={"reading": 1.0}),
    bench(5.0, group="cost model"),
    missing=[MISSING],
)


def test_a_record_is_read_back_as_it_was_written():
    record = record_of(REPORT)
    written = json.loads(json.dumps(record))
    works = works_in(written)
    assert [asdict(work) for work in works] == record["works"]
    assert works[0].rows[1].targets == (TARGET,)
    assert works[0].rows[1].parts == {"reading": 1.0}


def test_the_record_says_where_it_was_made():
    record = record_of(REPORT)
    assert record["machine"]["processor"] == "Some CPU"
    assert record["machine"]["instructions"] == ["avx2", "avx512_vnni"]
    assert len(record["machine"]["load_average"]) == 3
    assert record["versions"]["torch"].startswith("2.")


def test_the_table_shows_every_line():
    console = Console(width=180, file=StringIO())
    with console.capture() as printed:
        console.print(table(works_in(record_of(REPORT))))
    shown = " ".join(printed.get().split())
    for words in ("quantise: 16M", "QPyTorch not installed", TARGET.words, "met", "some[case] 5.00 s"):
        assert words in shown


PAGE_TEXT = "# Speed\n\n<!-- benchmarks -->\nold\n<!-- end of benchmarks -->\n\nMore.\n"


def test_a_page_is_updated_between_its_markers():
    page = updated_page(PAGE_TEXT, record_of(REPORT))
    assert page.startswith("# Speed\n\n<!-- benchmarks -->\nSome CPU, ")
    assert page.endswith("|\n<!-- end of benchmarks -->\n\nMore.\n")
    assert "old" not in page
    assert "| quantise: 16M | ours 2.00 | memory copy 1.00; QPyTorch not installed |" in page
    assert updated_page(page, record_of(REPORT)) == page


def test_a_page_without_markers():
    with pytest.raises(ValueError, match="no '<!-- benchmarks -->'"):
        updated_page("# Speed\n", record_of(REPORT))


def test_the_command_writes_the_record_and_the_page(tmp_path, capsys):
    source, record, page = (tmp_path / name for name in ("report.json", "records/record.json", "page.md"))
    source.write_text(json.dumps(REPORT))
    page.write_text(PAGE_TEXT)
    main([str(source), str(record), "--update", str(page)])
    assert "quantise: 16M" in capsys.readouterr().out
    first = page.read_text()
    page.write_text(PAGE_TEXT)
    main([str(record), "--update", str(page)])
    assert page.read_text() == first


def test_the_page_is_of_the_record():
    """`python -m benchmarks.summarize experiments/records/benchmark_cpu.json --update docs/performance.md`."""
    page = PAGE.read_text(encoding="utf-8")
    assert updated_page(page, json.loads(RECORD.read_text(encoding="utf-8"))) == page
