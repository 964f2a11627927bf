"""Emulated recurrent layers and cells: drop-in subclasses of torch's own, with the same parameters and state_dict."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from lowbit_sim.nn.emulation import EmulatedLayer, eager, next_call
from lowbit_sim.ops.linear import check_floating
from lowbit_sim.ops.operand import CallSite
from lowbit_sim.ops.recurrent import PRODUCTS, CellWeights, State, cell, sequence


class RNNCell(EmulatedLayer, nn.RNNCell):
    """`torch.nn.RNNCell` with emulated GEMMs."""

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        """[B, I] or [I], and the hidden state, to the next hidden state; see `ops.recurrent`."""
        mode = "RNN_TANH" if self.nonlinearity == "tanh" else "RNN_RELU"
        return eager(_cell, self, mode, input, None if hx is None else (hx,))[0]


class GRUCell(EmulatedLayer, nn.GRUCell):
    """`torch.nn.GRUCell` with emulated GEMMs."""

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        """[B, I] or [I], and the hidden state, to the next hidden state; see `ops.recurrent`."""
        return eager(_cell, self, "GRU", input, None if hx is None else (hx,))[0]


class LSTMCell(EmulatedLayer, nn.LSTMCell):
    """`torch.nn.LSTMCell` with emulated GEMMs."""

    def forward(self, input: Tensor, hx: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, Tensor]:
        """[B, I] or [I], and hidden and cell state, to the next ones; see `ops.recurrent`."""
        return eager(_cell, self, "LSTM", input, hx)


class RNN(EmulatedLayer, nn.RNN):
    """`torch.nn.RNN` with emulated GEMMs."""

    def forward(self, input: Any, hx: Any = None) -> Any:
        """As `torch.nn.RNN`, packed sequences included; see `ops.recurrent`."""
        return eager(_recurrent, self, input, hx)


class GRU(EmulatedLayer, nn.GRU):
    """`torch.nn.GRU` with emulated GEMMs."""

    def forward(self, input: Any, hx: Any = None) -> Any:
        """As `torch.nn.GRU`, packed sequences included; see `ops.recurrent`."""
        return eager(_recurrent, self, input, hx)


class LSTM(EmulatedLayer, nn.LSTM):
    """`torch.nn.LSTM` with emulated GEMMs."""

    def forward(self, input: Any, hx: Any = None) -> Any:
        """As `torch.nn.LSTM`, packed sequences included; see `ops.recurrent`."""
        return eager(_recurrent, self, input, hx)


def _cell(layer: RNNCell | GRUCell | LSTMCell, mode: str, x: Tensor, hx: State | None) -> State:
    at = next_call(layer)
    check_floating(x, at.layer)
    rows = x.float().reshape(-1, x.shape[-1])  # [B, I]
    if hx is None:
        zeros = rows.new_zeros(len(rows), layer.hidden_size)
        state: State = (zeros, zeros) if mode == "LSTM" else (zeros,)
    else:
        state = tuple(h.float().reshape(-1, h.shape[-1]) for h in hx)
    for h in state:
        if h.shape != (len(rows), layer.hidden_size):
            raise ValueError(
                f"layer {at.layer!r}: state {list(h.shape)} must be [{len(rows)}, {layer.hidden_size}] for "
                f"input {list(x.shape)}"
            )
    weights = CellWeights(w_ih=layer.weight_ih, w_hh=layer.weight_hh, b_ih=layer.bias_ih, b_hh=layer.bias_hh)
    following = cell(mode, rows, state, weights, layer.emulation.op_spec, at)
    return tuple(h.reshape(*x.shape[:-1], layer.hidden_size).to(x.dtype) for h in following)


def _recurrent(layer: RNN | GRU | LSTM, x: Any, hx: Any) -> Any:
    """torch's conventions around the stack: packed or not, batched or not, batch first or not."""
    at = next_call(layer)
    packed = isinstance(x, PackedSequence)
    rows, sizes, batch = (x.data, x.batch_sizes.tolist(), None) if packed else _pack(layer, x, at)
    check_floating(rows, at.layer)
    state = _initial(layer, rows, sizes[0], hx, x, at)
    y, last = _stack(layer, rows.float(), sizes, state, at)
    y, last = y.to(rows.dtype), tuple(s.to(rows.dtype) for s in last)
    if packed:
        if x.unsorted_indices is not None:
            last = tuple(s.index_select(1, x.unsorted_indices) for s in last)
        y = PackedSequence(y, x.batch_sizes, x.sorted_indices, x.unsorted_indices)
    else:
        y = y.reshape(len(sizes), sizes[0], -1)  # [T, B, D P]
        y = y.squeeze(1) if batch is None else y.transpose(0, 1) if layer.batch_first else y
        last = tuple(s.squeeze(1) for s in last) if batch is None else last
    return y, last if layer.mode == "LSTM" else last[0]


def _pack(layer: nn.RNNBase, x: Tensor, at: CallSite) -> tuple[Tensor, list[int], int | None]:
    """Rows in the order (step, sample), the sequences at each step, and the batch's size if there is a batch."""
    if x.ndim not in (2, 3) or x.shape[-1] != layer.input_size or not x.numel():
        raise ValueError(
            f"layer {at.layer!r} takes [steps, {layer.input_size}] or a batch of such, got {list(x.shape)}"
        )
    if x.ndim == 2:
        return x, [1] * len(x), None
    steps_first = x.transpose(0, 1) if layer.batch_first else x  # [T, B, I]
    steps, batch = steps_first.shape[:2]
    return steps_first.reshape(steps * batch, -1), [batch] * steps, batch


def _initial(layer: nn.RNNBase, rows: Tensor, batch: int, hx: Any, x: Any, at: CallSite) -> State:
    """The initial states [layers * directions, B, P or H], in the order of the rows."""
    count = layer.num_layers * (2 if layer.bidirectional else 1)
    widths = [layer.proj_size or layer.hidden_size, layer.hidden_size][: 2 if layer.mode == "LSTM" else 1]
    if hx is None:
        return tuple(
            torch.zeros(count, batch, width, dtype=rows.dtype, device=rows.device) for width in widths
        )
    given = tuple(hx) if layer.mode == "LSTM" else (hx,)
    batched = isinstance(x, PackedSequence) or x.ndim == 3
    states = tuple(h.float() if batched else h.float().unsqueeze(1) for h in given)
    for h, width in zip(states, widths, strict=True):
        if h.shape != (count, batch, width):
            raise ValueError(
                f"layer {at.layer!r}: initial state {list(h.shape)} must be {[count, batch, width]} "
                "[layers * directions, batch, width]"
            )
    if isinstance(x, PackedSequence) and x.sorted_indices is not None:
        states = tuple(h.index_select(1, x.sorted_indices) for h in states)
    return states


def _stack(
    layer: RNN | GRU | LSTM, rows: Tensor, sizes: list[int], state: State, at: CallSite
) -> tuple[Tensor, State]:
    """All layers and directions; the last states [layers * directions, B, P or H]."""
    directions = 2 if layer.bidirectional else 1
    stride = PRODUCTS * layer.num_layers * directions
    last: list[State] = []
    for depth in range(layer.num_layers):
        outputs = []
        for direction in range(directions):
            index = depth * directions + direction
            name = f"l{depth}{'_reverse' if direction else ''}"
            here = at.operator(PRODUCTS * index, name)
            initial = tuple(s[index] for s in state)
            weights = _weights(layer, name)
            spec = layer.emulation.op_spec
            y, final = sequence(
                layer.mode, rows, sizes, initial, weights, bool(direction), spec, here, stride
            )
            outputs.append(y)
            last.append(final)
        rows = torch.cat(outputs, -1)
        if layer.dropout and layer.training and depth < layer.num_layers - 1:
            rows = F.dropout(rows, layer.dropout)
    return rows, tuple(torch.stack(states) for states in zip(*last, strict=True))


def _weights(layer: nn.RNNBase, name: str) -> CellWeights:
    return CellWeights(
        w_ih=getattr(layer, f"weight_ih_{name}"),
        w_hh=getattr(layer, f"weight_hh_{name}"),
        b_ih=getattr(layer, f"bias_ih_{name}") if layer.bias else None,
        b_hh=getattr(layer, f"bias_hh_{name}") if layer.bias else None,
        w_hr=getattr(layer, f"weight_hr_{name}") if layer.proj_size else None,
    )
