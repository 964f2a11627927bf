"""Energy by the machine's own counters: NVML's of a CUDA device, RAPL's of the processor; or why there is none.

    NVML   nvmlDeviceGetTotalEnergyConsumption: mJ of the whole board since the driver was loaded
    RAPL   /sys/class/powercap/intel-rapl:N/energy_uj: uJ of package N, modulo max_energy_range_uj

Both count all that the device does, also for other processes and while it waits. `pynvml` (of nvidia-ml-py) is
optional; on most systems only the superuser may read RAPL's files.
Sources: NVIDIA, "NVML API Reference"; Linux kernel, "Power Capping Framework".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

POWERCAP = Path("/sys/class/powercap")


@dataclass(frozen=True, kw_only=True)
class EnergyMeter:
    """A counter, or the lack of one.

    Attributes:
        how: Which counter it is, in words; where there is none, "not measured: " and why.
        read_j: Joules since some moment in the past, never less than before; None where there is no counter.
    """

    how: str
    read_j: Callable[[], float] | None = None


def energy_meter(device: torch.device) -> EnergyMeter:
    """The counter of a device."""
    if device.type == "cuda":
        return nvml_meter(str(torch.cuda.get_device_properties(device).uuid))
    return rapl_meter() if device.type == "cpu" else _without(f"nothing is known of device {device}")


def _without(why: str) -> EnergyMeter:
    return EnergyMeter(how=f"not measured: {why}")


def nvml_meter(uuid: str) -> EnergyMeter:
    """NVML's counter of the device with a UUID, which no list of visible devices renumbers."""
    try:
        import pynvml  # pyright: ignore[reportMissingImports]
    except ImportError:
        return _without("NVML needs the package nvidia-ml-py, not installed here")
    try:
        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByUUID(uuid if uuid.startswith("GPU-") else f"GPU-{uuid}")
        pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    except pynvml.NVMLError as error:
        return _without(f"NVML: {error}")
    return EnergyMeter(
        how="NVML's total-energy counter, the whole board",
        read_j=lambda: pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1e3,
    )


def rapl_meter(folder: Path = POWERCAP) -> EnergyMeter:
    """The counters of all packages of the processor together.

    Args:
        folder: Where the kernel shows them.
    """
    packages = sorted(folder.glob("intel-rapl:[0-9]*"))
    packages = [
        each for each in packages if each.name.count(":") == 1
    ]  # "intel-rapl:0:1" is a part of package 0
    if not packages:
        return _without("the system shows no energy counter of its processor (RAPL)")
    try:
        counters = [_RaplCounter(package) for package in packages]
    except OSError as error:
        return _without(f"can't read {error.filename} ({error.strerror})")
    return EnergyMeter(
        how="RAPL, all packages of the processor",
        read_j=lambda: sum(counter.read_j() for counter in counters),
    )


class _RaplCounter:
    """A counter that begins anew at its range's end; it must be read more often than it does so."""

    def __init__(self, package: Path) -> None:
        self._file = package / "energy_uj"
        self._range = int((package / "max_energy_range_uj").read_text()) + 1
        self._last, self._total = self._now(), 0

    def read_j(self) -> float:
        now = self._now()
        self._total += (now - self._last) % self._range
        self._last = now
        return self._total / 1e6

    def _now(self) -> int:
        return int(self._file.read_text())
