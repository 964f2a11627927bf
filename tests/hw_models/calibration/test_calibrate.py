import dataclasses
import json

import pytest
import torch

from hw_models.calibration import measure as module
from hw_models.calibration.calibrate import calibrate
from hw_models.calibration.measure import Plan, described
from hw_models.calibration.modes import FP32, INT8, TF32, int8_refusal, matrices, timed_modes
from hw_models.calibration.timing import SERIES, best_time, copy_bandwidth, timed_gemms
from hw_models.load import parse

CPU = torch.device("cpu")
PLAN = Plan(fitted=((32, 32, 32), (384, 384, 384)), batch=1, copy_bytes=1 << 20, series_s=1e-3)


@pytest.fixture(scope="module")
def found():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_last_cache_bytes", lambda: 1 << 16)  # few copies of operands
        return calibrate(CPU, "A Processor", plan=PLAN)


def test_this_machine_is_calibrated_and_predicts(found):
    profile = parse(found.profile, "it")
    assert profile.machine.name == "measured_a_processor"
    modes = {each.gemm.mode for each in found.predictions}
    assert {"fp32", "bf16"} <= modes
    assert len(found.predictions) == len(modes) * (len(PLAN.fitted) + len(PLAN.held_out))
    assert all(each.predicted_s > 0 and each.gemm.seconds > 0 for each in found.predictions)
    assert {each.gemm.shape for each in found.predictions if not each.held_out} == set(PLAN.fitted)
    assert found.typical_factor() >= 1


def test_the_record_is_json_with_an_error_for_each_gemm(found):
    record = json.loads(json.dumps(found.to_dict()))
    assert len(record["gemms"]) == len(found.predictions)
    row = record["gemms"][0]
    assert row["error"] == pytest.approx(row["predicted_s"] / row["measured_s"] - 1)
    assert record["profile"] == found.profile
    assert record["power_w"] is None


def test_power_is_energy_over_the_time_between_its_two_readings(monkeypatch):
    # The best series took 1 ms a GEMM, but under load each takes 4 ms and 2 J.
    monkeypatch.setattr(module, "_POWER_SECONDS", 0.01)
    monkeypatch.setattr(module, "best_time", lambda work, device, series_s: 0.001)
    now = {"s": 0.0}

    def product(a, b):
        now["s"] += 0.004

    monkeypatch.setattr(module.time, "perf_counter", lambda: now["s"])
    slow = dataclasses.replace(FP32, product=product)
    power = module._power([slow], PLAN, CPU, lambda: 2 * now["s"] / 0.004)
    assert power == pytest.approx(2 / 0.004)


def test_the_gemms_of_the_networks_follow_the_batch():
    small, whole = (Plan(fitted=(), batch=b, copy_bytes=1, series_s=1) for b in (8, 128))
    assert whole.held_out[0] == (131_072, 16, 144)
    assert small.held_out[0] == (8_192, 16, 144)
    assert small.held_out[3] == (16, 144, 8_192)


def test_tf32_is_a_mode_of_cuda_devices_alone():
    assert TF32 not in timed_modes(CPU)
    assert FP32 in timed_modes(CPU)


def test_operands_are_of_the_mode():
    a, b = matrices(INT8, 17, 24, 32, CPU)
    assert (a.shape, b.shape, a.dtype, b.stride()) == ((17, 32), (32, 24), torch.int8, (1, 32))
    assert torch.equal(INT8.product(a, b).long(), a.long() @ b.long())


def test_integer_gemms_of_few_rows_are_padded_for_a_cuda_device(monkeypatch):
    # cuBLASLt refuses up to 16 rows; the weight gradient of ResNet-20's first stage has 16.
    assert any(m <= 16 for m, _, _ in Plan(fitted=(), batch=128, copy_bytes=1, series_s=1).held_out)
    right = torch._int_mm  # pyright: ignore[reportPrivateImportUsage]

    def of_cuda(a, b):
        if a.shape[0] <= 16 or a.shape[1] % 8 or b.shape[1] % 8:
            raise RuntimeError(f"cuBLASLt: {a.shape} x {b.shape}")
        return right(a, b)

    monkeypatch.setattr(torch, "_int_mm", of_cuda)
    a, b = matrices(INT8, 16, 144, 2_000, CPU)
    with pytest.raises(RuntimeError, match="cuBLASLt"):
        INT8.product(a, b)
    found = INT8.product(*(_OfCuda(x) for x in (a, b)))
    assert torch.equal(found.as_subclass(torch.Tensor).long(), a.long() @ b.long())


class _OfCuda(torch.Tensor):
    """The CPU's numbers under the name of another device."""

    device = torch.device("cuda")  # pyright: ignore[reportAssignmentType]


def test_precision_is_put_back():
    before = torch.get_float32_matmul_precision()
    a, b = matrices(TF32, 4, 4, 4, CPU)
    TF32.product(a, b)
    assert torch.get_float32_matmul_precision() == before


def test_the_best_series_counts(monkeypatch):
    calls = []
    assert best_time(lambda: calls.append(0), CPU, 0.0) < 1e-3
    assert len(calls) == 2 + 1 + SERIES


def test_times_and_bandwidths_are_positive():
    [gemm] = timed_gemms([FP32], [(8, 8, 8)], CPU, 1e-4, cache_bytes=1 << 14)
    assert gemm.macs == 512
    assert gemm.seconds > 0
    assert copy_bandwidth(CPU, 1 << 16, 1e-4) > 1e6


def test_a_cuda_device_is_described_by_its_properties(monkeypatch):
    from types import SimpleNamespace

    known = SimpleNamespace(multi_processor_count=132, L2_cache_size=50 << 20)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: known)
    device = described(torch.device("cuda"), "NVIDIA H200")
    assert (device.units, device.cache_bytes) == (132, 50 << 20)
    assert "CUDA" in device.measured_with


def test_the_last_cache_is_the_largest_shown(tmp_path):
    for index, size in enumerate(("48K", "2048K", "30M", "odd")):
        (tmp_path / f"index{index}").mkdir()
        (tmp_path / f"index{index}" / "size").write_text(f"{size}\n")
    assert module._last_cache_bytes(tmp_path) == 30 << 20
    assert module._last_cache_bytes(tmp_path / "none") == 2 << 20


def test_a_mode_that_does_not_run_is_left_out_with_its_reason(monkeypatch):
    def refuse(a, b):
        raise RuntimeError("no integer units here\nand more")

    monkeypatch.setattr("hw_models.calibration.modes._in_int8", refuse)
    assert INT8 not in timed_modes(CPU)
    assert int8_refusal(CPU) == "no integer units here"
