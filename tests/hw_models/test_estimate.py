"""The price of a trace: a trace worked out by hand, and what a report says beside it."""

import dataclasses

import pytest

import hw_models
from hw_models.ranges import exactly
from lowbit_sim.trace import ROLES, VectorEvent, WorkloadTrace
from tests.hw_models.machines import FLOAT_MODE, gemm, tiny

QUANTIZE = VectorEvent(
    kind="quantize", elements=10, read_bytes=40, write_bytes=10, random_bits=80, layer="fc"
)
FAST_DRAM = ("bandwidth_bytes_per_second = 4000", "bandwidth_bytes_per_second = 4000000")


def test_a_trace_by_hand():
    """A GEMM 4 x 8 x 4 and a quantization on the tiny machine.

    GEMM: two folds of 2 4 + 4 + 4 - 2 = 14 cycles compute; 64 + 64 bytes at 4 a cycle are 32 cycles, so DRAM
    decides. 128 MACs of 0.2 + 0.1 pJ; SRAM 512 bits read and written at 1 and 2 pJ; accumulator memory 1024 bits
    read and written at 0.5 and 0.25 pJ; DRAM 512 bits read and written at 10 and 20 pJ.

    Quantization: 50 bytes at 4 a cycle are 13 cycles, more than 30 operations on 4 lanes and 10 cycles for the random
    bits. 30 operations of 2.3 pJ and 80 bits of 0.01 pJ; SRAM 400 bits in and out; DRAM 320 bits read, 80 written.
    """
    report = hw_models.estimate(WorkloadTrace([gemm(4, 4, 8), QUANTIZE]), tiny())
    assert report.cycles == 32 + 13
    assert report.total.compute_cycles == 28 + 10
    assert report.seconds == 0.045
    assert report.bytes == 128 + 50
    assert report.macs == 128
    nominal = {name: energy.nominal_pj for name, energy in report.energy.items()}
    assert nominal == pytest.approx(
        {
            "multiply": 128 * 0.2,
            "add": 128 * 0.1,
            "registers": 0,
            "sram": (512 + 1024) + (400 + 800),
            "accumulator": 512 + 256,
            "dram": (5120 + 10240) + (3200 + 1600),
            "vector": 30 * 2.3,
            "random_bits": 0.8,
        }
    )
    assert report.energy_pj == pytest.approx(sum(nominal.values()))
    assert report.utilization == pytest.approx(8 / 45)
    assert report.by_role["output"].cycles == report.by_kind["gemm"].cycles == 32
    assert report.by_role["overhead"].cycles == report.by_kind["quantize"].cycles == 13
    assert list(report.by_role) == list(ROLES)
    assert list(report.by_layer) == ["fc"]
    assert report.total.cycles_by_bound == {"dram": 45}
    assert report.total.traffic == {
        ("sram", "lhs"): 512, ("sram", "rhs"): 512, ("sram", "vector"): 800,
        ("dram", "lhs"): 256, ("dram", "rhs"): 256, ("dram", "result"): 512, ("dram", "vector"): 400,
        ("accumulator", "result"): 2048,
    }  # fmt: skip


def test_static_power_is_drawn_all_the_time():
    profile = tiny(("static_power_w = 0.0", "static_power_w = 2e-9"))
    report = hw_models.estimate(WorkloadTrace([gemm(4, 4, 8), QUANTIZE]), profile)
    assert report.energy["static"].nominal_pj == pytest.approx(2 * 45)
    assert report.by_role["output"].energy["static"].nominal_pj == pytest.approx(2 * 32)
    assert report.by_kind["quantize"].energy["static"].nominal_pj == pytest.approx(2 * 13)


def test_an_int4_mode_shortens_the_reduction():
    # K = 8 packs into 4 words of 2 products: one fold where INT8 takes two.
    int8 = hw_models.estimate(WorkloadTrace([gemm(4, 4, 8)]), tiny(FAST_DRAM))
    int4 = hw_models.estimate(WorkloadTrace([gemm(4, 4, 8, lhs="int4", rhs="int4")]), tiny(FAST_DRAM))
    assert (int8.cycles, int4.cycles) == (28, 14)
    assert int4.utilization == pytest.approx(128 / 32 / 14)
    assert int4.total.cycles_by_bound == {"compute": 14}


@pytest.mark.parametrize(("level", "bandwidth", "cycles"), [("sram", 1, 128), ("accumulator", 3, 86)])
def test_an_on_chip_bandwidth_limits(level, bandwidth, cycles):
    old = {"sram": "bandwidth_bytes_per_cycle = 16\n", "accumulator": "bandwidth_bytes_per_cycle = 32\n"}
    slow = tiny(FAST_DRAM, (old[level], f"bandwidth_bytes_per_cycle = {bandwidth}\n"))
    report = hw_models.estimate(WorkloadTrace([gemm(4, 4, 8)]), slow)
    assert (report.cycles, report.total.bound_by) == (cycles, level)


def test_equal_events_of_different_layers_cost_the_same():
    events = [gemm(5, 6, 7, layer=name) for name in "abc"] + [
        dataclasses.replace(QUANTIZE, layer=n) for n in "abc"
    ]
    report = hw_models.estimate(WorkloadTrace(events), tiny())
    assert report.by_layer["a"] == report.by_layer["b"] == report.by_layer["c"]
    assert report.cycles == 3 * report.by_layer["a"].cycles
    assert [event.layer for event, _ in report.gemms] == ["a", "b", "c"]


def test_the_gemms_tell_how_they_run():
    report = hw_models.estimate(WorkloadTrace([gemm(4, 4, 8), gemm(lhs="fp32", rhs="fp32")]), tiny())
    (event, array), (_, vector) = report.gemms
    assert event == gemm(4, 4, 8)
    assert array.mode is not None
    assert array.mode.operand_bits == 8
    assert array.mapping is not None
    assert array.mapping.tiles == ((4, 4, 8),)
    assert (vector.mode, vector.mapping) == (None, None)


def test_work_of_the_vector_unit_is_no_use_of_the_array():
    native = gemm(4, 4, 8, lhs="fp32", rhs="fp32", overflow="float")
    report = hw_models.estimate(WorkloadTrace([gemm(4, 4, 8), native]), tiny(FAST_DRAM))
    # The array's 128 MACs take 8 cycles at its peak; the vector unit's 64 (1024 bytes of SRAM) are waiting.
    assert (report.by_role["output"].cycles, report.total.ideal_cycles) == (28 + 64, 8)
    assert report.utilization == pytest.approx(8 / 92)


def test_native_float32_is_priced_by_its_own_mode():
    event = gemm(4, 4, 4, lhs="fp32", rhs="fp32", overflow="float")
    report = hw_models.estimate(WorkloadTrace([event]), tiny(FLOAT_MODE))
    assert (report.energy["multiply"], report.energy["add"]) == (exactly(64 * 3.7), exactly(64 * 0.9))
    assert report.notes == (
        "output: input ran as fp32; the machine has int8",
        "output: weight ran as fp32; the machine has int8",
    )


@pytest.mark.parametrize("name", hw_models.profile_names())
def test_every_machine_prices_its_own_numerics_and_a_native_layer(name):
    profile = hw_models.load(name)
    own = profile.gemm_spec("output")
    sides = {} if own is None else {"lhs": str(own.lhs.format), "rhs": str(own.rhs.format)}
    native = gemm(64, 64, 64, lhs="fp32", rhs="fp32", overflow="float", layer="native")
    report = hw_models.estimate(WorkloadTrace([native, gemm(64, 64, 64, **sides, layer="own")]), profile)
    switching = {
        layer: sum(e.nominal_pj for name, e in cost.energy.items() if name != "static")
        for layer, cost in report.by_layer.items()
    }
    assert switching["native"] > switching["own"] > 0
    assert 0 < report.energy_low_pj <= report.energy_pj <= report.energy_high_pj


def test_an_empty_trace_costs_nothing():
    report = hw_models.estimate(WorkloadTrace(), tiny())
    assert (report.cycles, report.bytes, report.energy_pj, report.utilization) == (0, 0, 0, 0)
    assert (report.by_layer, report.by_kind, report.edp) == ({}, {}, 0)


def test_a_gemm_of_size_zero_costs_nothing():
    events = [gemm(4, 0, 8), gemm(4, 4, 0, chunk=2), gemm(4, 4, 0, lhs="fp32", rhs="fp32")]
    report = hw_models.estimate(WorkloadTrace(events), tiny())
    assert (report.cycles, report.bytes, report.energy_pj) == (0, 0, 0)


def test_an_unknown_objective_is_named():
    with pytest.raises(ValueError, match="unknown objective 'enery'.*did you mean 'energy'"):
        hw_models.estimate(WorkloadTrace(), tiny(), objective="enery")  # type: ignore[arg-type]


def test_the_least_energy_never_takes_more_energy_than_the_least_cycles():
    trace = WorkloadTrace([gemm(90, 70, 300)])
    cycles, energy = (hw_models.estimate(trace, tiny(), objective=o) for o in ("cycles", "energy"))  # type: ignore[arg-type]
    assert energy.energy_pj <= cycles.energy_pj
    assert cycles.cycles <= energy.cycles


def test_a_gemm_whose_smallest_tile_fits_no_memory_is_refused():
    small = tiny(("capacity_bytes = 1024", "capacity_bytes = 8"))
    with pytest.raises(
        hw_models.UnsupportedOperandError, match="layer 'fc', role output: memory.accumulator"
    ):
        hw_models.estimate(WorkloadTrace([gemm(40, 40, 40)]), small)
