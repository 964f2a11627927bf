"""Times of GEMMs by a profile beside measured ones."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hw_models.calibration.modes import TimedMode
from hw_models.calibration.timing import TimedGemm
from hw_models.gemm_cost import gemm_cost
from hw_models.profile import HardwareProfile
from lowbit_sim.trace import GemmEvent, Operand


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """A GEMM's time by the profile beside the one that was measured.

    Attributes:
        gemm: What was measured.
        predicted_s: Seconds by the profile.
        held_out: Whether the profile was fitted without it.
    """

    gemm: TimedGemm
    predicted_s: float
    held_out: bool

    @property
    def error(self) -> float:
        """Predicted over measured, less one."""
        return self.predicted_s / self.gemm.seconds - 1


def predictions(
    profile: HardwareProfile, modes: Sequence[TimedMode], gemms: Sequence[TimedGemm], *, held_out: bool
) -> list[Prediction]:
    """The profile's time for each GEMM.

    Args:
        profile: The machine.
        modes: The modes of the GEMMs.
        gemms: What was measured.
        held_out: Whether the profile was fitted without them.
    """
    by_name: Mapping[str, TimedMode] = {mode.name: mode for mode in modes}
    found = []
    for gemm in gemms:
        cost = gemm_cost(_event(gemm, by_name[gemm.mode]), profile).cost
        seconds = cost.cycles / profile.clock.frequency_hz
        found.append(Prediction(gemm=gemm, predicted_s=seconds, held_out=held_out))
    return found


def typical_factor(found: Sequence[Prediction]) -> float:
    """exp of the median |log(predicted / measured)|: 1.1 where a typical prediction is off by a tenth either way."""
    return math.exp(statistics.median(abs(math.log(p.predicted_s / p.gemm.seconds)) for p in found))


def _event(gemm: TimedGemm, mode: TimedMode) -> GemmEvent:
    rows, columns, reduction = gemm.shape
    operand = Operand(format=mode.name, bits=mode.operand_bits)
    whole = mode.kind == "integer"
    return GemmEvent(
        role="output",
        M=rows,
        N=columns,
        K=reduction,
        lhs=operand,
        rhs=operand,
        accumulator_bits=32,
        overflow="wrap" if whole else "float",
        outer_bits=32,
        result_bits=0 if whole else min(mode.stored_bits, 32),
    )
