"""The mean and the variance of a stochastic quantiser over all random words: exact, through the real quantiser."""

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import torch

import lowbit_sim as lb
from lowbit_sim.numerics.encode import code_range
from lowbit_sim.numerics.random import draw
from lowbit_sim.numerics.reference import decode_value

SEED = lb.Stream(seed=77, step=3, site=2, operand=4)


@dataclass(frozen=True)
class Moments:
    """Of one value: all exact, in units of the scale.

    Attributes:
        scaled: fp32(x * fp32(1 / scale)), plus the zero point.
        outcomes: The quantised value for each random word (codes' values).
    """

    scaled: Fraction
    outcomes: list[Fraction]

    @property
    def mean(self) -> Fraction:
        return sum(self.outcomes, Fraction(0)) / len(self.outcomes)

    @property
    def variance(self) -> Fraction:
        return sum((v**2 for v in self.outcomes), Fraction(0)) / len(self.outcomes) - self.mean**2


def moments(
    quantizer: lb.Quantizer, values: list[float], copies: int = 200, state: lb.ScaleState | None = None
) -> list[Moments]:
    """What a quantiser makes of each value of a tensor under every random word.

    The tensor holds each value `copies` times, so that every word is drawn for every value; elements with the
    same value and word must have the same code.
    """
    x = torch.tensor(values).repeat(copies).reshape(1, -1)
    q = quantizer(x, stream=SEED, state=state)
    bits = quantizer.rounding.random_bits
    fmt, scale = q.element_format, q.scale.reshape(-1)[0]
    zero_point = 0 if q.zero_point is None else int(q.zero_point.reshape(-1)[0])
    scaled = (torch.tensor(values) * (1.0 / scale)).tolist()
    found: list[dict[int, int]] = [{} for _ in values]
    for i, code in enumerate(q.codes.reshape(-1).tolist()):
        outcomes, word = found[i % len(values)], draw(SEED, i, bits)
        assert outcomes.setdefault(word, code) == code
    assert all(len(outcomes) == 1 << bits for outcomes in found), "a word was not drawn: take more copies"
    return [
        Moments(
            scaled=Fraction(y) + zero_point,
            outcomes=[Fraction(decode_value(code, fmt)) for code in outcomes.values()],
        )
        for y, outcomes in zip(scaled, found, strict=True)
    ]


def neighbours(fmt: lb.ElementFormat, y: Fraction) -> tuple[Fraction, Fraction]:
    """The values of a format on both sides of a number within its range; the number twice if it is one."""
    low, high = code_range(fmt)
    values = sorted({Fraction(decode_value(code, fmt)) for code in range(low, high + 1)})
    return max(v for v in values if v <= y), min(v for v in values if v >= y)


def z_scores(samples: np.ndarray, mean: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """How many standard errors the mean of samples [n, ...] is off, where the variance is not 0."""
    moving = variance > 0
    errors = samples.mean(0)[moving] - mean[moving]
    return errors / np.sqrt(variance[moving] / len(samples))


def assert_unbiased(scores: np.ndarray) -> None:
    """Scores as of unbiased independent elements: their mean near 0, their mean square near 1, none far out."""
    count = scores.size
    assert abs(scores.mean()) < 4 / np.sqrt(count)
    assert abs((scores**2).mean() - 1) < 6 / np.sqrt(count)
    assert np.abs(scores).max() < 6
