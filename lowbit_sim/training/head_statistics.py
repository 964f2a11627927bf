"""What a classifier's last layer does before the first step: SAT's rule I in numbers.

    logit variance   n_L VAR[X] / kappa^2, of the weights X that are multiplied: far below 1, says the rule
    entropy          of the softmax, over log(classes): 1 where all classes are alike, 0 where it is saturated
    gradient norm    of the loss at the n_L features, the mean over the batch: what the layers before are given

The weights are drawn from N(0, 1 / n_out), the features are the means of kappa x kappa rectified standard normal
numbers: what a batch-norm, an activation and an average pool give a head at the start, were pixels independent. Both
choices are ours; with them the logit variance of plain weights is n_L / (n_out kappa^2).

Source of the rule: Jin, Yang and Liao, arXiv 1912.10207.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from lowbit_sim.nn.rescaled_weight import RescaledWeight, WeightRescaling
from lowbit_sim.quant.dorefa_weights import variance


@dataclass(frozen=True, kw_only=True)
class Head:
    """The last layer of a classifier.

    Args:
        inputs: n_L.
        outputs: n_out, the classes.
        pool: kappa, height and width of the pool in front of it; 1 for none.
    """

    inputs: int
    outputs: int
    pool: int = 1


#: The heads of networks for ImageNet.
IMAGENET_HEADS = {
    "ResNet-18": Head(inputs=512, outputs=1000, pool=7),
    "MobileNet-V1": Head(inputs=1024, outputs=1000, pool=7),
    "MobileNet-V2": Head(inputs=1280, outputs=1000, pool=7),
    "ResNet-50": Head(inputs=2048, outputs=1000, pool=7),
}


@dataclass(frozen=True, kw_only=True)
class HeadStatistics:
    """The numbers of the module's docstring.

    Attributes:
        logit_variance, entropy, gradient_norm: See the module.
        loss: The mean cross-entropy with labels drawn alike.
    """

    logit_variance: float
    entropy: float
    gradient_norm: float
    loss: float


def statistics_at_the_start(
    head: Head, rescaling: WeightRescaling | None, *, batch: int = 128, seed: int = 0
) -> HeadStatistics:
    """The statistics of a head with fresh weights.

    Args:
        head: Its sizes.
        rescaling: What is done to its weights; None for plain ones.
        batch: Examples.
        seed: Of weights, features and labels.
    """
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(head.outputs, head.inputs, generator=generator) / math.sqrt(head.outputs)
    features = _features(head, batch, generator).requires_grad_()
    labels = torch.randint(head.outputs, (batch,), generator=generator)
    used = weight if rescaling is None else RescaledWeight(rescaling, head.outputs)(weight).detach()
    logits = F.linear(features, used)
    loss = F.cross_entropy(logits, labels)
    (gradient,) = torch.autograd.grad(loss * batch, features)
    return HeadStatistics(
        logit_variance=head.inputs * float(variance(used)) / head.pool**2,
        entropy=_entropy(logits.detach()) / math.log(head.outputs),
        gradient_norm=float(gradient.norm(dim=1).mean()),
        loss=float(loss.detach()),
    )


def _features(head: Head, batch: int, generator: torch.Generator) -> Tensor:
    """The means of the pool's pixels [batch, inputs]."""
    total = torch.zeros(batch, head.inputs)
    for _ in range(head.pool**2):
        total += torch.randn(batch, head.inputs, generator=generator).relu()
    return total / head.pool**2


def _entropy(logits: Tensor) -> float:
    """The mean entropy of the softmax, in nats."""
    logs = F.log_softmax(logits.double(), dim=1)
    return float(-(logs.exp() * logs).sum(1).mean())
