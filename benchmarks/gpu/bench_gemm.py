"""How fast the GEMMs are on this device: multiply-accumulates per second, the proof and the packing included.

Beside the emulated ones stand the library's own: `torch._int_mm`, float32 (TF32 off) and bfloat16 matmul of the same
size. Every emulated result is compared with the CPU's on a small slice of its rows before it is timed.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from benchmarks.gpu.rows import Rows
from benchmarks.gpu.task import Record, Task

if TYPE_CHECKING:
    from lowbit_sim.arith.float_mac import FloatMacUnit
    from lowbit_sim.arith.mac import MacUnit

SIZES = (1024, 2048, 4096)
FLOAT_SIZES = (1024, 2048)

#: Repetitions of a measurement, and seconds after which it ends sooner.
_REPETITIONS = 20
_SECONDS = 3.0

#: Rows of a result that are compared with the CPU's.
_COMPARED = 4


def integer_units() -> dict[str, MacUnit]:
    """What is timed: proven sums first, then those whose order matters."""
    from lowbit_sim.arith.mac import MacUnit

    return {
        "32 bits, proven": MacUnit(),
        "16 bits, saturating": MacUnit(accumulator_bits=16, overflow="saturate"),
        "16 bits in chunks of 32 into 24": MacUnit(
            accumulator_bits=16, overflow="saturate", chunk=32, outer_bits=24
        ),
        "16 bits, wrapping": MacUnit(accumulator_bits=16),
        "32 bits, tree": MacUnit(order="tree"),
        "16 bits, saturating tree in chunks of 32 into 24": MacUnit(
            accumulator_bits=16, overflow="saturate", order="tree", chunk=32, outer_bits=24
        ),
        "40 bits, saturating, at chunks of 64": MacUnit(
            accumulator_bits=16, outer_bits=40, overflow="saturate", overflow_at="chunk", chunk=64
        ),
    }


def float_units() -> dict[str, FloatMacUnit]:
    """A rounding for each addition, with and without random bits, and the machine's float32."""
    from lowbit_sim.arith.float_mac import FloatMacUnit
    from lowbit_sim.numerics.catalog import BF16, FP16
    from lowbit_sim.numerics.rounding import Rounding

    return {
        "float32": FloatMacUnit(),
        "fp16": FloatMacUnit(accumulator=FP16),
        "fp16 in chunks of 64": FloatMacUnit(accumulator=FP16, chunk=64),
        "bf16, 8 random bits": FloatMacUnit(accumulator=BF16, rounding=Rounding("stochastic", random_bits=8)),
    }


def integer_gemms(seconds: float, device: str = "cuda", sizes: tuple[int, ...] = SIZES) -> Record:
    """INT8 operands, all codes alike likely, in every integer unit; overflows counted and not."""
    from lowbit_sim.arith.gemm import run_gemm

    rows = Rows(seconds)
    for size in sizes:
        a, b = (_codes(size, seed, device) for seed in (0, 1))
        for name, work in _library_products(a, b).items():
            rows.add({"gemm": name, "size": size}, partial(_timed, size, work, device))
        for (name, mac), counting in ((u, c) for u in integer_units().items() for c in (True, False)):
            work = partial(run_gemm, a, b, mac, count_overflows=counting)
            on_cpu = partial(run_gemm, a[:_COMPARED].cpu(), b.cpu(), mac)
            known = {"gemm": name, "size": size, "counted": counting}
            rows.add(known, partial(_compared, size, work, on_cpu, device))
    return rows.record(all_equal=_none_differs(rows))


def float_gemms(seconds: float, device: str = "cuda", sizes: tuple[int, ...] = FLOAT_SIZES) -> Record:
    """bfloat16 operands in every floating-point unit."""
    from lowbit_sim.arith.float_gemm import run_float_gemm
    from lowbit_sim.numerics.random import Stream

    rows, stream = Rows(seconds), Stream(seed=0)
    for size in sizes:
        generator = torch.Generator().manual_seed(0)
        a, b = (torch.randn(size, size, generator=generator).bfloat16().float().to(device) for _ in range(2))
        for name, mac in float_units().items():
            work = partial(run_float_gemm, a, b, mac, stream=stream)
            on_cpu = partial(run_float_gemm, a[:_COMPARED].cpu(), b.cpu(), mac, stream=stream)
            rows.add({"gemm": name, "size": size}, partial(_compared, size, work, on_cpu, device))
    return rows.record(all_equal=_none_differs(rows))


def _none_differs(rows: Rows) -> bool:
    """Whether every emulated GEMM ran and equals the CPU's; the library's are not compared."""
    emulated = [row for row in rows.rows if not row["gemm"].startswith("torch")]
    return bool(emulated) and all(row.get("equal", False) for row in emulated)


def _compared(size: int, work: Callable[[], Any], on_cpu: Callable[[], Any], device: str) -> Record:
    result = work()
    equal = torch.equal(result.values[:_COMPARED].cpu(), on_cpu().values)
    return {"backend": result.backend, "equal": equal, **_timed(size, work, device)}


def _codes(size: int, seed: int, device: str) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-127, 128, (size, size), dtype=torch.int8, generator=generator).to(device)


def _library_products(a: Tensor, b: Tensor) -> dict[str, Callable[[], Tensor]]:
    torch.backends.cuda.matmul.allow_tf32 = False
    columns = b.t().contiguous().t()
    wide, half = [x.float() for x in (a, b)], [x.bfloat16() for x in (a, b)]
    return {
        "torch._int_mm": lambda: torch._int_mm(a, columns),  # pyright: ignore[reportPrivateImportUsage]
        "torch float32": lambda: wide[0] @ wide[1],
        "torch bfloat16": lambda: half[0] @ half[1],
    }


def _timed(size: int, work: Callable[[], Any], device: str) -> Record:
    seconds = seconds_of(work, device)
    return {
        "median_s": statistics.median(seconds),
        "min_s": min(seconds),
        "repetitions": len(seconds),
        "tera_macs_per_s": size**3 / statistics.median(seconds) / 1e12,
    }


def seconds_of(work: Callable[[], Any], device: str) -> list[float]:
    """Seconds of each repetition, after one that compiles, by CUDA events where there is a device to time."""
    work()
    started, seconds = time.monotonic(), []
    while len(seconds) < _REPETITIONS and (not seconds or time.monotonic() - started < _SECONDS):
        seconds.append(_once_on_cuda(work) if device == "cuda" else _once(work))
    return seconds


def _once(work: Callable[[], Any]) -> float:
    before = time.perf_counter()
    work()
    return time.perf_counter() - before


def _once_on_cuda(work: Callable[[], Any]) -> float:
    before, after = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    before.record()
    work()
    after.record()
    torch.cuda.synchronize()
    return before.elapsed_time(after) / 1e3


TASKS = [
    Task(
        name="gemm_speed_integer",
        summary="T MAC/s of integer accumulators, beside the library's products.",
        seconds=120,
        work=integer_gemms,
        needs=("numba", "triton"),
    ),
    Task(
        name="gemm_speed_float",
        summary="T MAC/s of floating-point accumulators.",
        seconds=120,
        work=float_gemms,
        needs=("numba", "triton"),
    ),
]
