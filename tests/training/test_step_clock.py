import time

import pytest
import torch

from lowbit_sim.training import step_clock as module
from lowbit_sim.training.step_clock import CudaClock, HostClock, step_clock


def test_the_hosts_clock_takes_each_step_once():
    clock = step_clock(torch.device("cpu"))
    assert isinstance(clock, HostClock)
    for seconds in (0.02, 0.0):
        clock.start()
        time.sleep(seconds)
        clock.stop()
    first, second = clock.taken()
    assert first >= 0.02 > second >= 0
    assert clock.taken() == []


class Event:
    """Stands for an event of a device whose clock is a counter of milliseconds."""

    now = 0.0
    waited = 0

    def __init__(self, enable_timing):
        assert enable_timing

    def record(self, stream):
        Event.now += 5.0
        self.at = Event.now

    def synchronize(self):
        Event.waited += 1

    def elapsed_time(self, other):
        return other.at - self.at


def test_a_cuda_device_is_timed_by_events_that_are_read_together(monkeypatch):
    monkeypatch.setattr(module.torch.cuda, "Event", Event)
    monkeypatch.setattr(module.torch.cuda, "current_stream", lambda device: None)
    clock = step_clock(torch.device("cuda"))
    assert isinstance(clock, CudaClock)
    assert clock.taken() == []
    for _ in range(3):
        clock.start()
        clock.stop()
    assert clock.taken() == pytest.approx([0.005] * 3)
    assert Event.waited == 1
    assert clock.taken() == []
