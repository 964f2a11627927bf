"""The figures of a machine, worked out by hand."""

import json

import pytest

import hw_models
from hw_models.large_gemm import SIZE
from hw_models.spec_event import spec_event
from hw_models.summary import summary
from lowbit_sim.trace import WorkloadTrace
from tests.hw_models.example import example

INT4 = '[[array.modes]]\nsource = "assumption: for the test"\noperand_bits = 4\nmacs_per_pe_per_cycle = 2\n\n'


def test_peak_rate_and_balance():
    (peak,) = summary(example()).peaks
    assert peak.macs_per_cycle == 256
    assert peak.tops == pytest.approx(2 * 256 * 1e9 / 1e12)
    assert peak.macs_per_dram_byte == pytest.approx(256e9 / 16e9)
    assert peak.dram_bytes_per_mac == pytest.approx(1 / 16)


def test_every_mode_has_a_rate():
    machine = summary(example(("\n[[array.modes]]\n", f"\n{INT4}[[array.modes]]\n")))
    assert [(p.kind, p.operand_bits, p.macs_per_cycle) for p in machine.peaks] == [
        ("integer", 4, 512),
        ("integer", 8, 256),
    ]
    narrow, wide = machine.peaks
    assert narrow.pj_per_mac is not None
    assert wide.pj_per_mac is not None
    assert narrow.pj_per_mac[1] < wide.pj_per_mac[1]


def test_float_and_log_modes_have_rates_too():
    energies = "multiply_pj = 0.5\nadd_pj = 0.25\n\n"
    modes = "".join(
        f'[[array.modes]]\nsource = "assumption: for the test"\nkind = "{kind}"\noperand_bits = {bits}\n'
        f"macs_per_pe_per_cycle = 1\n{energies}"
        for kind, bits in (("float", 9), ("float", 32), ("log", 4))
    )
    machine = summary(example(("\n[[array.modes]]\n", f"\n{modes}[[array.modes]]\n")))
    for peak in machine.peaks[:3]:
        assert peak.pj_per_mac is not None
        assert peak.pj_per_mac[1] > 0.75


def test_energy_of_a_mac_is_that_of_a_large_gemm_without_the_dram():
    profile = example()
    (peak,) = summary(profile).peaks
    event = spec_event(profile.gemm_spec("output"), "output", SIZE, SIZE, SIZE)
    total = hw_models.estimate(WorkloadTrace([event]), profile).total
    parts = {name: part.nominal_pj for name, part in total.energy.items()}
    kept = {name: pj for name, pj in parts.items() if name not in ("dram", "static", "vector", "random_bits")}
    assert {"multiply", "add", "registers", "sram", "accumulator"} <= set(kept)
    assert peak.pj_per_mac is not None
    assert peak.pj_per_mac[1] == pytest.approx(sum(kept.values()) / SIZE**3)
    assert peak.tops_per_watt is not None
    assert peak.tops_per_watt[1] == pytest.approx(2 / peak.pj_per_mac[1])
    assert peak.moved_bytes_per_mac == pytest.approx(total.dram_bytes / SIZE**3)


def test_ranges_ascend():
    figure = '{ low = 0.001, nominal = 0.003, high = 0.03, low_source = "x", high_source = "y" }'
    (peak,) = summary(example(("register_pj_per_bit = 0.003", f"register_pj_per_bit = {figure}"))).peaks
    assert peak.pj_per_mac is not None
    assert peak.tops_per_watt is not None
    assert list(peak.pj_per_mac) == sorted(set(peak.pj_per_mac))
    assert list(peak.tops_per_watt) == sorted(set(peak.tops_per_watt))


def test_a_machine_that_no_gemm_fits_has_no_efficiency():
    (peak,) = summary(example(("capacity_bytes = 262_144", "capacity_bytes = 100"))).peaks
    assert peak.pj_per_mac is None
    assert peak.tops_per_watt is None
    assert peak.moved_bytes_per_mac is None
    assert peak.tops > 0


def test_the_memories():
    sram, accumulator, dram = summary(example()).levels
    assert (sram.name, accumulator.name, dram.name) == ("sram", "accumulator", "dram")
    assert sram.bytes_per_second == 128e9
    assert sram.word_bits == 1024
    assert sram.read_pj_per_bit == (0.1, 0.1, 0.1)
    assert dram.bytes_per_cycle == 16
    assert dram.capacity_bytes is None


def test_numerics_sources_and_words():
    machine = summary(
        example(('dataflow = "ws"', 'dataflow = "os"'), ('#loading = "exposed"', 'loading = "hidden"'))
    )
    assert machine.array == "16 x 16, output-stationary (os), double buffered"
    assert machine.numerics["grad_input"].startswith("int8 stochastic")
    assert machine.numerics["requantizer"] == "float"
    assert (machine.assumptions, machine.numbers) == (35, 35)
    assert machine.area_mm2 is None
    spatial = example(('dataflow = "ws"', 'dataflow = "spatial"'), ("#pixel_rows = 1", "pixel_rows = 4"))
    assert summary(spatial).array == "16 x 16 x 4, spatial (adder trees)"
    native = example(('format = "int8"', 'format = "int8"\ngrad_weight = { native = true }'))
    assert summary(native).numerics["grad_weight"] == "float32, natively"


@pytest.mark.parametrize("name", hw_models.profile_names())
def test_every_profile_has_a_summary_that_json_takes(name):
    machine = summary(hw_models.load(name))
    assert machine.peaks
    for peak in machine.peaks:
        assert peak.tops > 0
        assert peak.tops_per_watt is not None
        assert 0.01 < peak.tops_per_watt[1] < 1000
    assert json.loads(json.dumps(machine.to_dict()))["name"] == name
