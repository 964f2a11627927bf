"""What MetaGrad adds to the trace of a training step."""

import pytest
import torch

import hw_models
import lowbit_sim as lb
from lowbit_sim.trace import GemmEvent, VectorEvent
from tests.training.metagrad.nets import HYPERNETWORKS, STOCHASTIC, batches, bits, net

COORDINATES = 6 * 8 + 8 * 3


def traced(recipe: lb.MetaGrad | None, *, device: str = "cpu", model=None):
    model = model or net()
    batch = batches("dense", 1)[0]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    recipes = [] if recipe is None else [recipe]
    return lb.trace_training_step(model, batch.inputs.to(device), batch.targets, optimizer, recipes=recipes)


def added(trace):
    return [e for e in trace.events if e.layer.partition(".")[0] == "hypernetwork"]


@pytest.mark.parametrize("name", HYPERNETWORKS)
def test_the_rest_of_the_step_is_as_it_was(name):
    plain, trace = traced(None), traced(lb.MetaGrad(HYPERNETWORKS[name]()))
    mine = added(trace)
    rest = [e for e in trace.events if not any(e is m for m in mine)]
    assert [(type(e), e.role, e.layer) for e in rest] == [(type(e), e.role, e.layer) for e in plain.events]
    assert {e.role for e in mine} == {"update"}
    assert {e.kind for e in mine if isinstance(e, VectorEvent)} == {"hypernetwork", "optimizer_update"}
    assert all(e.kept_bytes == 0 for e in mine)


def test_gemms_of_moment_fc():
    """Forward twice (learning, correcting) and backward once; the input needs no gradient."""
    gemms = [e for e in added(traced(lb.MetaGrad(lb.MomentFC(4)))) if isinstance(e, GemmEvent)]
    n = COORDINATES
    first, last = (4, n, 6), (3, n, 4)
    found = [(e.M, e.N, e.K) for e in gemms]
    assert found[:2] == found[5:] == [first, last]
    assert sorted(found[2:5]) == sorted([(3, 4, n), (n, 4, 3), (4, 6, n)])
    assert {e.lhs.format for e in gemms} == {"fp32"}


def test_a_converted_hypernetwork_bills_its_own_numerics():
    m = lb.convert(lb.MomentFC(4), [lb.Rule("*", lb.OpSpec.uniform(lb.INT8))])
    mine = added(traced(lb.MetaGrad(m)))  # type: ignore[arg-type]
    gemms = [e for e in mine if isinstance(e, GemmEvent)]
    assert len(gemms) == 7
    assert {e.lhs.format for e in gemms} == {"int8"}
    assert {"quantize", "dequantize"} <= {e.kind for e in mine if isinstance(e, VectorEvent)}


@pytest.mark.parametrize("name", HYPERNETWORKS)
def test_on_the_meta_device_the_events_are_the_same(name):
    on_cpu, on_meta = (added(traced(lb.MetaGrad(HYPERNETWORKS[name]()), device=d)) for d in ("cpu", "meta"))

    def told(event):
        return (event.role, event.layer, getattr(event, "elements", 0), getattr(event, "read_bytes", 0))

    assert list(map(told, on_meta)) == list(map(told, on_cpu))


def test_passes_and_state_of_fc_grad_with_adam():
    model = net()
    batch = batches("dense", 1)[0]
    trace = lb.trace_training_step(
        model,
        batch.inputs,
        batch.targets,
        torch.optim.Adam(model.parameters()),
        recipes=[lb.MetaGrad(lb.FCGrad(8))],
    )
    vector = 4 * COORDINATES
    passes = added(trace)[-1]
    # Gradient in, whether it is finite, direction, gradient out, its norms; the first, third and fourth are written.
    # What is kept at that moment is the gradient, the factors come later.
    assert (passes.read_bytes, passes.write_bytes, passes.state_bytes) == (5 * vector, 3 * vector, vector)
    phi = next(e for e in added(trace) if getattr(e, "kind", "") == "optimizer_update")
    assert (phi.elements, phi.parameter_bytes, phi.state_bytes) == (16, 64, 128)


def test_the_conversion_by_q_g_is_billed():
    quantizer = lb.Quantizer(lb.INT4, rounding=STOCHASTIC)
    plain = [e for e in traced(lb.MetaGrad(lb.FCGrad())).vectors if e.role == "update"]
    vectors = [
        e
        for e in traced(lb.MetaGrad(lb.FCGrad(), gradient_quantizer=quantizer)).vectors
        if e.role == "update"
    ]
    more = [e for e in vectors if e.kind in ("quantize", "random_bits", "scale_reduction")]
    assert len(vectors) == len(plain) + len(more)
    assert sum(e.elements for e in more if e.kind == "quantize") == COORDINATES
    assert sum(e.random_bits for e in more) == 8 * COORDINATES


def test_recording_changes_nothing():
    """Recipe, model and hypernetwork stay as they are, on a recipe in use as well."""
    model, recipe = net(), lb.MetaGrad(lb.MomentFC(4))
    before = bits(model), str(recipe.state_dict())
    traced(recipe, model=model)
    traced(recipe, device="meta", model=model)
    assert (bits(model), str(recipe.state_dict())) == before


def test_a_machine_prices_it():
    profile = hw_models.load("tpu_v1")
    plain, corrected = (hw_models.estimate(traced(r), profile) for r in (None, lb.MetaGrad(lb.MomentFC())))
    assert corrected.cycles > plain.cycles
    assert corrected.by_role["update"].cycles > plain.by_role["update"].cycles
    assert corrected.by_role["grad_weight"].cycles == plain.by_role["grad_weight"].cycles
