"""Batch-norm with statistics of the weights as they are, not of those that training went through.

The running mean and variance are m <- (1 - momentum) m + momentum m_batch. Where weights move fast, as with noisy
gradients or a large learning rate, they describe weights of some steps ago, and the evaluation mode then measures
that lag and not the weights. Recalibrated, they are the plain mean over some training batches, with the weights held.

    mean = 1/n sum_i mean_i        var = 1/n sum_i var_i (unbiased), over batches i = 1..n

Source: Izmailov et al., "Averaging Weights Leads to Wider Optima", UAI 2018, section 3.2, which does this for
averaged weights (`torch.optim.swa_utils.update_bn`). Ours leaves every other module in evaluation mode, so that no
quantiser's state, no count and no dropout sees these passes, and puts all of it back.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from lowbit_sim.training.autocast import Autocast, forward
from lowbit_sim.training.device import device_of
from lowbit_sim.training.examples import Examples


def running_norms(model: nn.Module) -> list[_BatchNorm]:
    """The batch-norms of a model that keep running statistics and are not frozen in evaluation mode.

    Args:
        model: In training mode but for what is frozen.
    """
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    return [norm for norm in norms if norm.training and norm.track_running_stats]


@contextmanager
def recalibrated(
    model: nn.Module, batches: Sequence[Examples], *, autocast: Autocast | None = None
) -> Iterator[None]:
    """Inside the block the running statistics are the mean over batches; afterwards everything is as it was.

    Args:
        model: In training mode but for what is frozen; in evaluation mode inside the block.
        batches: Training examples, at least one batch.
        autocast: As in `evaluate`.

    Raises:
        ValueError: No batch.
    """
    if not batches:
        raise ValueError("recalibrated batch-norms need at least one batch of training examples")
    modes = {module: module.training for module in model.modules()}
    norms = running_norms(model)
    kept = [({k: v.clone() for k, v in norm.state_dict().items()}, norm.momentum) for norm in norms]
    try:
        _average(model, norms, batches, autocast)
        yield
    finally:
        for norm, (state, momentum) in zip(norms, kept, strict=True):
            norm.load_state_dict(state)
            norm.momentum = momentum
        for module, training in modes.items():
            module.training = training


def _average(
    model: nn.Module, norms: Sequence[_BatchNorm], batches: Sequence[Examples], autocast: Autocast | None
) -> None:
    device = device_of(model)
    model.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # which makes it the mean over the batches
        norm.train()
    with torch.no_grad():
        for batch in batches:
            forward(model, batch.to(device).inputs, autocast)
    for norm in norms:
        norm.eval()
