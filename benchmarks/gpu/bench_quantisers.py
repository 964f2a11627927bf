"""The quantisers' bandwidth on this device, against copying a tensor from device memory to device memory.

A copy reads and writes 4 bytes an element; rounding with a given scale reads 4 and writes the code's bytes; a whole
quantiser reads the tensor once more for its largest magnitude. The goal is 0.6 of the copy's bytes a second.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

import lowbit_sim as lb
from benchmarks.gpu.task import Record, Task
from lowbit_sim.numerics.catalog import parse_format
from lowbit_sim.numerics.formats import BlockFormat
from lowbit_sim.quant.codes import to_codes
from lowbit_sim.quant.qtensor import code_dtype

GOAL = 0.6

_STOCHASTIC = lb.Rounding("stochastic", random_bits=8)

#: Rounding with a given scale: format, granularity, rounding; the tensor is [64, elements / 64].
ROUNDINGS = (
    ("int8", lb.PerTensor(), lb.Rounding()),
    ("int8", lb.PerTensor(), _STOCHASTIC),
    ("int8", lb.PerAxis(0), lb.Rounding()),
    ("int8", lb.PerBlock(32), lb.Rounding()),
    ("int4", lb.PerTensor(), _STOCHASTIC),
    ("fp8_e4m3fn", lb.PerTensor(), lb.Rounding()),
    ("fp8_e5m2", lb.PerTensor(), _STOCHASTIC),
    ("log4_radix2", lb.PerTensor(), _STOCHASTIC),
    ("bf16", lb.PerTensor(), lb.Rounding()),
)

#: Whole quantisers, which find their scales.
QUANTIZERS = (
    lb.Quantizer(parse_format("int8")),
    lb.Quantizer(parse_format("int8"), rounding=_STOCHASTIC),
    lb.Quantizer(parse_format("int8"), granularity=lb.PerAxis(0)),
    lb.Quantizer(parse_format("mxfp8_e4m3")),
    lb.Quantizer(parse_format("nvfp4")),
)


def bandwidth(
    _: float, device: str = "cuda", sizes: tuple[int, ...] = (2**24, 2**28), rounds: int = 30
) -> Record:
    """Bytes a second of every rounding and quantiser, and their ratio to a copy's."""
    rows = []
    for size in sizes:
        x = torch.randn(64, size // 64, device=device)
        target = torch.empty_like(x)
        copy = 8 * size / shortest(lambda x=x, target=target: target.copy_(x), device, rounds)
        rows.append({"elements": size, "work": "copy", "bytes_per_s": copy})
        for name, work, moved in _works(x):
            reached = moved / shortest(work, device, rounds)
            row = {"elements": size, "work": name, "bytes_per_s": reached, "over_copy": reached / copy}
            rows.append(row)
    goals = [row for row in rows if row["work"] in (_name(*ROUNDINGS[0]), _name(*ROUNDINGS[1]))]
    return {"rows": rows, "goal": GOAL, "reached": all(row["over_copy"] >= GOAL for row in goals)}


def _works(x: Tensor) -> list[tuple[str, Callable[[], Any], int]]:
    """Name, work and moved bytes."""
    stream, found = lb.Stream(seed=1), []
    for name, granularity, rounding in ROUNDINGS:
        fmt = parse_format(name)
        assert not isinstance(fmt, BlockFormat)
        scale = lb.Quantizer(fmt, granularity=granularity)(x).scale
        work = partial(to_codes, x, scale, None, granularity, fmt, rounding, stream)
        moved = (4 + code_dtype(fmt).itemsize) * x.numel()
        found.append((_name(name, granularity, rounding), work, moved))
    for quantizer in QUANTIZERS:
        found.append((f"quantizer {quantizer}", partial(quantizer, x, stream=stream), 9 * x.numel()))
    return found


def _name(name: str, granularity: Any, rounding: lb.Rounding) -> str:
    return f"{name}, {granularity}, {rounding.mode}"


def shortest(work: Callable[[], Any], device: str, rounds: int) -> float:
    """Seconds of the shortest of some rounds, on the device's clock."""
    for _ in range(3):
        work()
    if device == "cpu":
        return min(_elapsed(work) for _ in range(rounds))
    marks = [[torch.cuda.Event(enable_timing=True) for _ in range(2)] for _ in range(rounds)]
    for start, stop in marks:
        start.record()
        work()
        stop.record()
    torch.cuda.synchronize()
    return min(start.elapsed_time(stop) for start, stop in marks) / 1e3


def _elapsed(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


TASKS = [
    Task(
        name="quantiser_bandwidth",
        summary="Bandwidth of quantisers against a device-to-device copy.",
        seconds=300,
        work=bandwidth,
        needs=("triton", "numba"),
    )
]
