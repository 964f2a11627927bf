"""Prices of a hypernetwork study: an update of each arm, and an image through the held-out networks."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

import hw_models
from lowbit_sim.ghn.cost import trace_meta_step, trace_network
from lowbit_sim.ghn.evaluation import BATCH_SIZE
from lowbit_sim.ghn.graph import NetworkGraph
from lowbit_sim.ghn.hypernetwork import build_hypernetwork
from lowbit_sim.ghn.training import MetaTraining
from lowbit_sim.study.data import Dataset
from lowbit_sim.study.errors import StudyError
from lowbit_sim.study.ghn.config import ArmTable, EvaluationTable, GhnStudy
from lowbit_sim.study.ghn.results import InferencePrice, MachinePrice
from lowbit_sim.trace import WorkloadTrace

#: Of how many networks the inference is priced.
PRICED_NETWORKS = 10


def update_prices(
    study: GhnStudy, arm: ArmTable, data: Dataset, profiles: Sequence[hw_models.HardwareProfile]
) -> tuple[MachinePrice, ...]:
    """The first update of an arm on every machine: its networks, the hypernetwork and Adam.

    Raises:
        StudyError: Numerics that don't fit the networks' layers, or fewer networks or images than an update takes.
    """
    try:
        training = MetaTraining(
            build_hypernetwork(study.hypernetwork.build(), data.classes, seed=study.seeds[0]),
            study.space.training(),
            data.train,
            study.training.build(study.seeds[0]),
            arm.build(),
        )
        trace = trace_meta_step(training)
    except ValueError as error:
        raise StudyError(f"arm {arm.name!r}: {error}") from error
    return tuple(price(trace, profile) for profile in profiles)


def price(trace: WorkloadTrace, profile: hw_models.HardwareProfile) -> MachinePrice:
    """The cost of a trace on a machine, or the reason why the machine can't run it."""
    machine = profile.machine.name
    try:
        report = hw_models.estimate(trace, profile)
    except hw_models.UnsupportedOperandError as error:
        return MachinePrice(machine=machine, refusal=str(error))
    total = report.total
    return MachinePrice(
        machine=machine,
        cycles=report.cycles,
        seconds=report.seconds,
        energy_pj=total.energy_pj,
        energy_low_pj=total.energy_low_pj,
        energy_high_pj=total.energy_high_pj,
        energy_by_role={role: cost.energy_pj for role, cost in report.by_role.items() if cost.cycles},
    )


def inference_prices(
    evaluation: EvaluationTable,
    graphs: Sequence[NetworkGraph],
    images: tuple[int, int, int],
    profiles: Sequence[hw_models.HardwareProfile],
) -> tuple[InferencePrice, ...]:
    """The mean over some networks of what an image costs, at every precision on every machine.

    Args:
        evaluation: Precisions and accumulator.
        graphs: The networks.
        images: Shape of an image, [C, H, W].
        profiles: The machines.
    """
    graphs = graphs[:PRICED_NETWORKS]
    found: list[InferencePrice] = []
    for name, precision in evaluation.build().items():
        traces = [
            trace_network(graph, precision, images=(BATCH_SIZE, *images), mac=evaluation.mac())
            for graph in graphs
        ]
        for profile in profiles:
            prices = [price(trace, profile) for trace in traces]
            found.append(InferencePrice(precision=name, networks=len(graphs), price=_mean(prices)))
    return tuple(found)


def _mean(prices: Sequence[MachinePrice]) -> MachinePrice:
    """The mean for one image; a refusal of one is that of all."""
    refused = next((each for each in prices if each.refusal), None)
    if refused is not None:
        return refused
    roles = dict.fromkeys(role for each in prices for role in each.energy_by_role)
    return MachinePrice(
        machine=prices[0].machine,
        cycles=_per_image([each.cycles for each in prices]),
        seconds=_per_image([each.seconds for each in prices]),
        energy_pj=_per_image([each.energy_pj for each in prices]),
        energy_low_pj=_per_image([each.energy_low_pj for each in prices]),
        energy_high_pj=_per_image([each.energy_high_pj for each in prices]),
        energy_by_role={
            role: _per_image([_of(each.energy_by_role, role) for each in prices]) for role in roles
        },
    )


def _per_image(values: Sequence[float]) -> float:
    return statistics.fmean(values) / BATCH_SIZE


def _of(parts: Mapping[str, float], role: str) -> float:
    return parts.get(role, 0.0)
