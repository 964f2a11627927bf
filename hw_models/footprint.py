"""Bytes that a training step keeps in the memory outside: parameters, gradients, optimiser state, activations.

All are taken to be there at the same time, at the end of the forward pass of a step that is not the first: weights
and optimiser state from the step before, every activation that the backward pass reads, and room for all gradients.
Work space and fragmentation are not counted.
"""

from __future__ import annotations

from dataclasses import dataclass

from lowbit_sim.trace import WorkloadTrace

#: Bytes of a gradient of which the trace does not say more.
FLOAT_BYTES = 4


@dataclass(frozen=True, kw_only=True)
class Footprint:
    """Bytes that a training step keeps.

    Attributes:
        weights: The parameters.
        gradients: Their gradients.
        optimizer_state: Momenta and the like.
        activations: What the forward pass keeps for the backward pass.
    """

    weights: int = 0
    gradients: int = 0
    optimizer_state: int = 0
    activations: int = 0

    @property
    def total(self) -> int:
        """All of them."""
        return self.weights + self.gradients + self.optimizer_state + self.activations


def footprint_of(trace: WorkloadTrace) -> Footprint:
    """What a step keeps, from its events: updates tell of parameters, forward events of activations.

    In a trace without an update the gradients are the results of its grad_weight GEMMs in float32, and nothing is
    known of weights and optimiser state.
    """
    updates = [e for e in trace.vectors if e.kind == "optimizer_update"]
    gradients = sum(e.gradient_bytes for e in updates) if updates else _gradient_bytes(trace)
    return Footprint(
        weights=sum(e.parameter_bytes for e in updates),
        gradients=gradients,
        optimizer_state=sum(e.state_bytes for e in updates),
        activations=sum(e.kept_bytes for e in trace.events),
    )


def _gradient_bytes(trace: WorkloadTrace) -> int:
    results = (e.count * e.M * e.N for e in trace.gemms if e.role == "grad_weight")
    return FLOAT_BYTES * sum(results)
