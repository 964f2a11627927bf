"""Progressive quantisation: the bits fall from stage to stage, 32-16-8-4-2, each from where the one before it ended.

Nested with two steps, each width k below the one before it, m, takes two stages: weights of k bits with inputs of m
bits, as they were, then both of k bits. With the widths 32 and k this is `two_step`.

Source: Zhuang et al., "Towards Effective Low-bitwidth Convolutional Neural Networks", CVPR 2018 (arXiv 1711.00205):
the falling widths. That the two methods can be nested is recalled, not verified; what the inputs have meanwhile, and
the stages' shares of the run, are ours.
"""

from __future__ import annotations

from collections.abc import Sequence

from lowbit_sim.nn.dorefa_grid import Precision
from lowbit_sim.training.settings import TrainingSettings
from lowbit_sim.training.staged_precision import StagedPrecision, in_steps

#: The paper's widths for 2 bits.
BITS = (32, 16, 8, 4, 2)


def progressive(
    bits: Sequence[int] = BITS,
    *,
    steps: int,
    shares: Sequence[float] | None = None,
    nested: bool = False,
    layers: Sequence[str] | None = None,
    clip: float = 1.0,
    restarts: TrainingSettings | None = None,
) -> StagedPrecision:
    """Widths that fall.

    Args:
        bits: Of weights and inputs in each stage, never rising; 32 for full precision.
        steps: Steps of the run.
        shares: Each width's share of the run, relative to the others'; equal, if left out.
        nested: Whether each width after the first is reached in two steps, of half its share each.
        layers: Patterns of the paths of the layers to quantise; None for all but the first and the last.
        clip: Upper end of the inputs' range.
        restarts: The run's settings, where each stage runs their learning-rate schedule anew.

    Raises:
        ValueError: Widths that rise, not one share for each, or too few steps.
    """
    if not bits or list(bits) != sorted(bits, reverse=True):
        raise ValueError(f"bits fall from stage to stage, as in {list(BITS)}, got {list(bits)}")
    given = [1.0] * len(bits) if shares is None else list(shares)
    if len(given) != len(bits):
        raise ValueError(f"each of the {len(bits)} widths has one share, got {len(given)}: {given}")
    stages: list[tuple[Precision, float]] = []
    before = bits[0]
    for width, share in zip(bits, given, strict=True):
        both = Precision(weight_bits=width, activation_bits=width)
        if nested and width != before:
            weights = Precision(weight_bits=width, activation_bits=before)
            stages += [(weights, share / 2), (both, share / 2)]
        else:
            stages.append((both, share))
        before = width
    return StagedPrecision(in_steps(stages, steps), layers=layers, clip=clip, restarts=restarts)
