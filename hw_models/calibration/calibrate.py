"""Calibrates a profile on the present device, and says how well it predicts GEMMs that it was not fitted to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from hw_models.calibration.measure import Measurement, Plan, ReadEnergy, gemm_row, measure
from hw_models.calibration.prediction import Prediction, predictions, typical_factor
from hw_models.calibration.profile_text import Device
from hw_models.load import parse


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """A fitted profile and what it predicts.

    Attributes:
        measurement: What was measured, and the profile's text.
        predictions: First of the GEMMs that fixed it, then of the others.
    """

    measurement: Measurement
    predictions: tuple[Prediction, ...]

    @property
    def device(self) -> Device:
        """The device."""
        return self.measurement.device

    @property
    def profile(self) -> str:
        """The profile's text."""
        return self.measurement.profile

    @property
    def copy_bytes_per_second(self) -> float:
        """What was measured of the memory."""
        return self.measurement.copy_bytes_per_second

    def typical_factor(self, mode: str = "") -> float:
        """How far off a prediction of a held-out GEMM typically is, of one mode or of all; see `prediction`."""
        own = [p for p in self.predictions if p.held_out and mode in ("", p.gemm.mode)]
        return typical_factor(own)

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain dicts, lists, strings and numbers, for JSON."""
        return {
            **self.measurement.summary(),
            "typical_factor_held_out": {
                mode: self.typical_factor(mode)
                for mode in dict.fromkeys(p.gemm.mode for p in self.predictions)
            },
            "gemms": [_row(each) for each in self.predictions],
            "profile": self.profile,
        }


def _row(each: Prediction) -> dict[str, Any]:
    measured = gemm_row(each.gemm, held_out=each.held_out)
    return {**measured, "predicted_s": each.predicted_s, "error": each.error}


def calibrate(
    device: torch.device, hardware: str, *, plan: Plan | None = None, read_energy: ReadEnergy = None
) -> Calibration:
    """Time a plan's GEMMs on a device, fit a profile to the first of them, and predict the others.

    Args:
        device: The device.
        hardware: Its name.
        plan: What is timed; by default what fits a CPU, or a GPU.
        read_energy: Its counter of energy, if it has one.

    Raises:
        ValueError: Times that fix no machine: see `fit.fit`.
    """
    return predicted(measure(device, hardware, plan=plan, read_energy=read_energy))


def predicted(found: Measurement) -> Calibration:
    """What the fitted profile makes of every GEMM that was measured."""
    profile = parse(found.profile, f"the fit to {found.device.name}")
    both = (
        *predictions(profile, found.modes, found.fitted, held_out=False),
        *predictions(profile, found.modes, found.held_out, held_out=True),
    )
    return Calibration(measurement=found, predictions=both)
