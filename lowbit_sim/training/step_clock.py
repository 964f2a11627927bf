"""The time of each training step: by CUDA events on a CUDA device, else by the host's clock.

An event is a mark in the stream of the device's work: the time between two is that in which the device came from one
to the other, whatever the host did meanwhile. Their times are read at the end of an epoch, so that taking them makes
the host wait no more often than the training itself does.
Source: NVIDIA, "CUDA C++ Best Practices Guide", section "Using CUDA GPU Timers".
"""

from __future__ import annotations

import time
from typing import Protocol

import torch


class StepClock(Protocol):
    """Takes the times of steps."""

    def start(self) -> None:
        """A step begins."""
        ...

    def stop(self) -> None:
        """It ends."""
        ...

    def taken(self) -> list[float]:
        """Seconds of the steps since the last call, in order."""
        ...


class HostClock:
    """By the host's clock."""

    def __init__(self) -> None:
        self._seconds: list[float] = []
        self._started = 0.0

    def start(self) -> None:
        """A step begins."""
        self._started = time.perf_counter()

    def stop(self) -> None:
        """It ends."""
        self._seconds.append(time.perf_counter() - self._started)

    def taken(self) -> list[float]:
        """Seconds of the steps since the last call, in order."""
        seconds, self._seconds = self._seconds, []
        return seconds


class CudaClock:
    """By events in the current stream of a CUDA device."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._steps: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []
        self._started: torch.cuda.Event | None = None

    def start(self) -> None:
        """A step begins."""
        self._started = self._mark()

    def stop(self) -> None:
        """It ends."""
        assert self._started is not None, "stop without start"
        self._steps.append((self._started, self._mark()))

    def taken(self) -> list[float]:
        """Seconds of the steps since the last call, in order; waits for the device to come to their end."""
        if self._steps:
            self._steps[-1][1].synchronize()
        seconds = [first.elapsed_time(last) / 1e3 for first, last in self._steps]
        self._steps = []
        return seconds

    def _mark(self) -> torch.cuda.Event:
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self._device))
        return event


def step_clock(device: torch.device) -> StepClock:
    """The clock of a device."""
    return CudaClock(device) if device.type == "cuda" else HostClock()
