"""LSTMFC: a gain for each coordinate from a long short-term memory that follows its weight from step to step.

    i, f, o = sigmoid(.), u = tanh(.) of W_x w + b + W_h h;   c' = f c + i u;   h' = o tanh(c')
    M(g, w) = g FC(h')

One layer, its state (h, c) carried over iterations for each coordinate, without gradients into the past. That state
is 2 `hidden` numbers for every weight of the model: with 20, forty times the model's size.

Source: Chen et al., MetaQuant, NeurIPS 2019, section 3.3; hidden 100 there, 20 by default in its authors' code.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lowbit_sim.training.metagrad.coordinates import Coordinates, needed
from lowbit_sim.training.metagrad.hypernetworks import (
    Hypernetwork,
    Initial,
    State,
    check_initial,
    check_positive,
    seeded,
    through,
)


class LSTMFC(Hypernetwork):
    """M(g, w) = g FC(LSTM(w)); with `initial="identity"` g (1 + FC(LSTM(w))) and FC at zero.

    Args:
        hidden: Features of the memory.
        initial: "identity" or "paper".
        seed: Seed of the initial weights.

    Raises:
        ValueError: An unknown `initial`, or `hidden` that is not positive.
    """

    weight_reading = "preprocessed"

    def __init__(self, hidden: int = 20, *, initial: Initial = "identity", seed: int = 0) -> None:
        super().__init__()
        check_initial(initial)
        check_positive("hidden", hidden)
        self.identity, self.hidden = initial == "identity", hidden
        self.state_features = (hidden, hidden)
        with seeded(seed):
            # Two linear layers and not an nn.LSTMCell, so that each is a GEMM with numerics of its own.
            self.input_gates = nn.Linear(1, 4 * hidden)
            self.hidden_gates = nn.Linear(hidden, 4 * hidden, bias=False)
            self.fc = nn.Linear(hidden, 1, bias=False)
            for layer in (self.input_gates, self.hidden_gates):
                for parameter in layer.parameters():
                    nn.init.uniform_(parameter, -(hidden**-0.5), hidden**-0.5)  # as torch's LSTM
        if self.identity:
            nn.init.zeros_(self.fc.weight)

    def forward(self, c: Coordinates, state: State) -> tuple[Tensor, State]:
        """See the class; the state is h and c, [hidden, n] each."""
        h, cell = state
        gates = through(self.input_gates, needed(c.weight).unsqueeze(0)) + through(self.hidden_gates, h)
        i, f, u, o = gates.chunk(4)  # [hidden, n] each
        cell = torch.sigmoid(f) * cell + torch.sigmoid(i) * torch.tanh(u)
        h = torch.sigmoid(o) * torch.tanh(cell)
        gain = through(self.fc, h).squeeze(0)
        return c.gradient * (1 + gain if self.identity else gain), (h, cell)
