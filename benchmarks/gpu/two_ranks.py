"""Some steps of data-parallel training on two processes, and the same on one: for gloo on the CPU and NCCL on a GPU.

Each rank takes its half of every batch; `Shard` gives it the whole batch's scales and random bits, and
DistributedDataParallel the mean of both gradients. All scales are powers of two, so that a sum of products times its
scale is exact, and so is the sum of two of them: the weights after any number of steps are those of one process, bit
for bit. The layers have no biases, whose gradients are float sums in the order of the samples, and no batch-norm,
which sees a rank's half alone.
"""

from __future__ import annotations

import os
import tempfile
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed
import torch.nn.functional as F
from torch import Tensor, nn
from torch.multiprocessing.spawn import spawn
from torch.nn.parallel import DistributedDataParallel

import lowbit_sim as lb
from lowbit_sim.nn.sharding import set_shard
from lowbit_sim.ops.shard import Shard

STEPS, BATCH = 4, 8


def model() -> nn.Module:
    """A converted network of convolutions and a linear layer; gradients are rounded stochastically."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(2, 8, 3, padding=1, bias=False),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, stride=2, bias=False),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(72, 5, bias=False),
    )
    spec = lb.OpSpec.uniform(
        lb.INT8,
        scale=lb.PowerOfTwoScale(),
        gradient_rounding=lb.Rounding("stochastic", random_bits=8),
    )
    return lb.convert(network, [lb.Rule("*", spec)], seed=3)


def train(network: nn.Module, part: slice, ranks: int, device: str) -> None:
    """The steps on a part of each batch; the sum of the losses is divided by a power of two."""
    # DistributedDataParallel divides the gradients' sum by the ranks, which the rate takes back.
    optimizer = torch.optim.SGD(network.parameters(), lr=0.5 * ranks)
    for step in range(STEPS):
        generator = torch.Generator().manual_seed(step)
        x = torch.randn(BATCH, 2, 8, 8, generator=generator)[part].to(device)
        y = torch.randint(5, (BATCH,), generator=generator)[part].to(device)
        optimizer.zero_grad()
        (F.cross_entropy(network(x), y, reduction="sum") / BATCH).backward()
        optimizer.step()


def weights_of(network: nn.Module) -> list[Tensor]:
    """All weights, on the CPU."""
    return [p.detach().cpu() for p in network.parameters()]


def of_one_process(device: str) -> list[Tensor]:
    """The weights after the steps on whole batches."""
    network = model().to(device)
    train(network, slice(None), 1, device)
    return weights_of(network)


class RefusedError(RuntimeError):
    """The library that the ranks talk by does not let them: nothing of ours had run."""


def _rank(rank: int, backend: str, device: str, folder: str) -> None:
    torch.set_num_threads(1)
    # Without a network gloo finds no address of its own by the host's name.
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    rendezvous = f"file://{Path(folder) / 'rendezvous'}"
    torch.distributed.init_process_group(
        backend, init_method=rendezvous, rank=rank, world_size=2, timeout=timedelta(seconds=60)
    )
    torch.distributed.all_reduce(torch.ones(1, device=device))
    _joined(Path(folder), rank).touch()
    half = BATCH // 2
    network = model().to(device)
    wrapped = DistributedDataParallel(network)
    set_shard(wrapped, Shard.of(torch.distributed.group.WORLD))
    train(wrapped, slice(rank * half, (rank + 1) * half), 2, device)
    torch.save(weights_of(network), Path(folder) / f"{rank}.pt")
    torch.distributed.destroy_process_group()


def _joined(folder: Path, rank: int) -> Path:
    """A file that says that a rank has exchanged a first number."""
    return folder / f"{rank}.joined"


def of_two_ranks(backend: str, device: str) -> list[list[Tensor]]:
    """The weights of each rank after the steps on halves of the batches.

    Args:
        backend: Of torch.distributed; on a CUDA device "cpu:gloo,cuda:nccl" for NCCL, as counts of elements are
            exchanged between the hosts.
        device: Of both ranks.

    Raises:
        RefusedError: The ranks could not exchange a single number.
    """
    with tempfile.TemporaryDirectory() as folder:
        try:
            spawn(_rank, (backend, device, folder), nprocs=2)
        except Exception as error:
            if any(_joined(Path(folder), rank).exists() for rank in range(2)):
                raise
            raise RefusedError(str(error)) from error
        return [torch.load(Path(folder) / f"{rank}.pt") for rank in range(2)]
