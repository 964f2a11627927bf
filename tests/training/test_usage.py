from itertools import count

import torch

from lowbit_sim.training import usage
from lowbit_sim.training.energy import EnergyMeter
from lowbit_sim.training.loop import train
from lowbit_sim.training.usage import Usage, UsageMeter, measured_how
from tests.training.toys import SETTINGS, toy_examples, toy_model

CPU = torch.device("cpu")


def joules(step: float) -> EnergyMeter:
    """A counter that has gone on by so much whenever it is read."""
    numbers = count()
    return EnergyMeter(how="a counter", read_j=lambda: step * next(numbers))


def test_energy_is_what_the_counter_moved():
    meter = UsageMeter(CPU, joules(2.5))
    meter.start()
    assert meter.stop() == Usage(energy_j=2.5)


def test_without_a_counter_nothing_is_said():
    meter = UsageMeter(CPU, EnergyMeter(how="not measured: here"))
    meter.start()
    assert meter.stop() == Usage()


def test_a_cuda_devices_peak_is_that_since_the_start(monkeypatch):
    calls = []
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: calls.append("wait"))
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: calls.append("reset"))
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 77)
    meter = UsageMeter(torch.device("cuda"), joules(1.0))
    meter.start()
    assert meter.stop() == Usage(energy_j=1.0, peak_memory_bytes=77)
    assert calls == ["wait", "reset", "wait"]


def test_every_epoch_has_its_steps_and_their_energy(monkeypatch):
    monkeypatch.setattr(usage, "energy_meter", lambda device: joules(3.0))
    data = toy_examples()
    result = train(toy_model(), data, data, SETTINGS)
    assert [(e.steps, e.energy_j, e.peak_memory_bytes) for e in result.epochs] == [(3, 3.0, None)] * 2
    assert len(result.step_seconds) == 6


def test_how_is_said_for_each_quantity(monkeypatch):
    monkeypatch.setattr(usage, "energy_meter", lambda device: EnergyMeter(how="not measured: why"))
    assert measured_how(CPU)["time"] == "the host's clock"
    assert measured_how(CPU)["energy"] == "not measured: why"
    assert measured_how(CPU)["memory"].startswith("not measured: ")
    assert measured_how(torch.device("cuda"))["time"] == "CUDA events"
