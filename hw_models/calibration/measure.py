"""Measures a device: GEMMs in each mode, a copy, and its power; and fits a machine to them, reading no profiles.

The GEMMs that fix the numbers are cubes, small and large; those that are to be predicted are the ones of a training
step of ResNet-20 and of VGG-16 on 32x32 images (all three roles), and two that are neither.
"""

from __future__ import annotations

import platform
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from hw_models.calibration.fit import fit
from hw_models.calibration.modes import TimedMode, int8_refusal, matrices, timed_modes
from hw_models.calibration.profile_text import Device, profile_text
from hw_models.calibration.timing import Shape, TimedGemm, best_time, copy_bandwidth, timed_gemms

#: A counter of energy: joules since some moment; None where there is none.
ReadEnergy = Callable[[], float] | None

#: GEMMs of training on 32x32 images, (M, N, K) for a batch of 128; M or K of a smaller batch is that much smaller.
_OF_NETWORKS: tuple[tuple[str, Shape], ...] = (
    ("rows", (131_072, 16, 144)),  # ResNet-20, first stage: output and grad_input
    ("rows", (32_768, 32, 288)),
    ("rows", (8_192, 64, 576)),
    ("reduction", (16, 144, 131_072)),  # its grad_weight
    ("reduction", (64, 576, 8_192)),
    ("rows", (131_072, 64, 576)),  # VGG-16: output and grad_input
    ("rows", (8_192, 256, 2_304)),
    ("rows", (2_048, 512, 4_608)),
    ("reduction", (256, 2_304, 8_192)),  # its grad_weight
    ("reduction", (512, 4_608, 2_048)),
)
_OTHERS: tuple[Shape, ...] = ((1_024, 4_096, 256), (768, 768, 3_072))


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is timed.

    Attributes:
        fitted: GEMMs that fix the numbers.
        batch: Images of the networks' GEMMs.
        copy_bytes: Size of the copy, far beyond the caches.
        series_s: Seconds that a series of repetitions takes at least.
    """

    fitted: tuple[Shape, ...]
    batch: int
    copy_bytes: int
    series_s: float

    @property
    def held_out(self) -> tuple[Shape, ...]:
        """GEMMs that are predicted."""
        return (*(_at_batch(kind, shape, self.batch) for kind, shape in _OF_NETWORKS), *_OTHERS)


GPU_PLAN = Plan(
    fitted=((32, 32, 32), (4_096, 4_096, 4_096), (8_192, 8_192, 8_192)),
    batch=128,
    copy_bytes=1 << 30,
    series_s=0.02,
)
CPU_PLAN = Plan(
    fitted=((32, 32, 32), (512, 512, 512), (1_024, 1_024, 1_024)),
    batch=8,
    copy_bytes=1 << 28,
    series_s=0.02,
)


def _at_batch(kind: str, shape: Shape, batch: int) -> Shape:
    rows, columns, reduction = shape
    if kind == "rows":
        return rows * batch // 128, columns, reduction
    return rows, columns, reduction * batch // 128


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """What was measured of a device, and the profile that was fitted to it.

    Attributes:
        device: The device.
        modes: Its modes that were timed.
        fitted: The GEMMs that fix the numbers.
        held_out: The GEMMs that are to be predicted.
        copy_bytes_per_second: Bandwidth of a copy, read and written.
        power_w: Power under load, or None where it was not measured.
        profile: The profile's text.
        int8_left_out: Why INT8 was not timed, or None where it was.
    """

    device: Device
    modes: tuple[TimedMode, ...]
    fitted: tuple[TimedGemm, ...]
    held_out: tuple[TimedGemm, ...]
    copy_bytes_per_second: float
    power_w: float | None
    profile: str
    int8_left_out: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain dicts, lists, strings and numbers, for JSON."""
        return {
            **self.summary(),
            "gemms": [
                gemm_row(gemm, held_out=held_out)
                for held_out, gemms in ((False, self.fitted), (True, self.held_out))
                for gemm in gemms
            ],
            "profile": self.profile,
        }

    def summary(self) -> dict[str, Any]:
        """What is not a GEMM."""
        return {
            "device": self.device.name,
            "units": self.device.units,
            "measured_with": self.device.measured_with,
            "modes": [mode.name for mode in self.modes],
            "int8_left_out": self.int8_left_out,
            "copy_bytes_per_second": self.copy_bytes_per_second,
            "power_w": self.power_w,
        }


def gemm_row(gemm: TimedGemm, *, held_out: bool) -> dict[str, Any]:
    """A GEMM's row of a record."""
    rows, columns, reduction = gemm.shape
    return {
        "mode": gemm.mode,
        "m": rows,
        "n": columns,
        "k": reduction,
        "held_out": held_out,
        "measured_s": gemm.seconds,
    }


def measure(
    device: torch.device, hardware: str, *, plan: Plan | None = None, read_energy: ReadEnergy = None
) -> Measurement:
    """Time the plan's GEMMs on a device and fit a profile to the first of them.

    Args:
        device: The device.
        hardware: Its name.
        plan: What is timed; by default what fits a CPU, or a GPU.
        read_energy: Its counter of energy, if it has one.

    Raises:
        ValueError: Times that fix no machine: see `fit.fit`.
    """
    plan = plan or (GPU_PLAN if device.type == "cuda" else CPU_PLAN)
    modes = timed_modes(device)
    known = described(device, hardware)
    fitted = timed_gemms(modes, plan.fitted, device, plan.series_s, known.cache_bytes)
    bandwidth = copy_bandwidth(device, plan.copy_bytes, plan.series_s)
    power = _power(modes, plan, device, read_energy)
    return Measurement(
        device=known,
        modes=modes,
        fitted=tuple(fitted),
        held_out=tuple(timed_gemms(modes, plan.held_out, device, plan.series_s, known.cache_bytes)),
        copy_bytes_per_second=bandwidth,
        power_w=power,
        profile=profile_text(known, fit(fitted, bandwidth, power), modes),
        int8_left_out=int8_refusal(device),
    )


def described(device: torch.device, hardware: str) -> Device:
    """What is known of a device."""
    versions = f"{datetime.now(UTC):%Y-%m-%d}, torch {torch.__version__}, Python {platform.python_version()}"
    if device.type != "cuda":
        return Device(
            name=hardware,
            units=torch.get_num_threads(),
            cache_bytes=_last_cache_bytes(),
            measured_with=versions,
        )
    known = torch.cuda.get_device_properties(device)
    return Device(
        name=hardware,
        units=known.multi_processor_count,
        cache_bytes=known.L2_cache_size,
        measured_with=f"{versions}, CUDA {torch.version.cuda}",
    )


_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20}


def _last_cache_bytes(folder: Path = Path("/sys/devices/system/cpu/cpu0/cache")) -> int:
    """Capacity of the processor's last cache as the system shows it; 2 MiB where it shows none."""
    sizes = []
    for index in sorted(folder.glob("index*/size")):
        match = re.fullmatch(r"(\d+)([KM]?)", index.read_text().strip())
        if match is not None:
            sizes.append(int(match[1]) * _UNITS[match[2]])
    return max(sizes, default=2 << 20)


def _power(
    modes: Sequence[TimedMode], plan: Plan, device: torch.device, read_energy: ReadEnergy
) -> float | None:
    """Power while the largest GEMM of the narrowest float mode runs: energy over the time between two readings."""
    if read_energy is None:
        return None
    mode = min((m for m in modes if m.kind == "float"), key=lambda m: m.operand_bits)
    a, b = matrices(mode, *plan.fitted[-1], device)
    once = best_time(lambda: mode.product(a, b), device, plan.series_s)
    repetitions = max(1, int(_POWER_SECONDS / once))
    _wait(device)
    started_s, before_j = time.perf_counter(), read_energy()
    for _ in range(repetitions):
        mode.product(a, b)
    _wait(device)
    # A throttled device takes longer than its best series: only the time that passed belongs to the energy.
    return (read_energy() - before_j) / (time.perf_counter() - started_s)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


#: Seconds of load for a reading of power: counters move every few tens of milliseconds.
_POWER_SECONDS = 2.0
