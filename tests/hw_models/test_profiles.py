"""The machines that come with the package, against what was published about them."""

import pytest
from pydantic import BaseModel

import hw_models
from hw_models.tables import Sourced
from lowbit_sim import trace
from lowbit_sim.arith.mac import MacUnit
from lowbit_sim.arith.spec import OpSpec
from lowbit_sim.numerics.catalog import INT4, INT8
from lowbit_sim.numerics.rounding import Rounding
from tests.hw_models.machines import gemm, tiny

NAMES = hw_models.profile_names()


def tables(model: BaseModel) -> list[Sourced]:
    """All tables of a profile that hold numbers."""
    found = [model] if isinstance(model, Sourced) else []
    for key in type(model).model_fields:
        value = getattr(model, key)
        for part in value if isinstance(value, tuple) else (value,):
            if isinstance(part, BaseModel):
                found += tables(part)
    return found


def peak_tops(profile: hw_models.HardwareProfile, bits: int) -> float:
    mode = next(m for m in profile.array.modes if m.operand_bits == bits)
    return 2 * profile.array.macs_per_cycle(mode) * profile.clock.frequency_hz / 1e12


def test_the_names():
    assert NAMES == ("edge_npu", "rapid_training", "tpu_v1")


@pytest.mark.parametrize("name", NAMES)
def test_a_profile_loads_under_its_own_name(name):
    assert hw_models.load(name).machine.name == name


@pytest.mark.parametrize("name", NAMES)
def test_every_figure_names_a_source_or_is_an_assumption(name):
    found = tables(hw_models.load(name))
    assert len(found) >= 10
    for table in found:
        for source in (table.source, *table.sources.values()):
            cites = any(character.isdigit() for character in source) or "Gemmini" in source
            assert cites or source.startswith("assumption: "), source


@pytest.mark.parametrize("name", NAMES)
def test_figures_that_nobody_looked_up_say_so(name):
    for table in tables(hw_models.load(name)):
        for source in (table.source, *table.sources.values()):
            if "TPUv4i" in source or "Jouppi et al., ISCA 2021" in source:
                assert "recalled" in source, source
                assert "not checked" in source, source
            if source.partition(";")[0].count("recalled"):
                assert source.startswith("assumption: "), source
            assert "from memory" not in source


@pytest.mark.parametrize("name", NAMES)
def test_a_profile_gives_an_op_spec_that_its_array_runs_without_a_note(name):
    profile = hw_models.load(name)
    spec = profile.op_spec()
    assert isinstance(spec, OpSpec)
    events = []
    for role in ("output", "grad_input", "grad_weight"):
        part = getattr(spec, role)
        events.append(
            gemm(
                role=role,
                lhs=str(part.lhs.format),
                rhs=str(part.rhs.format),
                accumulator_bits=part.mac.accumulator_bits,
                overflow=part.mac.overflow,
                chunk=part.mac.chunk,
                outer_bits=part.mac.result_bits,
            )
        )
    report = hw_models.estimate(trace.WorkloadTrace(events), profile)
    assert report.cycles > 0
    assert report.notes == ()


def test_op_spec_of_tpu_v1():
    assert hw_models.load("tpu_v1").op_spec() == OpSpec.uniform(INT8, mac=MacUnit())


def test_op_spec_of_the_training_chip():
    assert hw_models.load("rapid_training").op_spec() == OpSpec.uniform(
        INT4,
        mac=MacUnit(accumulator_bits=16, overflow="saturate", chunk=64, outer_bits=32),
        gradient_rounding=Rounding("stochastic", random_bits=8),
    )


def test_roles_of_op_spec_follow_the_formats():
    spec = tiny(('weight_format = "int8"', 'weight_format = "int5"')).op_spec()
    assert spec.output is not None
    assert spec.grad_input is not None
    assert spec.grad_weight is not None
    parts = (spec.output, spec.grad_input, spec.grad_weight)
    formats = [(str(p.lhs.format), str(p.rhs.format)) for p in parts]
    assert formats == [("int8", "int5"), ("int4", "int5"), ("int4", "int8")]
    assert [p.lhs.rounding.is_stochastic for p in parts] == [False, True, True]
    assert not any(p.rhs.rounding.is_stochastic for p in parts)


def test_tpu_v1_has_the_papers_peak_and_ridge():
    profile = hw_models.load("tpu_v1")
    assert peak_tops(profile, 8) == pytest.approx(92, rel=0.005)
    # The paper's roofline bends at 1350 MACs for each byte of weights.
    ridge = peak_tops(profile, 8) / 2 * 1e12 / profile.memory.dram.bandwidth_bytes_per_second
    assert ridge == pytest.approx(1350, rel=0.002)


def test_a_batched_perceptron_on_tpu_v1_is_bound_by_its_weights():
    """The paper's MLP0 at a batch of 200 reaches 12.3 TOPS; weights of 34 GB/s allow 2 x 200 x 34e9 = 13.6."""
    event = gemm(200, 2048, 2048)
    report = hw_models.estimate(trace.WorkloadTrace([event]), hw_models.load("tpu_v1"))
    tops = 2 * report.macs / report.seconds / 1e12
    assert 12.3 / 2 < tops < 13.6


def test_gemmini_rtl_of_a_large_gemm():
    """Verilator counts 543,240 cycles for 512 x 512 x 512; hidden weight loading makes the schedule 5 % long."""
    event = gemm(512, 512, 512, accumulator_bits=20, chunk=16)
    report = hw_models.estimate(trace.WorkloadTrace([event]), hw_models.load("edge_npu"))
    assert report.cycles / 543_240 == pytest.approx(1.05, abs=0.01)


def test_rapid_has_the_published_peaks():
    profile = hw_models.load("rapid_training")
    assert peak_tops(profile, 4) == pytest.approx(104.9, rel=0.001)
    # INT8 runs at the rate of 8-bit floating point.
    assert peak_tops(profile, 8) == pytest.approx(26.2, rel=0.002)


def test_rapid_stays_under_the_energy_of_silicon_and_within_reach_of_it():
    """16.9 TOPS/W are 0.118 pJ for an INT4 MAC, registers and control included, which are not modeled."""
    event = gemm(4096, 4096, 4096, lhs="int4", rhs="int4", accumulator_bits=16, chunk=64, overflow="saturate")
    report = hw_models.estimate(trace.WorkloadTrace([event]), hw_models.load("rapid_training"))
    on_chip_pj = (report.energy.multiply_add_pj + report.energy.sram_pj) / report.macs
    assert 0.118 / 3 < on_chip_pj < 0.118
