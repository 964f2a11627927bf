"""What a step keeps in memory, and whether it fits."""

import pytest

import hw_models
from hw_models.footprint import Footprint, footprint_of
from lowbit_sim.trace import VectorEvent, WorkloadTrace
from tests.hw_models.machines import gemm, tiny

UPDATE = VectorEvent(
    kind="optimizer_update", elements=10, read_bytes=120, write_bytes=80, role="update",
    parameter_bytes=40, gradient_bytes=20, state_bytes=80,
)  # fmt: skip
NORM = VectorEvent(kind="batch_norm", elements=5, read_bytes=20, write_bytes=20, kept_bytes=7)


def test_updates_tell_of_parameters_and_events_of_activations():
    trace = WorkloadTrace([gemm(kept_bytes=100), NORM, UPDATE, UPDATE])
    found = footprint_of(trace)
    assert found == Footprint(weights=80, gradients=40, optimizer_state=160, activations=107)
    assert found.total == 387


def test_without_an_update_the_gradients_are_what_the_gemms_leave():
    events = [gemm(4, 5, 6), gemm(4, 5, 6, role="grad_input"), gemm(4, 5, 6, role="grad_weight", count=3)]
    assert footprint_of(WorkloadTrace(events)) == Footprint(gradients=4 * 3 * 20)


@pytest.mark.parametrize(("capacity", "noted"), [(227, False), (226, True)])
def test_what_does_not_fit_is_noted(capacity, noted):
    profile = tiny(("[memory.dram]\n", f"[memory.dram]\ncapacity_bytes = {capacity}\n"))
    trace = WorkloadTrace([gemm(kept_bytes=80), NORM, UPDATE])
    report = hw_models.estimate(trace, profile)
    assert report.footprint.total == 227
    expected = (
        "a training step keeps 227 bytes (of these 87 of activations), more than the 226 of memory.dram: what does "
        "not fit is priced as if it did"
    )
    assert report.notes == ((expected,) if noted else ())
