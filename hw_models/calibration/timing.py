"""Times of GEMMs and copies on a device: repeated back to back as a training step runs them, the best of some series.

Operands come from the memory outside, as a profile has it: so many copies of them take turns that no cache holds
all. On a CUDA device by events around a series, on a CPU by the host's clock. The best, not the mean: what else the
machine does only ever makes a series longer.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Any

import torch

from hw_models.calibration.modes import TimedMode, matrices

#: Series of each measurement.
SERIES = 7

#: Copies of a GEMM's operands; smaller GEMMs than these can keep out of a cache only show what starting one takes.
MOST_COPIES = 64

Shape = tuple[int, int, int]


@dataclass(frozen=True, kw_only=True)
class TimedGemm:
    """A GEMM that was timed.

    Attributes:
        mode: Name of its mode.
        shape: M, N, K.
        seconds: Its time.
    """

    mode: str
    shape: Shape
    seconds: float

    @property
    def macs(self) -> int:
        """Multiply-accumulates."""
        rows, columns, reduction = self.shape
        return rows * columns * reduction


def timed_gemms(
    modes: Sequence[TimedMode],
    shapes: Sequence[Shape],
    device: torch.device,
    series_s: float,
    cache_bytes: int = 0,
) -> list[TimedGemm]:
    """Every shape in every mode.

    Args:
        modes: The modes.
        shapes: (M, N, K) of each GEMM.
        device: The device.
        series_s: Seconds that a series takes at least.
        cache_bytes: Capacity of the caches that operands are not to stay in.
    """
    found = []
    for mode in modes:
        for rows, columns, reduction in shapes:
            size = (rows + columns) * reduction * mode.stored_bits // 8
            copies = min(MOST_COPIES, 1 + 2 * cache_bytes // size)
            a, b = matrices(mode, rows, columns, reduction, device)
            # A copy keeps the strides of a matrix that lies by columns.
            turns = cycle([(a, b), *((a.clone(), b.clone()) for _ in range(copies - 1))])
            seconds = best_time(lambda turns=turns, mode=mode: mode.product(*next(turns)), device, series_s)
            found.append(TimedGemm(mode=mode.name, shape=(rows, columns, reduction), seconds=seconds))
    return found


def copy_bandwidth(device: torch.device, size_bytes: int, series_s: float) -> float:
    """Bytes read and written in a second by a copy of so many bytes within the device's memory."""
    source = torch.ones(size_bytes, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * size_bytes / best_time(lambda: target.copy_(source), device, series_s)


def best_time(work: Callable[[], Any], device: torch.device, series_s: float) -> float:
    """Seconds of a piece of work within the best series of repetitions.

    Args:
        work: What is repeated.
        device: Where it runs.
        series_s: Seconds that a series takes at least.
    """
    for _ in range(2):
        work()
    once = max(_series(work, 1, device), 1e-7)
    repetitions = max(1, min(1000, int(series_s / once)))
    return min(_series(work, repetitions, device) for _ in range(SERIES)) / repetitions


def _series(work: Callable[[], Any], repetitions: int, device: torch.device) -> float:
    if device.type != "cuda":
        start = time.perf_counter()
        for _ in range(repetitions):
            work()
        return time.perf_counter() - start
    first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    first.record()
    for _ in range(repetitions):
        work()
    last.record()
    last.synchronize()
    return first.elapsed_time(last) / 1e3
