"""Prices one workload on every machine of a grid of changed keys.

    axes = [Axis.parse("array.rows=8,16,32"), Axis.parse("memory.sram.kib=128,256")]
    points = sweep(trace, profile, axes)

The grid is the product of the axes. A point whose values make no valid profile, or whose machine can't run the
workload, stays in the result with the reason. `pareto` marks the points that no other one beats in both time and
energy.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass

from hw_models.area import array_area_mm2
from hw_models.explore.axis import Axis, Settings, grid
from hw_models.explore.overrides import check_key, check_values, with_overrides
from hw_models.explore.total import CondensedTrace, condensed, total_cost, total_notes
from hw_models.load import ProfileError
from hw_models.mapping.search import Objective
from hw_models.operands import UnsupportedOperandError
from hw_models.profile import HardwareProfile
from lowbit_sim.trace import WorkloadTrace

#: A workload, or how the numerics of a machine make one.
Workload = WorkloadTrace | Callable[[HardwareProfile], WorkloadTrace]

#: Keys that decide what is computed, not only what it costs.
_NUMERICS = "arithmetic."

#: Points that a worker process takes at once.
_CHUNK = 16

#: Points from which on starting processes, which takes seconds, is worth it.
_MANY = 128


@dataclass(frozen=True, kw_only=True)
class SweepPoint:
    """One machine of a sweep and what the workload costs on it.

    Attributes:
        settings: Keys and values in which it differs from the profile.
        cycles, seconds, utilization, dram_bytes: Of the whole workload.
        energy_low_pj, energy_pj, energy_high_pj: Its energy in pJ: lowest, nominal and highest.
        area_mm2: Of the multiply-accumulate arrays, where the profile tells.
        notes: Where what ran differs from what the machine does, as a report has them.
        refusal: Why there is no cost, or "". All figures are 0 then.
    """

    settings: Settings
    cycles: int = 0
    seconds: float = 0.0
    energy_low_pj: float = 0.0
    energy_pj: float = 0.0
    energy_high_pj: float = 0.0
    utilization: float = 0.0
    dram_bytes: int = 0
    area_mm2: float | None = None
    notes: tuple[str, ...] = ()
    refusal: str = ""

    @property
    def edp(self) -> float:
        """Energy-delay product in J s."""
        return self.energy_pj * 1e-12 * self.seconds


def sweep(
    workload: Workload,
    profile: HardwareProfile,
    axes: Sequence[Axis],
    *,
    objective: Objective = "cycles",
    devices: int = 1,
    workers: int = 1,
    on_points: Callable[[int], None] | None = None,
) -> list[SweepPoint]:
    """Price a workload at every point of the grid.

    Args:
        workload: The trace; or, to sweep numerics ([arithmetic]), a function that makes the trace for a machine.
        profile: The machine that the points change.
        axes: The keys and their values.
        objective: What GEMMs are mapped for: "cycles", "energy" or "edp".
        devices: Equal machines that train together.
        workers: Processes that share the work, if it is much. They start anew from the main module, which must be
            importable without running the sweep again.
        on_points: Called with how many points were done since the last call.

    Returns:
        The points in the order of `grid`.

    Raises:
        ProfileError: A key that the profile lacks, values that are not of its kind, or numerics swept over a trace
            that has its own.
    """
    settings = grid(axes)
    for axis in axes:
        check_key(profile, axis.key)
        if isinstance(workload, WorkloadTrace) and axis.key.startswith(_NUMERICS):
            raise ProfileError(
                f"{axis.key}: a trace has its numerics already; give a function that makes the trace for a machine"
            )
        check_values(profile, axis.key, axis.values)
    pricer = _Pricer(
        profile=profile,
        traces=_traces(workload, profile, settings),
        objective=objective,
        devices=devices,
    )
    tell = on_points or (lambda count: None)
    if workers > 1 and len(settings) >= _MANY:
        return _in_processes(pricer, settings, workers, tell)
    points = []
    for point in settings:
        points.append(pricer(point))
        tell(1)
    return points


def _numerics(settings: Settings) -> Settings:
    return tuple((key, value) for key, value in settings if key.startswith(_NUMERICS))


def _traces(
    workload: Workload, profile: HardwareProfile, settings: Sequence[Settings]
) -> dict[Settings, CondensedTrace | str]:
    """The trace, or the reason why there is none, for each choice of numerics that makes a valid profile."""
    if isinstance(workload, WorkloadTrace):
        return {(): condensed(workload)}
    traces: dict[Settings, CondensedTrace | str] = {}
    for point in settings:
        numerics = _numerics(point)
        if numerics in traces:
            continue
        try:
            machine = with_overrides(profile, dict(point))
        except ProfileError:  # the point tells when it is priced, and others may have the same numerics
            continue
        try:
            traces[numerics] = condensed(workload(machine))
        except ValueError as error:
            traces[numerics] = str(error)
    return traces


@dataclass(frozen=True, kw_only=True)
class _Pricer:
    """What prices a point; it travels to the worker processes."""

    profile: HardwareProfile
    traces: dict[Settings, CondensedTrace | str]
    objective: Objective
    devices: int

    def __call__(self, settings: Settings) -> SweepPoint:
        try:
            machine = with_overrides(self.profile, dict(settings))
            trace = self.traces[_numerics(settings)]
            if isinstance(trace, str):
                return SweepPoint(settings=settings, refusal=trace)
            cost = total_cost(trace, machine, objective=self.objective, devices=self.devices)
        except (ProfileError, UnsupportedOperandError) as error:
            return SweepPoint(settings=settings, refusal=str(error))
        energy = cost.energy_range
        return SweepPoint(
            settings=settings,
            cycles=cost.cycles,
            seconds=cost.cycles / machine.clock.frequency_hz,
            energy_low_pj=energy.low_pj,
            energy_pj=energy.nominal_pj,
            energy_high_pj=energy.high_pj,
            utilization=cost.utilization,
            dram_bytes=cost.dram_bytes,
            area_mm2=array_area_mm2(machine),
            notes=total_notes(trace, machine),
        )


#: A worker process's own.
_pricer: _Pricer | None = None


def _start_worker(pricer: _Pricer) -> None:
    global _pricer
    _pricer = pricer


def _price_chunk(first: int, chunk: Sequence[Settings]) -> tuple[int, list[SweepPoint]]:
    assert _pricer is not None
    return first, [_pricer(settings) for settings in chunk]


def _in_processes(
    pricer: _Pricer, settings: Sequence[Settings], workers: int, tell: Callable[[int], None]
) -> list[SweepPoint]:
    # Fresh processes: a fork of one in which torch and numba run threads may never wake up.
    pool = ProcessPoolExecutor(
        workers, multiprocessing.get_context("spawn"), initializer=_start_worker, initargs=(pricer,)
    )
    chunks: dict[int, list[SweepPoint]] = {}
    try:
        starts = range(0, len(settings), _CHUNK)
        for future in as_completed([pool.submit(_price_chunk, i, settings[i : i + _CHUNK]) for i in starts]):
            first, points = future.result()
            chunks[first] = points
            tell(len(points))
    finally:
        pool.shutdown(cancel_futures=True)
    return [point for first in sorted(chunks) for point in chunks[first]]
