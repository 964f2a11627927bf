"""What an epoch's training steps take beside time: energy and memory, and how each is measured here."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from lowbit_sim.training.energy import EnergyMeter, energy_meter

_NO_MEMORY = "not measured: a process on the CPU keeps what it once took, so that arms can't be told apart"


@dataclass(frozen=True, kw_only=True)
class Usage:
    """What the steps of an epoch took.

    Attributes:
        energy_j: Energy of the device, or None where it has no counter.
        peak_memory_bytes: The most that tensors held on a CUDA device at once; None elsewhere.
    """

    energy_j: float | None = None
    peak_memory_bytes: int | None = None


class UsageMeter:
    """Measures from `start` to `stop`."""

    def __init__(self, device: torch.device, energy: EnergyMeter | None = None) -> None:
        self._device = device
        self._energy = energy or energy_meter(device)
        self._before_j = 0.0

    def start(self) -> None:
        """Steps begin."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
            torch.cuda.reset_peak_memory_stats(self._device)
        self._before_j = self._read_j() or 0.0

    def stop(self) -> Usage:
        """They ended."""
        on_cuda = self._device.type == "cuda"
        if on_cuda:
            torch.cuda.synchronize(self._device)
        after_j = self._read_j()
        return Usage(
            energy_j=None if after_j is None else after_j - self._before_j,
            peak_memory_bytes=torch.cuda.max_memory_allocated(self._device) if on_cuda else None,
        )

    def _read_j(self) -> float | None:
        return None if self._energy.read_j is None else self._energy.read_j()


def measured_how(device: torch.device) -> dict[str, str]:
    """How time, energy and memory of a device's steps are measured, in words, or why they are not."""
    on_cuda = device.type == "cuda"
    return {
        "time": "CUDA events" if on_cuda else "the host's clock",
        "energy": energy_meter(device).how,
        "memory": "the most that torch's tensors held at once" if on_cuda else _NO_MEMORY,
    }
