"""A batch in slices over processes: each rank computes the bits that one process would on the whole batch.

Rank r holds consecutive samples, after those of the ranks before it. For every tensor that leads with the batch

* stochastic rounding counts elements from the slice's place in the whole, so an element draws the same random bits;
* scales whose region reaches over samples come from the maximum over all ranks (`quant.slices`).

Then every rank's slices of an operator's output and of its input's gradient are, bit for bit, those of one process.
The gradient of the weight is the exact emulated GEMM of the rank's own samples. Whoever adds the ranks' gradients up
(DistributedDataParallel, in float32) gets that of one process only where no addition rounds and no accumulator
overflows. Not bit-equal either: stochastic accumulators of block-scaled GEMMs (ranks draw bits of their own),
quantising along the batch after a transform or in blocks, and what native modules do over a batch (batch-norm).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed
from torch import Tensor

from lowbit_sim.numerics.whole import is_whole

#: Where the random bits of a rank's accumulators start that have no place of their own in the whole.
_RANK_STRIDE = 1 << 52


@dataclass(frozen=True, kw_only=True)
class Shard:
    """One rank's part in a batch.

    The ranks call collective operations while operators run, in the order in which those run: every rank must run
    the same model on the same kind of batch. A group of its own keeps them apart from the gradients' reduction.

    Args:
        rank: This process' number, which orders the slices.
        size: Number of processes, at most 512.
        group: A torch.distributed process group with a CPU backend, beside NCCL "cpu:gloo,cuda:nccl"; None for the
            default group.

    Raises:
        ValueError: A rank or size out of range.
    """

    rank: int
    size: int
    group: Any = None

    def __post_init__(self) -> None:
        if not is_whole(self.size, 1, 512):
            raise ValueError(f"a batch has from 1 to 512 shards, got size={self.size!r}")
        if not is_whole(self.rank, 0, self.size - 1):
            raise ValueError(f"a rank is from 0 to {self.size - 1}, got rank={self.rank!r}")

    @staticmethod
    def of(group: Any = None) -> Shard:
        """This process' shard in an initialised process group.

        Raises:
            RuntimeError: torch.distributed is not initialised, or the group has no backend for the CPU.
        """
        if not torch.distributed.is_initialized():
            raise RuntimeError("there is no process group: call torch.distributed.init_process_group first")
        if "cpu:" not in (backend := torch.distributed.get_backend_config(group)):
            raise RuntimeError(
                f"ranks exchange counts of elements on the CPU, for which the group ({backend}) has no backend: "
                'call init_process_group("cpu:gloo,cuda:nccl")'
            )
        return Shard(
            rank=torch.distributed.get_rank(group), size=torch.distributed.get_world_size(group), group=group
        )

    def __deepcopy__(self, memo: dict[int, Any]) -> Shard:
        return self  # a copy of a model is in the same group of processes

    def place(self, count: int) -> tuple[int, int]:
        """Where this rank's elements (or rows) start in the whole, and how many the whole has.

        Args:
            count: How many this rank has.
        """
        mine = torch.tensor([count])
        counts = [torch.empty_like(mine) for _ in range(self.size)]
        torch.distributed.all_gather(counts, mine, group=self.group)
        each = [int(n) for n in counts]
        return sum(each[: self.rank]), sum(each)

    def reduce_max(self, x: Tensor) -> Tensor:
        """The element-wise maximum over the ranks."""
        largest = x.clone()
        torch.distributed.all_reduce(largest, torch.distributed.ReduceOp.MAX, group=self.group)
        return largest

    def own_bits(self) -> int:
        """An offset into a stream from which this rank alone draws."""
        return self.rank * _RANK_STRIDE
