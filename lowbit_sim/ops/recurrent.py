"""Recurrent layers: the products of input, hidden state and projection emulated, the gates' arithmetic in float32.

With x_t the input, h the hidden state and c the cell state of one direction of one layer:

| mode     | per step                                                                                          |
|----------|---------------------------------------------------------------------------------------------------|
| RNN_TANH | h' = tanh(a + b), a = W_ih x_t + b_ih, b = W_hh h + b_hh; RNN_RELU likewise                       |
| LSTM     | i, f, g, o = a + b; c' = sig(f) c + sig(i) tanh(g); h' = sig(o) tanh(c'), projected by W_hr if any |
| GRU      | r, z = sig(a_r + b_r), sig(a_z + b_z); n = tanh(a_n + r b_n); h' = (h - n) z + n                  |

W_ih x is one GEMM for all time steps, its rows ordered by (step, sample); W_hh h and W_hr h are one GEMM for each
step, whose weight gradients are added in float32. Each draws random bits of its own. (Hochreiter and Schmidhuber
1997; Cho et al. 2014; in the forms that torch.nn documents.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lowbit_sim.arith.spec import OpSpec
from lowbit_sim.ops.linear import linear
from lowbit_sim.ops.operand import CallSite

#: The hidden state, and with an LSTM the cell state.
State = tuple[Tensor, ...]

#: Numbers of a cell's products within one time step.
INPUT, HIDDEN, PROJECTION = range(3)
PRODUCTS = 3


@dataclass(frozen=True, kw_only=True)
class CellWeights:
    """The parameters of one direction of one layer; G is 1 (RNN), 3 (GRU) or 4 (LSTM).

    Attributes:
        w_ih: [G H, I].
        w_hh: [G H, P], P the width of the hidden state.
        b_ih, b_hh: [G H] or None.
        w_hr: [P, H] or None.
    """

    w_ih: Tensor
    w_hh: Tensor
    b_ih: Tensor | None = None
    b_hh: Tensor | None = None
    w_hr: Tensor | None = None


def _rnn(activation: Callable[[Tensor], Tensor]) -> Callable[[Tensor, Tensor, State], State]:
    return lambda a, b, state: (activation(a + b),)


def _lstm(a: Tensor, b: Tensor, state: State) -> State:
    i, f, g, o = (a + b).chunk(4, -1)
    cell = torch.sigmoid(f) * state[1] + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(cell), cell


def _gru(a: Tensor, b: Tensor, state: State) -> State:
    (a_r, a_z, a_n), (b_r, b_z, b_n) = a.chunk(3, -1), b.chunk(3, -1)
    r, z = torch.sigmoid(a_r + b_r), torch.sigmoid(a_z + b_z)
    n = torch.tanh(a_n + r * b_n)
    return ((state[0] - n) * z + n,)


#: The gates of each mode: (W_ih x + b_ih, W_hh h + b_hh, state) to the next state.
GATES: dict[str, Callable[[Tensor, Tensor, State], State]] = {
    "RNN_TANH": _rnn(torch.tanh),
    "RNN_RELU": _rnn(torch.relu),
    "LSTM": _lstm,
    "GRU": _gru,
}


def cell(mode: str, x: Tensor, state: State, w: CellWeights, spec: OpSpec, at: CallSite) -> State:
    """One time step.

    Args:
        mode: A key of `GATES`.
        x: [B, I].
        state: Hidden state [B, P] and, of an LSTM, cell state [B, H].
        w: The parameters.
        spec: The numerics of both (or three) products.
        at: Where it runs.
    """
    a = linear(x, w.w_ih, w.b_ih, spec, at.operator(INPUT, "input"))
    return _step(mode, a, state, w, spec, at)


def _step(mode: str, a: Tensor, state: State, w: CellWeights, spec: OpSpec, at: CallSite) -> State:
    b = linear(state[0], w.w_hh, w.b_hh, spec, at.operator(HIDDEN, "hidden"))
    h, *rest = GATES[mode](a, b, state)
    if w.w_hr is not None:
        h = linear(h, w.w_hr, None, spec, at.operator(PROJECTION, "projection"))
    return h, *rest


def sequence(
    mode: str,
    x: Tensor,
    sizes: Sequence[int],
    state: State,
    w: CellWeights,
    reverse: bool,
    spec: OpSpec,
    at: CallSite,
    stride: int,
) -> tuple[Tensor, State]:
    """One direction of one layer over sequences packed as `torch.nn.utils.rnn.PackedSequence` packs them.

    Args:
        mode: A key of `GATES`.
        x: The rows of all time steps one after another, [sum of sizes, I].
        sizes: How many sequences are that long, for each step; does not ascend.
        state: The initial state, each [sizes[0], P or H].
        w: The parameters.
        reverse: From each sequence's last step to its first.
        spec: The numerics of the products.
        at: Where it runs.
        stride: How far the operator numbers of successive time steps lie apart.

    Returns:
        The hidden states of all steps, [sum of sizes, P], and each sequence's last state.
    """
    a = linear(x, w.w_ih, w.b_ih, spec, at.operator(INPUT, "input")).split(list(sizes))
    steps = range(len(sizes))
    outputs: dict[int, Tensor] = {}
    current = tuple(s[:0] for s in state)
    finished: list[State] = []
    for t in reversed(steps) if reverse else steps:
        running = len(current[0])
        if not outputs and not reverse:
            current = state
        elif sizes[t] > running:  # a shorter sequence joins at its last step
            current = tuple(
                torch.cat([s, s0[running : sizes[t]]]) for s, s0 in zip(current, state, strict=True)
            )
        elif sizes[t] < running:
            finished.append(tuple(s[sizes[t] :] for s in current))
            current = tuple(s[: sizes[t]] for s in current)
        # Only the operators' numbers tell the steps apart, not their names: one scale register serves them all.
        current = _step(mode, a[t], current, w, spec, replace(at, part=at.part + t * stride))
        outputs[t] = current[0]
    parts = [current, *reversed(finished)]
    last = tuple(torch.cat(pieces) for pieces in zip(*parts, strict=True))
    return torch.cat([outputs[t] for t in steps]), last
