"""No two tensors of a training step draw the same random bits."""

import dataclasses
from collections import Counter

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import lowbit_sim as lb
from lowbit_sim.ops import product
from lowbit_sim.quant.quantizer import Quantizer

ROUNDING = lb.Rounding("stochastic", random_bits=8)
MAC = lb.FloatMacUnit(accumulator=lb.BF16, rounding=ROUNDING)
QUANTIZER = lb.Quantizer(lb.BF16, scale=lb.FixedScale(1.0), rounding=ROUNDING)
GEMM = lb.GemmSpec(QUANTIZER, QUANTIZER, MAC, samples=2)
SPEC = lb.OpSpec(output=GEMM, grad_input=GEMM, grad_weight=GEMM)


class Network(nn.Module):
    """Every kind of layer that has several GEMMs, and products of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(7, 4)
        self.recurrent = nn.LSTM(4, 4, num_layers=2, bidirectional=True, proj_size=2)
        self.cell = nn.GRUCell(4, 4)
        self.attention = nn.MultiheadAttention(4, 2)
        self.linear = nn.Linear(4, 4)
        self.convolution = nn.Conv1d(4, 4, 3, padding=1, groups=2)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """[T, B] to [T, B, 4]."""
        x = self.recurrent(self.embedding(tokens))[0]
        x = self.attention(x, x, x)[0]
        x = F.scaled_dot_product_attention(x, x, x)
        x = self.convolution(x.permute(1, 2, 0)).permute(2, 0, 1)
        x = self.linear(x @ (x.mT @ x))
        return torch.stack([self.cell(step) for step in x])


def test_every_stream_is_drawn_from_once(monkeypatch) -> None:
    drawn: Counter[tuple] = Counter()

    def key(stream: lb.Stream) -> tuple:
        return stream.seed, stream.step, stream.site, stream.operand, stream.offset

    quantize, multiply = Quantizer.__call__, product.run_float_gemms

    def counted_quantize(self, x, *, stream=None, **options):
        if x.numel():
            drawn[key(stream)] += 1
        return quantize(self, x, stream=stream, **options)

    def counted_multiply(lhs, rhs, mac, *, stream=None, apart=0, **options):
        for i in range(len(lhs)):
            drawn[key(dataclasses.replace(stream, offset=stream.offset + i * apart))] += 1
        return multiply(lhs, rhs, mac, stream=stream, apart=apart, **options)

    monkeypatch.setattr(Quantizer, "__call__", counted_quantize)
    monkeypatch.setattr(product, "run_float_gemms", counted_multiply)
    attention = lb.AttentionSpec(scores=SPEC, values=SPEC, probabilities=QUANTIZER)
    rules = [lb.Rule("*", lb.FunctionalSpec(SPEC, attention)), lb.Rule("*", SPEC)]
    torch.manual_seed(0)
    model = lb.convert(Network(), rules, seed=3)
    for step in range(2):
        model(torch.tensor([[0, 3], [1, 6], [2, step]])).square().sum().backward()
    assert len(drawn) > 1000
    assert [stream for stream, count in drawn.items() if count > 1] == []


def test_a_layer_has_room_for_a_million_operators() -> None:
    at = lb.CallSite(layer="a")
    assert at.operator((1 << 20) - 1, "last").layer == "a#last"
    with pytest.raises(ValueError, match="layer 'a#next': part must be from 0 to 1048575"):
        at.operator(1 << 20, "next")


def test_a_part_of_a_part() -> None:
    inner = lb.CallSite(layer="a", seed=1).operator(3, "0").operator(2, "scores")
    assert (inner.layer, inner.slot, inner.part, inner.seed) == ("a#0.scores", "0.scores", 5, 1)
