import pytest

import hw_models
from hw_models.explore.axis import Axis, grid
from hw_models.explore.overrides import with_overrides
from hw_models.explore.sweep import SweepPoint, sweep
from lowbit_sim.trace import GemmEvent, Operand, VectorEvent, WorkloadTrace

PROFILE = hw_models.parse(hw_models.template("box"), "box.toml")
INT8 = Operand(format="int8", bits=8)


def gemm(M: int = 64, N: int = 48, K: int = 80, operand: Operand = INT8) -> GemmEvent:
    return GemmEvent(
        role="output",
        M=M,
        N=N,
        K=K,
        lhs=operand,
        rhs=operand,
        accumulator_bits=32,
        overflow="wrap",
        outer_bits=32,
        layer="fc",
    )


TRACE = WorkloadTrace(
    [gemm(), VectorEvent(kind="activation", elements=3072, read_bytes=3072, write_bytes=3072, layer="relu")]
)
AXES = [Axis(key="array.rows", values=(8, 16, 32)), Axis(key="memory.sram.kib", values=(16, 64))]


def test_every_point_is_the_estimate_of_its_machine():
    points = sweep(TRACE, PROFILE, AXES)
    assert [p.settings for p in points] == grid(AXES)
    for point in points:
        report = hw_models.estimate(TRACE, with_overrides(PROFILE, dict(point.settings)))
        assert (point.cycles, point.seconds) == (report.cycles, report.seconds)
        energies = (point.energy_low_pj, point.energy_pj, point.energy_high_pj)
        assert energies == pytest.approx((report.energy_low_pj, report.energy_pj, report.energy_high_pj))
        assert point.utilization == pytest.approx(report.utilization)
        assert (point.dram_bytes, point.area_mm2) == (report.bytes, report.area_mm2)
        assert point.edp == pytest.approx(report.edp)


def test_the_objective_reaches_the_estimate():
    [point] = sweep(TRACE, PROFILE, [Axis(key="array.rows", values=(8,))], objective="energy")
    machine = with_overrides(PROFILE, {"array.rows": 8})
    expected = hw_models.estimate(TRACE, machine, objective="energy")
    assert point.cycles == expected.cycles
    assert point.energy_pj == pytest.approx(expected.energy_pj)


def test_points_that_can_t_be_are_rows_with_the_reason():
    axes = [Axis(key="array.modes.0.operand_bits", values=(4, 8, 1))]
    narrow, fits, invalid = sweep(TRACE, PROFILE, axes)
    assert fits.cycles > 0
    assert fits.refusal == ""
    assert narrow.refusal.startswith("role output: lhs is int8")
    assert "array.modes.0.operand_bits = 1" in invalid.refusal
    assert narrow == SweepPoint(settings=narrow.settings, refusal=narrow.refusal)


def test_a_memory_too_small_for_any_tile_is_a_reason():
    first, second = sweep(TRACE, PROFILE, [Axis(key="memory.sram.capacity_bytes", values=(2, 65536))])
    assert "sram" in first.refusal
    assert second.refusal == ""


def test_an_unknown_key_is_an_error_at_once():
    with pytest.raises(hw_models.ProfileError, match="did you mean 'rows'"):
        sweep(TRACE, PROFILE, [Axis(key="array.row", values=(8, 16))])


def test_progress_counts_every_point():
    told: list[int] = []
    sweep(TRACE, PROFILE, AXES, on_points=told.append)
    assert sum(told) == 6


def test_a_trace_has_its_numerics_and_a_function_makes_them():
    axes = [Axis(key="arithmetic.format", values=("int8", "int4")), Axis(key="array.rows", values=(8, 16))]
    with pytest.raises(hw_models.ProfileError, match="arithmetic.format: a trace has its numerics already"):
        sweep(TRACE, PROFILE, axes)
    made: list[str] = []

    def workload(machine: hw_models.HardwareProfile) -> WorkloadTrace:
        name = str(machine.arithmetic.format)
        made.append(name)
        return WorkloadTrace([gemm(operand=Operand(format=name, bits=int(name.removeprefix("int"))))])

    points = sweep(workload, PROFILE, axes)
    assert made == ["int8", "int4"]  # once for each choice of numerics, not for each point
    assert points[0].energy_pj >= points[2].energy_pj
    assert all(not point.refusal for point in points)


def test_numerics_that_make_no_trace_are_a_reason():
    def workload(machine: hw_models.HardwareProfile) -> WorkloadTrace:
        raise ValueError("a scale along an axis that the layer lacks")

    [point] = sweep(workload, PROFILE, [Axis(key="array.rows", values=(8,))])
    assert point.refusal == "a scale along an axis that the layer lacks"


def test_processes_give_what_one_gives():
    axes = [Axis(key="array.rows", values=tuple(range(1, 65))), Axis(key="memory.sram.kib", values=(0, 64))]
    told: list[int] = []
    assert sweep(TRACE, PROFILE, axes, workers=2, on_points=told.append) == sweep(TRACE, PROFILE, axes)
    assert sum(told) == 128
    assert max(told) > 1  # chunks, not points


@pytest.mark.parametrize(
    ("axis", "message"),
    [
        ("array.rows=8,a", "array.rows = 'a': expected an integer > 0"),
        ("array.rows=8,2.5,3.5", "array.rows = 3.5: expected an integer > 0"),
        ("clock.frequency_hz=1e9,true", "clock.frequency_hz = true: expected an integer > 0"),
        ("memory.sram.kib=64,large", "memory.sram.kib = 'large': a capacity is a number of kib"),
        ("array.dataflow=ws,best", r"array.dataflow = 'best': expected 'ws', 'os'"),
    ],
)
def test_a_value_of_the_wrong_kind_is_refused_before_the_sweep(axis, message):
    with pytest.raises(hw_models.ProfileError, match=message):
        sweep(TRACE, PROFILE, [Axis.parse(axis)])


def test_a_value_beyond_its_bounds_is_a_row_with_the_bound():
    zero, eight = sweep(TRACE, PROFILE, [Axis.parse("array.rows=0,8")])
    assert zero.refusal == "array.rows = 0: expected an integer > 0"
    assert eight.cycles > 0
