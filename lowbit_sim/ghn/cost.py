"""The workloads of a hypernetwork's training step and of a predicted network's inference, for a cost model."""

from __future__ import annotations

import copy

import torch

from lowbit_sim.arith.float_mac import FloatMacUnit
from lowbit_sim.arith.mac import MacUnit
from lowbit_sim.ghn.evaluation import at_precision
from lowbit_sim.ghn.graph import NetworkGraph
from lowbit_sim.ghn.network import GraphNetwork
from lowbit_sim.ghn.precision import Precision
from lowbit_sim.ghn.training import MetaTraining
from lowbit_sim.ops.billing import kept_once
from lowbit_sim.trace import WorkloadTrace, record
from lowbit_sim.training.determinism import deterministic
from lowbit_sim.training.inference import trace_inference


def trace_meta_step(training: MetaTraining) -> WorkloadTrace:
    """Run one update on a copy of a hypernetwork and record it: networks, hypernetwork and Adam.

    The networks' GEMMs have their roles; what the hypernetwork runs has the role "update". The training and torch's
    generators stay as they are.

    Args:
        training: A training on the CPU; its next update is what is recorded.
    """
    hypernetwork = copy.deepcopy(training.hypernetwork)
    twin = MetaTraining(
        hypernetwork, training.networks, training.images, training.settings, training.strategy
    )
    twin.draw.set_state(training.draw.get_state())
    with deterministic(training.settings.seed), record() as trace, kept_once():
        twin.step(training.settings.learning_rate)
    return trace


def trace_network(
    graph: NetworkGraph,
    precision: Precision,
    *,
    images: tuple[int, int, int, int],
    mac: MacUnit | FloatMacUnit = MacUnit(),
) -> WorkloadTrace:
    """The inference of a network at a precision, traced by shapes alone, with fixed statistics in its batch-norms.

    Args:
        graph: The network's.
        precision: Bits of weights and activations.
        images: Shape of a batch, [N, C, H, W].
        mac: The accumulator.
    """
    with torch.device("meta"):
        network = GraphNetwork(graph)
        batch = torch.empty(images)
    return trace_inference(at_precision(network, precision, mac=mac), batch)
