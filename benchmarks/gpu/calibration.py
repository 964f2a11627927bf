"""A profile of this device from measured GEMMs, and its predictions of others: `lowbit-sim calibrate` as a task."""

from __future__ import annotations

import importlib.util
import sys

from benchmarks.gpu.task import Record, Task


def calibrated_profile(_: float, device: str = "cuda") -> Record:
    """Predicted times of GEMMs beside measured ones; the profile's text is in the record.

    Profiles are read with pydantic. Where that is missing the times are measured and the profile is fitted all the
    same, and the record says that nothing was predicted.
    """
    from lowbit_sim.study.environment import hardware_name
    from lowbit_sim.training.device import find_device
    from lowbit_sim.training.energy import energy_meter

    where = find_device(device)
    meter = energy_meter(where)
    if importlib.util.find_spec("pydantic") is not None:
        from hw_models.calibration.calibrate import calibrate

        found = calibrate(where, hardware_name(where), read_energy=meter.read_j)
        return {**found.to_dict(), "energy": meter.how}
    _without_its_imports("hw_models")
    from hw_models.calibration.measure import measure

    measured = measure(where, hardware_name(where), read_energy=meter.read_j)
    why = "predictions need pydantic, not installed here"
    return {**measured.to_dict(), "energy": meter.how, "not_predicted": why}


def _without_its_imports(package: str) -> None:
    """Make a package's modules importable without what its `__init__` imports; for the rest of this process."""
    spec = importlib.util.find_spec(package)
    assert spec is not None, package
    sys.modules[package] = importlib.util.module_from_spec(spec)


TASKS = [
    Task(
        name="calibrated_profile",
        summary="A machine profile fitted to measured GEMMs, and its predictions of others.",
        seconds=150,
        work=calibrated_profile,
    )
]
