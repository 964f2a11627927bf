import sys
from types import SimpleNamespace

import pytest
import torch

from lowbit_sim.training.energy import energy_meter, nvml_meter, rapl_meter


class NVMLError(Exception):
    pass


def fake_nvml(monkeypatch, *, error: str = "", millijoules=(1000, 3500)):
    """NVML with one device, whose counter gives these values after the first look at it."""
    asked, values = [], iter([0, *millijoules])

    def read(handle):
        if error:
            raise NVMLError(error)
        return next(values)

    fake = SimpleNamespace(
        NVMLError=NVMLError,
        nvmlInit=lambda: None,
        nvmlDeviceGetHandleByUUID=lambda uuid: asked.append(uuid) or "handle",
        nvmlDeviceGetTotalEnergyConsumption=read,
    )
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    return asked


def test_nvml_counts_millijoules_of_the_device_with_a_uuid(monkeypatch):
    asked = fake_nvml(monkeypatch)
    meter = nvml_meter("abc")
    assert meter.read_j is not None
    assert (meter.read_j(), meter.read_j()) == (1.0, 3.5)
    assert asked == ["GPU-abc"]
    assert "NVML" in meter.how


def test_a_cuda_device_is_found_by_its_own_uuid(monkeypatch):
    asked = fake_nvml(monkeypatch)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid="GPU-7"))
    energy_meter(torch.device("cuda"))
    assert asked == ["GPU-7"]


def test_without_the_package_or_the_counter_the_reason_is_said(monkeypatch):
    fake_nvml(monkeypatch, error="Not Supported")
    assert nvml_meter("x").how == "not measured: NVML: Not Supported"
    monkeypatch.setitem(sys.modules, "pynvml", None)
    meter = nvml_meter("x")
    assert meter.read_j is None
    assert meter.how == "not measured: NVML needs the package nvidia-ml-py, not installed here"


def package(folder, number: str, microjoules: int, limit: int = 999):
    path = folder / f"intel-rapl:{number}"
    path.mkdir(parents=True)
    (path / "energy_uj").write_text(f"{microjoules}\n")
    (path / "max_energy_range_uj").write_text(f"{limit}\n")
    return path / "energy_uj"


def test_rapl_adds_packages_and_goes_on_where_a_counter_begins_anew(tmp_path):
    first, second = package(tmp_path, "0", 900), package(tmp_path, "1", 10)
    package(tmp_path, "0:0", 5)  # a part of the first package
    meter = rapl_meter(tmp_path)
    assert meter.read_j is not None
    assert meter.read_j() == 0
    first.write_text("100")
    second.write_text("60")
    assert meter.read_j() == pytest.approx((200 + 50) / 1e6)


def test_a_processor_without_a_counter_says_so(tmp_path):
    meter = rapl_meter(tmp_path)
    assert meter.read_j is None
    assert meter.how.startswith("not measured: the system shows no energy counter")


def test_a_counter_that_can_t_be_read_is_named(tmp_path):
    package(tmp_path, "0", 1).unlink()
    assert rapl_meter(tmp_path).how.startswith("not measured: can't read ")


def test_other_devices_have_none():
    assert energy_meter(torch.device("meta")).read_j is None
