"""MomentFC, a hypernetwork of our own: gradient, running mean of gradients and weight, mixed by learned even gains.

    M = g exp(a) + m b + w (s_g / s_w) c
    a, b, c = FC(size(g), size(m), size(w), agreement(g, m), agreement(g, w), log(s_g) / 10)
    size(x) = log(1 + |x| / s_x);  agreement(x, y) = p / (1 + |p|), p = (x / s_x) (y / s_y)

with m the running mean of the gradients before this one, and s_x the root mean square of x in its tensor. Where
gradients have 15 levels, m and w tell apart coordinates that share one. FC is 6 -> hidden (tanh) -> 3 with its last
layer at zero at first, so that M starts as the gradient, bit for bit. Its six inputs do not change when g, m and w
all change their signs, so M(-g, -m, -w) = -M(g, m, w): M can't learn a drift of its own. The gain exp(a) is never
negative. But for log(s_g), M of gradients twice as large is twice as large.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lowbit_sim.training.metagrad.coordinates import Coordinates, needed
from lowbit_sim.training.metagrad.hypernetworks import Hypernetwork, State, check_positive, seeded, through

_FEATURES, _GAINS = 6, 3


class MomentFC(Hypernetwork):
    """See the module.

    Args:
        hidden: Features between the two layers.
        moment_decay: Factor of the running mean, at least 0 and below 1.
        seed: Seed of the initial weights.

    Raises:
        ValueError: A value outside its range.
    """

    weight_reading = "signed"
    reads_scales = True

    def __init__(self, hidden: int = 8, *, moment_decay: float = 0.9, seed: int = 0) -> None:
        super().__init__()
        check_positive("hidden", hidden)
        if not 0 <= moment_decay < 1:
            raise ValueError(f"moment_decay must be at least 0 and below 1, got {moment_decay}")
        self.moment_decay = moment_decay
        with seeded(seed):
            self.first = nn.Linear(_FEATURES, hidden)
            self.last = nn.Linear(hidden, _GAINS)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, c: Coordinates, state: State) -> tuple[Tensor, State]:
        """See the module."""
        scale, moment, weight = needed(c.scale), needed(c.moment), needed(c.weight)
        g, m, w = c.gradient / scale, moment / needed(c.moment_scale), weight / needed(c.weight_scale)
        hidden = torch.tanh(through(self.first, _features(g, m, w, scale)))
        a, b, gain = through(self.last, hidden)
        return c.gradient * a.exp() + moment * b + (w * scale) * gain, state


def _features(g: Tensor, m: Tensor, w: Tensor, scale: Tensor) -> Tensor:
    """The inputs of FC [6, n]."""
    sizes = torch.stack((g, m, w)).abs().log1p()
    products = torch.stack((g * m, g * w))
    agreements = products / (1 + products.abs())
    return torch.cat((sizes, agreements, (scale.log() / 10).unsqueeze(0)))
