from benchmarks.rows import Row, Work
from benchmarks.table import lines, markdown, without_repeats
from benchmarks.targets import at_least_speed, at_most_memory, at_most_time

TARGET = at_most_time(1.15, "torch._int_mm")


def gemm(case: str, ours: float, *, targets=(TARGET,), peer: float = 6.0) -> Work:
    baseline = Row(implementation="torch._int_mm", ratio=1.0, shortest_s=0.002)
    native = Row(implementation="float32 matmul", ratio=peer, shortest_s=0.012)
    mine = Row(implementation="INT8", ours=True, ratio=ours, shortest_s=0.002 * ours, targets=targets)
    return Work(name="gemm", case=case, rows=(baseline, native, mine))


def test_a_line_of_one_case():
    [line] = lines([gemm("1024^3", 1.1)])
    assert line.cells == (
        "gemm: 1024^3",
        "INT8 1.10",
        "torch._int_mm 1.00; float32 matmul 6.00",
        "at most 1.15 x torch._int_mm",
        "1.10",
        "met",
    )


def test_cases_share_a_line():
    [line] = lines([gemm("64^3", 1.0, peer=5), gemm("1024^3", 1.1, peer=20)])
    assert line.work == "gemm (2 cases)"
    assert line.peers == "torch._int_mm 1.00; float32 matmul 5.00 to 20.0"
    assert (line.reached, line.met) == ("1.00 to 1.10", "met")


def test_a_missed_case_is_named():
    [line] = lines([gemm("64^3", 2.0), gemm("1024^3", 1.0), gemm("2048^3", 1.151)])
    assert line.met == "missed in 2 of 3: 64^3, 2048^3"
    assert lines([gemm("64^3", 2.0)])[0].met == "missed"


def test_a_line_for_each_target():
    faster = at_least_speed(2, "float32 matmul")
    first, second = lines([gemm("64^3", 1.1, targets=(TARGET, faster))])
    assert (first.reached, first.met) == ("1.10", "met")
    assert (second.target, second.reached) == ("at least 2 times faster than float32 matmul", "5.45")


def test_a_case_without_the_target_does_not_count_for_it():
    [line] = lines([gemm("64^3", 2.0, targets=()), gemm("1024^3", 1.0)])
    assert (line.reached, line.met) == ("1.00", "met")


def test_what_has_no_target_has_a_line():
    [line] = lines([gemm("64^3", 1.1, targets=())])
    assert line.cells[3:] == ("-", "-", "-")


def test_a_missing_peer():
    ours = Row(implementation="ours", ours=True, ratio=0.1, targets=(at_least_speed(30, "qtorch"),))
    copy = Row(implementation="memory copy", ratio=1.0)
    gone = Row(implementation="qtorch", missing="No module named 'qtorch'")
    [line] = lines([Work(name="quantise", rows=(copy, ours, gone))])
    assert line.peers == "memory copy 1.00; qtorch not installed"
    assert (line.reached, line.met) == ("-", "not measured")


def test_times_where_nothing_was_raced():
    rows = [Row(implementation="search", shortest_s=seconds) for seconds in (0.0125, 2.5)]
    works = [Work(name="cost model", case=f"{i}", rows=(row,)) for i, row in enumerate(rows)]
    [line] = lines(works)
    assert (line.ours, line.peers) == ("-", "search 12.5 ms to 2.50 s")


def test_memory_is_shown_in_megabytes():
    native = Row(implementation="native", shortest_s=1.0, peak_bytes=200_000_000)
    ours = Row(
        implementation="ours", ours=True, peak_bytes=320_000_000, targets=(at_most_memory(1.5, "native"),)
    )
    [line] = lines([Work(name="peak memory", rows=(native, ours))])
    assert (line.ours, line.peers) == ("ours 320 MB", "native 200 MB")
    assert (line.reached, line.met) == ("1.60", "missed")


def test_markdown_has_every_cell():
    text = markdown([gemm("64^3", 1.1)])
    head, rule, row = text.splitlines()
    assert head == "| work | ours | peers | target | reached | met |"
    assert rule.count("---") == 6
    assert row.startswith("| gemm: 64^3 | INT8 1.10 | ")


def test_repeats_are_left_empty():
    faster = at_least_speed(2, "float32 matmul")
    rows = without_repeats(lines([gemm("64^3", 1.1, targets=(TARGET, faster)), gemm("64^3", 1.2)]))
    assert [bool(cell) for cell in rows[0][:3]] == [True, True, True]
    assert rows[1][:3] == ("", "", "")
    assert rows[1][3] == faster.words
