"""Two-step quantised training: first the weights, then the inputs too.

    full precision (if asked for)  ->  k-bit weights, full-precision inputs  ->  k-bit weights and inputs

in place of both at once, which is what `dorefa` does. Each stage starts from the weights of the one before it.

Source: Zhuang et al., "Towards Effective Low-bitwidth Convolutional Neural Networks", CVPR 2018 (arXiv 1711.00205):
the two steps, from a pre-trained net. The shares of the run are ours.
"""

from __future__ import annotations

from collections.abc import Sequence

from lowbit_sim.nn.dorefa_grid import Precision
from lowbit_sim.training.dorefa import check_share
from lowbit_sim.training.settings import TrainingSettings
from lowbit_sim.training.staged_precision import StagedPrecision, in_steps


def two_step(
    precision: Precision,
    *,
    steps: int,
    pretraining: float = 0.0,
    weights_share: float = 0.5,
    layers: Sequence[str] | None = None,
    clip: float = 1.0,
    restarts: TrainingSettings | None = None,
) -> StagedPrecision:
    """Weights on their grid first, inputs after them.

    Args:
        precision: What the run ends in.
        steps: Steps of the run.
        pretraining: Share of them in full precision first, at least 0 and below 1.
        weights_share: Share of the others in which the weights alone are on their grid, below 1.
        layers: Patterns of the paths of the layers to quantise; None for all but the first and the last.
        clip: Upper end of the inputs' range.
        restarts: The run's settings, where each stage runs their learning-rate schedule anew.

    Raises:
        ValueError: A share outside its range, or too few steps.
    """
    check_share("pretraining", pretraining)
    check_share("weights_share", weights_share)
    quantized = 1 - pretraining
    stages = [
        (Precision(), pretraining),
        (Precision(weight_bits=precision.weight_bits), quantized * weights_share),
        (precision, quantized * (1 - weights_share)),
    ]
    return StagedPrecision(in_steps(stages, steps), layers=layers, clip=clip, restarts=restarts)
