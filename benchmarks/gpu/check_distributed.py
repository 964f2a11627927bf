"""Whether data-parallel training gives the bits of one process: two gloo ranks, and two NCCL ranks on one GPU.

NCCL refuses two ranks on one device in most releases; then its message is the record. It comes last, as it may
also wait for ever.
"""

from __future__ import annotations

from functools import partial

import torch

from benchmarks.gpu.rows import Rows
from benchmarks.gpu.task import Record, Task

#: Backend and device; hosts exchange counts of elements, so that NCCL has gloo beside it.
WAYS = (("gloo", "cpu"), ("gloo", "cuda"), ("cpu:gloo,cuda:nccl", "cuda"))


def two_ranks_on_one_gpu(seconds: float) -> Record:
    """Weights after some steps on two ranks against those of one process, by gloo and by NCCL."""
    rows = Rows(seconds)
    for backend, device in WAYS:
        rows.add({"backend": backend, "device": device}, partial(_compared, backend, device))
    ran = [row for row in rows.rows if "refused" not in row]
    return rows.record(all_equal=bool(ran) and all(row.get("equal", False) for row in ran))


def _compared(backend: str, device: str) -> Record:
    """Whether the weights of both ranks are those of one process; or how the library refused the ranks."""
    from benchmarks.gpu.two_ranks import RefusedError, of_one_process, of_two_ranks

    try:
        one, ranks = of_one_process(device), of_two_ranks(backend, device)
    except RefusedError as error:
        return {"refused": _end_of(error)}
    except Exception as error:  # a process of a rank hands on whatever was raised in it
        return {"failed": _end_of(error)}
    return {"equal": all(torch.equal(a, b) for rank in ranks for a, b in zip(one, rank, strict=True))}


def _end_of(error: Exception) -> str:
    """The last lines of a rank's message, below its trace."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return " | ".join(lines[-4:])[-1000:]


TASKS = [
    Task(
        name="two_ranks_on_one_gpu",
        summary="Data-parallel training on two ranks against one process.",
        seconds=150,
        work=two_ranks_on_one_gpu,
    )
]
