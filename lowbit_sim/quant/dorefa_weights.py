"""DoReFa's weights as whole numbers times a step, in three schemes, and the constant that SAT rescales them by.

    W~ = tanh(W) / (2 max|tanh W|) + 1/2, within [0, 1];   k of 0 .. 2^b - 1 its level;   Q = step * integer

| scheme   | k                           | integer        | step          | format                            |
|----------|-----------------------------|----------------|---------------|-----------------------------------|
| original | round((2^b - 1) W~)         | 2k - (2^b - 1) | 1 / (2^b - 1) | odd numbers, -(2^b - 1) and up    |
| modified | min(floor(2^b W~), 2^b - 1) | k - 2^(b - 1)  | 2^-(b - 1)    | b-bit two's complement, all of it |
| centered | min(floor(2^b W~), 2^b - 1) | 2k - (2^b - 1) | 2^-b          | odd numbers, -(2^b - 1) and up    |

So Q = 2 q_b(W~) - 1 within [-1, 1], and a code takes b bits in each. `original` is the published quantiser; the codes
of `modified` are prefixes of those of more bits, but its mean is not zero; `centered` shifts it by half a level.
Without bits Q = 2 W~ - 1: clamped, not rounded.

    constant rescaling:   Q* = Q / sqrt(n VAR[Q]),            n output neurons: n VAR[Q*] = 1
    standard deviation:   Q* = Q sqrt(VAR[W] / VAR[Q])

VAR is over all elements of the tensor, divided by their number, and a constant: no gradient flows through it.

Sources: Zhou et al., "DoReFa-Net", arXiv 1606.06160, section 2.3; Jin, Yang and Liao, "Towards Efficient Training for
Neural Network Quantization", arXiv 1912.10207 (the rescaling, of the variance of the *quantised* weights); Jin et
al., "AdaBits", CVPR 2020 (modified and centered).
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from lowbit_sim.numerics.formats import CodebookFormat, IntFormat
from lowbit_sim.numerics.suggest import unknown
from lowbit_sim.numerics.whole import is_whole

Scheme = Literal["original", "modified", "centered"]
Rescaling = Literal["constant", "stddev", "none"]

#: Bits of a code: more would not be multiples of one unit that an integer multiplier takes.
MOST_BITS = 16


@dataclass(frozen=True, kw_only=True)
class DoReFaLevels:
    """The levels of one tensor of weights.

    Args:
        bits: Width of a code, 1 to 16.
        scheme: "original", "modified" or "centered".

    Raises:
        ValueError: Bits outside their range, or an unknown scheme.
    """

    bits: int
    scheme: Scheme = "original"

    def __post_init__(self) -> None:
        if not is_whole(self.bits, 1, MOST_BITS):
            raise ValueError(f"DoReFa's weights have 1 to {MOST_BITS} bits, got bits={self.bits!r}")
        if self.scheme not in get_args(Scheme):
            raise ValueError(unknown("scheme of DoReFa's weights", self.scheme, get_args(Scheme)))

    @property
    def top(self) -> int:
        """2^bits - 1: the largest level k."""
        return (1 << self.bits) - 1

    @property
    def step(self) -> float:
        """What one unit of an integer is worth, before it is rounded to float32."""
        match self.scheme:
            case "original":
                return 1 / self.top
            case "modified":
                return 2.0 ** (1 - self.bits)
            case _:
                return 2.0**-self.bits

    @property
    def format(self) -> IntFormat | CodebookFormat:
        """The format whose values are the integers."""
        return _format(self.bits, self.scheme == "modified")

    def integers(self, unit: Tensor) -> Tensor:
        """The integers of weights W~ within [0, 1]: whole numbers, in the shape and dtype of W~."""
        if self.scheme == "original":
            return 2 * torch.round(unit * self.top) - self.top
        level = torch.floor(unit * (self.top + 1)).clamp(max=self.top)
        return level - (1 << (self.bits - 1)) if self.scheme == "modified" else 2 * level - self.top


@functools.lru_cache(maxsize=64)
def _format(bits: int, twos_complement: bool) -> IntFormat | CodebookFormat:
    if twos_complement:
        # Integer formats begin at two bits.
        return (
            IntFormat(bits=bits, symmetric=False)
            if bits > 1
            else CodebookFormat(values=(-1.0, 0.0), name="int1_full")
        )
    top = (1 << bits) - 1
    return CodebookFormat(values=tuple(float(v) for v in range(-top, top + 1, 2)), name=f"int{bits}_odd")


def clamped(weight: Tensor) -> Tensor:
    """2 W~ - 1 = tanh(W) / max|tanh W|, within [-1, 1]; of a tensor of zeros 0."""
    return torch.tanh(weight) / largest_tanh(weight)


def largest_tanh(weight: Tensor) -> Tensor:
    """max|tanh W|; 1 for a tensor of zeros (or subnormal numbers), which has no scale."""
    largest = torch.tanh(weight.abs().max())
    return torch.where(largest < torch.finfo(weight.dtype).tiny, 1.0, largest)


def variance(values: Tensor) -> Tensor:
    """VAR of all elements, divided by their number: float64, no axes."""
    return values.detach().double().var(correction=0)


def rescaling_factor(kind: Rescaling, weight: Tensor, quantized: Tensor, neurons: int) -> Tensor:
    """Q* / Q: float64, no axes; 1 for weights that are all on one level, which have no variance.

    Args:
        kind: "constant", "stddev" or "none".
        weight: W.
        quantized: Q, or the clamped weights where nothing is rounded.
        neurons: n.
    """
    one = torch.ones((), dtype=torch.float64, device=quantized.device)
    if kind == "none":
        return one
    spread = variance(quantized)
    target = 1.0 / neurons if kind == "constant" else variance(weight)
    return torch.where(spread > 0, torch.sqrt(target / torch.where(spread > 0, spread, one)), one)
