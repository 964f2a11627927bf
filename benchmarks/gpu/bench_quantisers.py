"""The quantisers' bandwidth on this device, against copying a tensor from device memory to device memory.

A copy reads and writes 4 bytes an element; rounding with a given scale reads 4 and writes the code's bytes; a whole
quantiser reads the tensor once more for its largest magnitude.

Roundings are timed twice: the kernel alone, launched many times between two events, and `to_codes` around it, call by
call. The goal is 0.6 of the copy's bytes a second for the kernel, on a tensor far beyond the caches.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

import lowbit_sim as lb
from benchmarks.gpu.rows import Rows
from benchmarks.gpu.task import Record, Task
from lowbit_sim.numerics.catalog import parse_format
from lowbit_sim.numerics.formats import BlockFormat, ElementFormat
from lowbit_sim.quant.codes import to_codes
from lowbit_sim.quant.qtensor import code_dtype
from lowbit_sim.quant.regions import by_run, run_of

GOAL = 0.6

#: Launches of a kernel between two events.
LAUNCHES = 20

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
    seconds: float, device: str = "cuda", sizes: tuple[int, ...] = (2**28, 2**24), rounds: int = 30
) -> Record:
    """Bytes a second of every rounding and quantiser, and their ratio to a copy's.

    The first size is the one that is judged.
    """
    rows = Rows(seconds)
    for size in sizes:
        x = torch.randn(64, size // 64, device=device)
        target = torch.empty_like(x)
        copy = 8 * size / shortest(lambda x=x, target=target: target.copy_(x), device, rounds)
        rows.add({"elements": size, "work": "copy"}, lambda copy=copy: {"bytes_per_s": copy})
        for name, granularity, rounding in ROUNDINGS:
            known = {"elements": size, "work": _name(name, granularity, rounding)}
            rows.add(known, partial(_rounding, x, name, granularity, rounding, copy, device, rounds))
        for quantizer in QUANTIZERS:
            known = {"elements": size, "work": f"quantizer {quantizer}"}
            rows.add(known, partial(_quantizer, x, quantizer, copy, device, rounds))
    goals = [row for row in rows.rows if row["elements"] == sizes[0] and row["work"] in _GOALS]
    reached = all(row.get("kernel_over_copy", 0) >= GOAL for row in goals)
    return rows.record(goal=GOAL, reached=reached)


def _rounding(
    x: Tensor, name: str, granularity: Any, rounding: lb.Rounding, copy: float, device: str, rounds: int
) -> Record:
    """A rounding with a given scale: the kernel alone, and the function that users call."""
    fmt, stream = parse_format(name), lb.Stream(seed=1)
    assert not isinstance(fmt, BlockFormat)
    scale = lb.Quantizer(fmt, granularity=granularity)(x).scale
    moved = (4 + code_dtype(fmt).itemsize) * x.numel()
    whole = partial(to_codes, x, scale, None, granularity, fmt, rounding, stream)
    kernel = _kernel(x, scale, granularity, fmt, rounding, stream)
    times = {"": shortest(whole, device, rounds), "kernel_": shortest(kernel, device, rounds, LAUNCHES)}
    return {
        f"{which}{key}": moved / seconds / by
        for which, seconds in times.items()
        for key, by in (("bytes_per_s", 1.0), ("over_copy", copy))
    }


def _kernel(
    x: Tensor, scale: Tensor, granularity: Any, fmt: ElementFormat, rounding: lb.Rounding, stream: lb.Stream
) -> partial[None]:
    """The launch that `to_codes` ends in, with everything before it done once."""
    from lowbit_sim.numerics.triton.launch import encode_on_device

    shape = tuple(x.shape)
    inv, run = by_run(scale.reciprocal(), granularity, shape), run_of(granularity, shape)
    codes = torch.empty(x.numel(), dtype=code_dtype(fmt), device=x.device)
    return partial(encode_on_device, x.reshape(-1), inv, None, run, fmt, rounding, stream, codes)


def _quantizer(x: Tensor, quantizer: lb.Quantizer, copy: float, device: str, rounds: int) -> Record:
    reached = 9 * x.numel() / shortest(partial(quantizer, x, stream=lb.Stream(seed=1)), device, rounds)
    return {"bytes_per_s": reached, "over_copy": reached / copy}


def _name(name: str, granularity: Any, rounding: lb.Rounding) -> str:
    return f"{name}, {granularity}, {rounding.mode}"


#: Whose kernels have a goal.
_GOALS = (_name(*ROUNDINGS[0]), _name(*ROUNDINGS[1]))


def shortest(work: Callable[[], Any], device: str, rounds: int, launches: int = 1) -> float:
    """Seconds of a piece of work in the shortest of some rounds of so many, on the device's clock."""
    for _ in range(3):
        work()
    if device == "cpu":
        return min(_elapsed(work, launches) for _ in range(rounds)) / launches
    marks = [[torch.cuda.Event(enable_timing=True) for _ in range(2)] for _ in range(rounds)]
    for start, stop in marks:
        start.record()
        for _ in range(launches):
            work()
        stop.record()
    torch.cuda.synchronize()
    return min(start.elapsed_time(stop) for start, stop in marks) / 1e3 / launches


def _elapsed(work: Callable[[], Any], launches: int) -> float:
    started = time.perf_counter()
    for _ in range(launches):
        work()
    return time.perf_counter() - started


TASKS = [
    Task(
        name="quantiser_bandwidth",
        summary="Bandwidth of quantisers against a device-to-device copy.",
        seconds=120,
        work=bandwidth,
        needs=("triton", "numba"),
    )
]
