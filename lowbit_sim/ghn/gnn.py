"""The gated graph network: messages along edges and along shortest paths, forward and then backward.

    m_v = sum over u that v reads of MLP(h_u)  +  sum over u with 1 <= s(u, v) <= S of MLP_ve(h_u) / s(u, v)
    h_v = GRU(m_v, h_v)

in topological order, so that what v reads has been updated; then the same against the edges, in the reverse order,
with the same MLPs and the same GRU. An MLP goes from d features to d / 2, ReLU, and back to d.

With a cut-off S of 1 there are no virtual edges and no second MLP.

Source: GHN-2 (Knyazev et al. 2021), one round (T = 1). As in its public code, virtual edges include those of length
1; the paper's formula, as we recall it without having verified it, starts at 2.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from lowbit_sim.ghn.batch import GraphBatch


class GatedUpdate(nn.Module):
    """A GRU cell (Cho et al. 2014) of linear layers, with the parameters and the formula of torch's GRUCell:

        r = sigmoid(W_r m + U_r h)      n  = tanh(W_n m + r * U_n h)
        z = sigmoid(W_z m + U_z h)      h' = (1 - z) * n + z * h

    with the three W's in one layer and the three U's in one, biases included: layers that can be emulated and priced.

    Args:
        hidden: Features of a message and of a state.
    """

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.from_message = nn.Linear(hidden, 3 * hidden)
        self.from_state = nn.Linear(hidden, 3 * hidden)

    def forward(self, message: Tensor, state: Tensor) -> Tensor:
        """[N, hidden] and [N, hidden] to the new state [N, hidden]."""
        message_r, message_z, message_n = self.from_message(message).chunk(3, dim=1)
        state_r, state_z, state_n = self.from_state(state).chunk(3, dim=1)
        reset = torch.sigmoid(message_r + state_r)
        update = torch.sigmoid(message_z + state_z)
        new = torch.tanh(message_n + reset * state_n)
        return (1 - update) * new + update * state


def _mlp(hidden: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(hidden, hidden // 2), nn.ReLU(), nn.Linear(hidden // 2, hidden))


class GatedGNN(nn.Module):
    """See the module.

    Args:
        hidden: Features of a node.
        cutoff: S.
    """

    def __init__(self, hidden: int, cutoff: int) -> None:
        super().__init__()
        self.cutoff = cutoff
        self.message = _mlp(hidden)
        self.virtual_message = _mlp(hidden) if cutoff > 1 else None
        self.update = GatedUpdate(hidden)

    def forward(self, state: Tensor, batch: GraphBatch) -> Tensor:
        """Features [N, hidden] to states [N, hidden]."""
        state = self._sweep(state, batch.direct, batch.virtual, batch.levels)
        return self._sweep(state, batch.direct.mT, batch.virtual.mT, reversed(batch.levels))

    def _sweep(self, state: Tensor, direct: Tensor, virtual: Tensor, levels: Iterable[Tensor]) -> Tensor:
        """One pass over the levels; nodes that have not been visited yet are read by none that is."""
        sent = virtually_sent = torch.zeros_like(state)
        for nodes in levels:
            received = direct.index_select(0, nodes) @ sent
            if self.virtual_message is not None:
                received = received + virtual.index_select(0, nodes) @ virtually_sent
            new = self.update(received, state.index_select(0, nodes))
            state = state.index_copy(0, nodes, new)
            sent = sent.index_copy(0, nodes, self.message(new))
            if self.virtual_message is not None:
                virtually_sent = virtually_sent.index_copy(0, nodes, self.virtual_message(new))
        return state
