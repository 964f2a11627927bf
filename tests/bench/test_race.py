import pytest

from benchmarks import race as module
from benchmarks.race import FEWEST, MOST, Contender, race
from benchmarks.targets import at_most_time


class Clock:
    """A clock that work moves on."""

    def __init__(self) -> None:
        self.now, self.ran = 0.0, []

    def perf_counter(self) -> float:
        return self.now

    def work(self, name: str, seconds: float):
        def run() -> None:
            self.now += seconds
            self.ran.append(name)

        return run


class Benchmark:
    """What `race` uses of pytest-benchmark's fixture."""

    def __init__(self) -> None:
        self.extra_info, self.group, self.rounds = {}, "", 0

    def pedantic(self, run, *, setup, rounds: int) -> None:
        self.rounds = rounds
        for _ in range(rounds):
            setup()
            run()


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module.time, "perf_counter", clock.perf_counter)
    return clock


def started(clock: Clock, *, ours: float, theirs: float, seconds: float) -> Benchmark:
    benchmark = Benchmark()
    race(
        benchmark,
        Contender(name="ours", run=clock.work("ours", ours), ours=True, macs=8),
        against=Contender(name="theirs", run=clock.work("theirs", theirs)),
        work="gemm",
        case="2^3",
        targets=[at_most_time(1.0, "theirs")],
        seconds=seconds,
    )
    return benchmark


def test_rounds_take_turns(clock):
    benchmark = started(clock, ours=0.25, theirs=0.75, seconds=8)
    assert benchmark.rounds == 8
    assert clock.ran[-16:] == ["theirs", "ours"] * 8


def test_the_baselines_rounds_are_kept(clock):
    info = started(clock, ours=0.25, theirs=0.75, seconds=8).extra_info
    assert info["baseline"]["implementation"] == "theirs"
    assert info["baseline"]["seconds"] == [0.75] * 8


def test_the_row_is_named(clock):
    benchmark = started(clock, ours=0.25, theirs=0.75, seconds=8)
    assert benchmark.group == "gemm: 2^3"
    named = {key: benchmark.extra_info[key] for key in ("work", "case", "implementation", "ours", "macs")}
    assert named == {"work": "gemm", "case": "2^3", "implementation": "ours", "ours": True, "macs": 8}
    assert benchmark.extra_info["targets"] == [{"quantity": "time", "limit": 1.0, "against": "theirs"}]


@pytest.mark.parametrize(("seconds", "rounds"), [(0.1, FEWEST), (1e9, MOST)])
def test_rounds_have_bounds(clock, seconds, rounds):
    assert started(clock, ours=0.25, theirs=0.75, seconds=seconds).rounds == rounds
