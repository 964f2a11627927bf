import pytest

from hw_models.calibration.fit import FINEST, Fit, fit
from hw_models.calibration.modes import BF16, FP32, INT8
from hw_models.calibration.prediction import predictions, typical_factor
from hw_models.calibration.profile_text import SIDE, Device, profile_name, profile_text
from hw_models.calibration.timing import TimedGemm
from hw_models.load import parse

RATES = {"fp32": 1e12, "bf16": 4e12, "int8": 8e12}
STARTUP_S = 2e-6
DEVICE = Device(name="Some GPU 7(R)", units=8, cache_bytes=1 << 22, measured_with="2026-01-01, torch 0")
MODES = (FP32, BF16, INT8)


def gemm(mode: str, *shape: int) -> TimedGemm:
    """A GEMM of a machine that has exactly these rates."""
    macs = shape[0] * shape[1] * shape[2]
    return TimedGemm(mode=mode, shape=shape, seconds=STARTUP_S + macs / RATES[mode])


def fitted() -> Fit:
    gemms = [gemm(mode, *shape) for mode in RATES for shape in ((1, 1, 1), (2048, 2048, 2048))]
    return fit(gemms, bytes_per_second=4e12, power_w=123.4)


def test_the_numbers_of_a_machine_are_found():
    found = fitted()
    assert found.startup_s == pytest.approx(STARTUP_S)
    assert found.macs_per_second == pytest.approx(RATES, rel=1e-3)
    assert [found.macs_per_element(mode) for mode in RATES] == [1, 4, 8]
    assert found.clock(1000) * 1000 == pytest.approx(1e12, rel=1e-3)


@pytest.mark.parametrize(
    ("ratio", "numbers"), [(1.5, [2, 3]), (1.34, [3, 4]), (2.02, [1, 2]), (1.25, [4, 5])]
)
def test_whole_numbers_come_as_close_to_the_rates_as_they_can(ratio, numbers):
    found = Fit(startup_s=0.0, macs_per_second={"fp32": 1e12, "bf16": ratio * 1e12}, bytes_per_second=1.0)
    assert [found.macs_per_element(mode) for mode in ("fp32", "bf16")] == numbers
    assert found.slowest_macs <= FINEST
    assert found.clock(100) * 100 * found.slowest_macs == pytest.approx(1e12, rel=1e-3)


def test_gemms_that_only_start_fix_no_rate():
    with pytest.raises(ValueError, match="no GEMM of mode fp32 took longer than four times"):
        fit([gemm("fp32", 1, 1, 1), gemm("fp32", 8, 8, 8)], bytes_per_second=1e9)


def test_the_profile_is_valid_and_says_where_its_numbers_come_from():
    text = profile_text(DEVICE, fitted(), MODES)
    profile = parse(text, "it")
    assert profile.machine.name == profile_name(DEVICE) == "measured_some_gpu_7"
    assert profile.energy.static_power_w == 123.4
    assert profile.array.elements == SIDE * SIDE * 8
    assert profile.memory.dram.bandwidth_bytes_per_second == 4e12
    assert "measured on Some GPU 7(R), 2026-01-01, torch 0" in profile.array.source
    assert "a fit" in profile.clock.source


def test_without_a_counter_energy_is_said_to_be_unknown():
    known = fit([gemm("fp32", 1, 1, 1), gemm("fp32", 2048, 2048, 2048)], bytes_per_second=1e9)
    profile = parse(profile_text(DEVICE, known, (FP32,)), "it")
    assert profile.energy.static_power_w == 0
    assert profile.energy.source.startswith("assumption: energy was not measured")
    assert profile.arithmetic.format == "bf16"


def test_large_gemms_of_the_machine_are_predicted():
    profile = parse(profile_text(DEVICE, fitted(), MODES), "it")
    gemms = [gemm(mode, 4096, 2048, 1024) for mode in RATES]
    found = predictions(profile, MODES, gemms, held_out=True)
    assert [p.held_out for p in found] == [True] * 3
    assert all(abs(p.error) < 0.15 for p in found)
    assert typical_factor(found) < 1.15


def test_a_smallest_gemm_takes_about_its_start():
    profile = parse(profile_text(DEVICE, fitted(), MODES), "it")
    [found] = predictions(profile, MODES, [gemm("fp32", 16, 16, 16)], held_out=False)
    assert STARTUP_S <= found.predicted_s < 1.2 * STARTUP_S


def test_a_narrower_mode_is_predicted_to_be_faster():
    profile = parse(profile_text(DEVICE, fitted(), MODES), "it")
    gemms = [gemm(mode, 2048, 2048, 2048) for mode in RATES]
    times = [p.predicted_s for p in predictions(profile, MODES, gemms, held_out=True)]
    assert times == sorted(times, reverse=True)
