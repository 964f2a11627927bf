"""Whether data-parallel training gives the bits of one process: two gloo ranks, and two NCCL ranks on one GPU.

NCCL refuses two ranks on one device in most releases; then its message is the record.
"""

from __future__ import annotations

import torch

from benchmarks.gpu.task import Record, Task


def two_ranks_on_one_gpu(_: float) -> Record:
    """Weights after some steps on two ranks against those of one process, by NCCL and by gloo."""
    return {"rows": [_row("nccl", "cuda"), _row("gloo", "cuda"), _row("gloo", "cpu")]}


def _row(backend: str, device: str) -> Record:
    from benchmarks.gpu.two_ranks import of_one_process, of_two_ranks

    known = {"backend": backend, "device": device}
    try:
        one, ranks = of_one_process(device), of_two_ranks(backend, device)
    except Exception as error:  # a process of a rank hands on whatever its library raised
        lines = [line for line in str(error).splitlines() if line.strip()]
        return {**known, "allowed": False, "message": " | ".join(lines[-4:])[-1000:]}
    equal = all(torch.equal(a, b) for rank in ranks for a, b in zip(one, rank, strict=True))
    return {**known, "allowed": True, "weights_equal_one_process": equal}


TASKS = [
    Task(
        name="two_ranks_on_one_gpu",
        summary="Data-parallel training on two ranks against one process.",
        seconds=240,
        work=two_ranks_on_one_gpu,
    )
]
