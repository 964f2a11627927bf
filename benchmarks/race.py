"""Two contenders timed in turn, so that what else the machine does falls on both.

    race(benchmark, Contender("INT8 codes", run, ours=True, moved_bytes=5 * n), against=memory_copy,
         work="quantise to INT8, nearest", case="16M", targets=[at_least_bandwidth(0.5, "memory copy")])

pytest-benchmark times the contender; before each of its rounds the baseline runs once and is timed by the same
clock. The ratio is that of the shortest rounds: another process can only lengthen a round, so the shortest is the
nearest to what the work itself takes, and in a median of a disturbed run the disturbance stays.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.targets import Target

#: Rounds of a race, whatever the time allowed.
FEWEST, MOST = 5, 2000


@dataclass(frozen=True, kw_only=True)
class Contender:
    """One implementation of the work.

    Attributes:
        name: As the table shows it: "torch._int_mm".
        run: Does the work once, its result checked by the caller before the race.
        ours: Whether it is this project's.
        moved_bytes: What the work must read and write, for the bandwidth.
        macs: Multiply-accumulates, for the throughput.
    """

    name: str
    run: Callable[[], object]
    ours: bool = False
    moved_bytes: int | None = None
    macs: int | None = None


def race(
    benchmark: Any,
    contender: Contender,
    *,
    against: Contender,
    work: str,
    case: str = "",
    targets: Sequence[Target] = (),
    seconds: float = 2.0,
) -> None:
    """Time the contender and the baseline in turn, for about so many seconds."""
    contender.run()
    against.run()
    rounds = int(seconds / (_seconds(contender.run) + _seconds(against.run)))
    baseline_s: list[float] = []
    describe(benchmark, contender, work=work, case=case, targets=targets)
    benchmark.pedantic(
        contender.run,
        setup=lambda: baseline_s.append(_seconds(against.run)),
        rounds=max(FEWEST, min(MOST, rounds)),
    )
    benchmark.extra_info["baseline"] = {**_facts(against), "seconds": baseline_s}


def describe(
    benchmark: Any, contender: Contender, *, work: str, case: str = "", targets: Sequence[Target] = ()
) -> None:
    """Name a row of the table, of a benchmark that the caller runs."""
    benchmark.group = f"{work}: {case}" if case else work
    benchmark.extra_info.update(
        _facts(contender), work=work, case=case, targets=[asdict(target) for target in targets]
    )


def _facts(contender: Contender) -> dict[str, Any]:
    return {
        "implementation": contender.name,
        "ours": contender.ours,
        "moved_bytes": contender.moved_bytes,
        "macs": contender.macs,
    }


def _seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start
