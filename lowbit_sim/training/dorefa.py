"""Quantised training with DoReFa's grids, weights and inputs at once: the baseline of the methods in stages.

Source: Zhou et al., "DoReFa-Net", arXiv 1606.06160, without its quantised gradients, which are a matter of the
layers' numerics here; the grids are `nn.dorefa_grid`'s.
"""

from __future__ import annotations

from collections.abc import Sequence

from lowbit_sim.nn.dorefa_grid import Precision
from lowbit_sim.training.settings import TrainingSettings
from lowbit_sim.training.staged_precision import StagedPrecision, in_steps


def dorefa(
    precision: Precision,
    *,
    steps: int,
    pretraining: float = 0.0,
    layers: Sequence[str] | None = None,
    clip: float = 1.0,
    restarts: TrainingSettings | None = None,
) -> StagedPrecision:
    """Weights and inputs on their grids, from the start or after a stretch in full precision.

    Args:
        precision: What the run ends in.
        steps: Steps of the run.
        pretraining: Share of them in full precision first, at least 0 and below 1.
        layers: Patterns of the paths of the layers to quantise; None for all but the first and the last.
        clip: Upper end of the inputs' range.
        restarts: The run's settings, where each stage runs their learning-rate schedule anew.

    Raises:
        ValueError: A share outside its range, or too few steps.
    """
    check_share("pretraining", pretraining)
    stages = [(Precision(), pretraining), (precision, 1 - pretraining)]
    return StagedPrecision(in_steps(stages, steps), layers=layers, clip=clip, restarts=restarts)


def check_share(name: str, share: float) -> None:
    """Refuse a share of a run that leaves nothing of it.

    Raises:
        ValueError: Naming it.
    """
    if not 0 <= share < 1:
        raise ValueError(f"{name} is a share of the run, at least 0 and below 1, got {share!r}")
