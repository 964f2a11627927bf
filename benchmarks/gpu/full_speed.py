"""A native training step as fast as torch makes it: cuDNN times its algorithms, images lie channels last.

Its results are not the same in every run; the step of `training.loop`, which is, is measured beside it.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from lowbit_sim.training.autocast import Autocast, forward
from lowbit_sim.training.step_clock import step_clock


def step_seconds(
    network: nn.Module, batch: int, size: int, number: int, device: torch.device, autocast: Autocast | None
) -> list[float]:
    """Seconds of each of some steps on random images, after one that is not counted.

    Args:
        network: Trained in place.
        batch: Images in a step.
        size: Their height and width.
        number: Steps that count.
        device: Where the network is.
        autocast: The format of its products, or None for float32 without TF32.
    """
    network = network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    images = torch.randn(batch, 3, size, size, device=device).contiguous(memory_format=torch.channels_last)
    targets = torch.randint(10, (batch,), device=device)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9)
    clock = step_clock(device)
    # Products outside cuDNN are in float32 unless someone asked torch for TF32.
    with torch.backends.cudnn.flags(enabled=True, benchmark=True, deterministic=False, allow_tf32=False):
        for _ in range(number + 1):
            clock.start()
            optimizer.zero_grad(set_to_none=True)
            F.cross_entropy(forward(network, images, autocast), targets).backward()
            optimizer.step()
            clock.stop()
        return clock.taken()[1:]
