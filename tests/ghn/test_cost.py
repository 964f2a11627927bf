import torch

import hw_models
from lowbit_sim.ghn import MetaSettings, MetaTraining, Precision, Strategy, parse_precision
from lowbit_sim.ghn.cost import trace_meta_step, trace_network
from tests.ghn.examples import SPLIT, graph, graphs, hypernetwork, images

SETTINGS = MetaSettings(epochs=1, steps_per_epoch=1, meta_batch=2, batch_size=8)


def training(strategy: Strategy | None = None) -> MetaTraining:
    return MetaTraining(hypernetwork(), SPLIT, images(), SETTINGS, strategy or Strategy())


def macs_by_hand(size: int) -> int:
    """Of the network with every operator: positions of the result times the weight's numbers."""
    network = graph()
    halvings: list[int] = []
    total = 0
    for node in network.nodes:
        before = max((halvings[number] for number in node.inputs), default=0)
        halvings.append(before + (2 in node.stride and node.stride != (1, 2)))
        if node.shape is None or node.primitive in ("batch_norm", "bias"):
            continue
        height = size >> halvings[-1]
        width = size >> (before + (node.stride[1] == 2))
        if node.primitive == "linear":
            height = width = 1
        if node.name.endswith("_column"):
            # Behind its row, whose stride has halved the width already.
            row = network.nodes[node.inputs[0]]
            first = halvings[row.inputs[0]]
            height = size >> (first + (node.stride[0] == 2))
            width = size >> (first + (row.stride[1] == 2))
            halvings[-1] = first + (node.stride[0] == 2)
        total += height * width * node.shape[0] * node.fan_in
    return total


def test_an_inference_has_the_macs_of_the_graph():
    trace = trace_network(graph(), Precision(), images=(1, 1, 8, 8))
    assert trace.macs == macs_by_hand(8)


def test_an_inference_s_gemms_are_those_of_the_precision():
    trace = trace_network(graph(), parse_precision("W4A8"), images=(4, 1, 8, 8))
    assert {(e.lhs.format, e.rhs.format, e.role) for e in trace.gemms} == {("uint8", "int4", "output")}
    assert len({e.layer for e in trace.gemms}) == len(graph().multiplying)
    assert trace.macs == 4 * macs_by_hand(8)


def test_an_update_is_a_whole_step_and_changes_nothing():
    run = training()
    before = [p.detach().clone() for p in run.hypernetwork.parameters()]
    state, generator = run.draw.get_state(), torch.get_rng_state()
    trace = trace_meta_step(run)
    assert all(map(torch.equal, before, run.hypernetwork.parameters()))
    assert torch.equal(state, run.draw.get_state())
    assert torch.equal(generator, torch.get_rng_state())
    assert run.steps_taken == 0
    assert {event.role for event in trace.events} == {
        "output",
        "grad_input",
        "grad_weight",
        "update",
        "overhead",
    }
    update = [e for e in trace.vectors if e.kind == "optimizer_update"]
    assert [e.elements for e in update] == [sum(p.numel() for p in run.hypernetwork.parameters())]
    assert trace_meta_step(run).macs == trace.macs


def test_a_quantised_update_costs_its_conversions_too():
    plain, rounded = (
        trace_meta_step(training()),
        trace_meta_step(training(Strategy(name="simquant", precision=parse_precision("W4A4")))),
    )
    assert plain.macs == rounded.macs
    kinds = [[e.kind for e in trace.vectors].count("quantize") for trace in (plain, rounded)]
    layers = len({e.layer for e in rounded.gemms if e.layer.startswith("layers")})
    assert kinds[0] == 0
    assert kinds[1] >= 2 * layers  # inputs and weights


def test_both_can_be_priced():
    profile = hw_models.load("edge_npu")
    update = hw_models.estimate(trace_meta_step(training()), profile)
    image = hw_models.estimate(
        trace_network(graphs(1)[0], parse_precision("W8A8"), images=(1, 1, 8, 8)), profile
    )
    assert update.energy_pj > image.energy_pj > 0
