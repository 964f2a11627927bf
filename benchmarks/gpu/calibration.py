"""A profile of this device from measured GEMMs, and its predictions of others: `lowbit-sim calibrate` as a task."""

from __future__ import annotations

import torch

from benchmarks.gpu.task import Record, Task


def calibrated_profile(_: float) -> Record:
    """Predicted times of GEMMs beside measured ones; the profile's text is in the record."""
    from hw_models.calibration.calibrate import calibrate
    from lowbit_sim.study.environment import hardware_name
    from lowbit_sim.training.energy import energy_meter

    device = torch.device("cuda", torch.cuda.current_device())
    meter = energy_meter(device)
    found = calibrate(device, hardware_name(device), read_energy=meter.read_j)
    return {**found.to_dict(), "energy": meter.how}


TASKS = [
    Task(
        name="calibrated_profile",
        summary="A machine profile fitted to measured GEMMs, and its predictions of others.",
        seconds=240,
        work=calibrated_profile,
        needs=("pydantic",),
    )
]
