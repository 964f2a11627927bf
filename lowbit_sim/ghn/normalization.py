"""What the decoder's numbers become: weights at the scale of their fan-in, scales and shifts within bounds.

    convolution, linear    w sqrt(beta / fan_in)     beta = 2, or 1 where no sum over input channels follows a ReLU:
                                                     depthwise convolutions and the halves of a factored one
    batch-norm             scale 2 sigmoid(p / 2), shift tanh(p / 5)
    bias                   tanh(p / 5)

Source: GHN-2 (Knyazev et al. 2021), as in its public code.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lowbit_sim.ghn.graph import Node

#: Primitives with beta = 1.
_UNIT_GAIN = ("depthwise_conv", "dilated_conv", "factor_conv")


def gain(node: Node) -> float:
    """beta of a convolution's or linear layer's node."""
    return 1.0 if node.primitive in _UNIT_GAIN else 2.0


def normalized_weight(weight: Tensor, node: Node) -> Tensor:
    """The weight of a node out of numbers of unit variance."""
    return weight * math.sqrt(gain(node) / node.fan_in)


def norm_scale(value: Tensor) -> Tensor:
    """Within [0, 2]."""
    return 2 * torch.sigmoid(0.5 * value)


def shift(value: Tensor) -> Tensor:
    """Within [-1, 1]."""
    return torch.tanh(0.2 * value)
