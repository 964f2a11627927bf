"""SAT as a recipe, alone and with PACT: what it does to a model, how it trains, and with what it composes."""

from typing import Any

import pytest
import torch
from torch import nn

import lowbit_sim as lb
from lowbit_sim.nn.rescaled_weight import rescaled_weight
from lowbit_sim.ops.capture import capture
from lowbit_sim.quant.dorefa_weights import DoReFaLevels, variance
from lowbit_sim.training.checkpoint import Checkpoint
from lowbit_sim.training.inference import trace_inference
from lowbit_sim.training.loop import evaluate, train
from lowbit_sim.training.pact import PACT
from lowbit_sim.training.recipe import Step
from lowbit_sim.training.sat import SAT
from lowbit_sim.training.settings import TrainingSettings, build_optimizer
from lowbit_sim.training.weighted_layers import weighted_layers
from tests.ops.captured import assert_definition
from tests.training.levels import luq_spec, prepared, trained
from tests.training.toys import SETTINGS, check_resumes_bit_for_bit, parameter_bits, toy_examples, toy_model


def test_sat_puts_every_weight_on_levels_and_rescales_those_without_a_norm():
    model = prepared("small_cnn", SAT(bits=2), width=4)
    steps = {path: rescaled_weight(layer) for path, layer in weighted_layers(model).items()}
    assert [step.rescaling.levels.bits for step in steps.values()] == [8, 2, 2, 8]
    assert [step.rescaling.kind for step in steps.values()] == ["none", "none", "none", "constant"]
    classifier = model.get_submodule("classifier")
    assert float(variance(classifier.weight)) * 10 == pytest.approx(1, abs=1e-6)
    assert (
        float(variance(model.get_submodule("features.2.conv").weight)) > 0.1
    )  # clamped: spread over [-1, 1]


@pytest.mark.parametrize(
    ("recipe", "kinds", "bits"),
    [
        (SAT(), ["constant"] * 3, [8, 4, 8]),
        (SAT(rescaling="none", edge_bits=3), ["none"] * 3, [3, 4, 3]),
        (SAT(rescaling="stddev", rescaled=["5"]), ["none", "none", "stddev"], [8, 4, 8]),
        (SAT(bits=32), ["constant"] * 3, [None] * 3),
        (SAT(layers=["3"], scheme="centered"), ["constant"], [4]),
    ],
)
def test_the_keys_of_sat(recipe, kinds, bits):
    model = prepared("mlp", recipe, width=6)
    steps = [step for layer in model.modules() if (step := rescaled_weight(layer))]
    assert [step.rescaling.kind for step in steps] == kinds
    assert [step.rescaling.levels and step.rescaling.levels.bits for step in steps] == bits
    assert all(
        step.rescaling.levels is None or step.rescaling.levels.scheme == recipe.scheme for step in steps
    )


@pytest.mark.parametrize("spec", [None, luq_spec(20)], ids=["native", "emulated"])
@pytest.mark.parametrize(
    "recipes",
    [(SAT,), (PACT,), (SAT, PACT), (PACT, SAT)],
    ids=lambda kinds: " and ".join(kind.__name__ for kind in kinds),
)
def test_a_model_trains(spec, recipes):
    model = toy_model()
    if spec is not None:
        lb.convert(model, [lb.Rule("*", spec)])
    made = [kind() for kind in recipes]
    before = evaluate(model, toy_examples(40))[0]
    _, loss = trained(model, *made, weight_decay=0.0, epochs=8)
    assert loss < before
    for recipe in made:
        values = recipe.measurements()
        assert values
        assert all(map(torch.isfinite, map(torch.tensor, values.values())))


@pytest.mark.parametrize("kind", [SAT, PACT])
def test_a_run_resumes_bit_for_bit(kind, tmp_path):
    check_resumes_bit_for_bit(kind, tmp_path)


def test_an_emulated_run_resumes_bit_for_bit(tmp_path):
    def run(**options: Any) -> list[bytes]:
        model = lb.convert(toy_model(), [lb.Rule("*", luq_spec(20))])
        train(model, toy_examples(), toy_examples(5), SETTINGS, recipes=[SAT(), PACT()], **options)
        return parameter_bits(model)

    def stop(metrics: Any) -> None:
        raise KeyboardInterrupt

    checkpoint = Checkpoint(path=tmp_path / "run")
    with pytest.raises(KeyboardInterrupt):
        run(checkpoint=checkpoint, on_epoch=stop)
    # The epoch that was stopped was not saved yet; the next one is.
    with pytest.raises(KeyboardInterrupt):
        run(checkpoint=Checkpoint(path=tmp_path / "run", on_saved=lambda: stop(None)))
    assert run(checkpoint=checkpoint) == run()


def test_sat_luq_and_a_20_bit_accumulator_are_one_configuration():
    """The levels are the formulas', the gradients LUQ's, and every sum the 20-bit accumulator's."""
    recipes = [SAT(bits=4), PACT(bits=4, conv_alpha=2.0, linear_alpha=2.0)]
    model = prepared("small_cnn", *recipes, spec=luq_spec(20), width=4)
    for layer in weighted_layers(model).values():
        spec = layer.emulation.op_spec
        assert {gemm.mac.accumulator_bits for gemm in (spec.output, spec.grad_input, spec.grad_weight)} == {
            20
        }
        assert spec.grad_input.lhs == spec.grad_weight.lhs == lb.luq()
    x = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    with capture() as kept:
        model(x).square().sum().backward()
    assert assert_definition(kept) == 3 * 4 - 1  # no gradient of the image
    middle = [g for g in kept.gemms if g.layer == "features.2.conv"]
    assert {g.role for g in middle} == {"output", "grad_input", "grad_weight"}
    weight = model.get_submodule("features.2.conv").parametrizations.weight.original.detach()
    unit = torch.tanh(weight) / (2 * torch.tanh(weight).abs().max()) + 0.5
    codes = DoReFaLevels(bits=4).integers(unit).permute(0, 2, 3, 1).flatten(1)
    assert torch.equal(middle[0].rhs[0].t().float(), codes)
    assert 0 <= int(middle[0].lhs[0].min()) < int(middle[0].lhs[0].max()) <= 15


def test_a_narrow_accumulator_saturates_and_is_counted():
    """9 bits hold no sum of products of 4-bit levels: the configuration is not only read but felt."""
    losses = []
    for bits in (9, 20):
        model = prepared("mlp", SAT(), PACT(linear_alpha=2.0), spec=luq_spec(bits), width=16)
        with lb.record() as trace:
            y = model(torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0)))
        overflows = [e.overflows for e in trace.gemms]
        losses.append((y.detach(), sum(o or 0 for o in overflows)))
    assert losses[0][1] > losses[1][1]
    assert not torch.equal(losses[0][0], losses[1][0])


def test_a_step_is_priced_with_the_formats_of_the_levels():
    recipes = [SAT(bits=2, edge_bits=2), PACT(bits=2)]
    model = prepared("small_cnn", *recipes, spec=luq_spec(20), width=4)
    examples = torch.randn(2, 1, 8, 8)
    optimizer = build_optimizer(model, SETTINGS)
    trace = lb.trace_training_step(model, examples, torch.tensor([0, 1]), optimizer, recipes=recipes)
    forward = {e.layer: (e.lhs.bits, e.rhs.bits) for e in trace.gemms if e.role == "output"}
    assert forward == {
        "features.0.conv": (4, 2),
        "features.2.conv": (2, 2),
        "features.5.conv": (2, 2),
        "classifier": (2, 2),
    }
    assert sum(e.kind == "transform" for e in trace.vectors) == 2 * 4
    # A clip is its place in what is kept, and a pass backward (the 20 are the bias'): nothing for its one number.
    inside = [
        e.elements
        for e in trace.vectors
        if e.layer == "classifier" and e.kind == "activation" and not e.parameter
    ]
    assert inside == [0, 2 * 10, 2 * 8]
    inference = trace_inference(model, examples)
    assert all(e.elements > 1 for e in inference.vectors)
    assert all(e.kind != "transform" for e in inference.vectors)


def test_a_step_of_shapes_alone_has_the_same_events():
    recipes = [SAT(bits=3), PACT(bits=3, gradient="pact")]
    model = prepared("small_cnn", *recipes, spec=luq_spec(20), width=4)
    optimizer, targets = build_optimizer(model, SETTINGS), torch.tensor([0, 1])
    traces = [
        lb.trace_training_step(
            model, torch.zeros(2, 1, 8, 8, device=device), targets.to(device), optimizer, recipes=recipes
        )
        for device in ("cpu", "meta")
    ]
    costs = [[(e.kind, e.elements, e.bytes, e.kept_bytes) for e in trace.vectors] for trace in traces]
    assert costs[0] == costs[1]
    shapes = [[(e.role, e.M, e.N, e.K, e.lhs, e.rhs, e.kept_bytes) for e in trace.gemms] for trace in traces]
    assert shapes[0] == shapes[1]


def test_without_layers_to_prepare_or_unprepared_a_step_is_refused():
    model = toy_model()
    step = Step(
        index=0, epoch=0, model=model, optimizer=build_optimizer(model, SETTINGS), batch=toy_examples(4)
    )
    for recipe in (SAT(), PACT()):
        with pytest.raises(ValueError, match=r"call prepare\(model\) before the optimiser is built"):
            recipe.before_step(step)
        assert recipe.measurements() == {}
    with pytest.raises(ValueError, match="no linear layer and no convolution"):
        SAT().prepare(nn.ReLU())
    with pytest.raises(ValueError, match="one layer, '0', whose input is the model's own"):
        PACT().prepare(nn.Sequential(nn.Linear(3, 2)))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: SAT(bits=0), ValueError, "1 to 16 bits, got bits=0"),
        (lambda: SAT(edge_bits=20), ValueError, "1 to 16 bits, got bits=20"),
        (lambda: SAT(scheme="floor"), ValueError, "unknown scheme"),
        (lambda: SAT(rescaling="variance"), ValueError, "unknown rescaling of weights"),
        (lambda: SAT(rescaling="none", rescaled=["a"]), ValueError, "rescaled would have no effect"),
        (lambda: SAT(weight_decay="none"), ValueError, "unknown weight_decay 'none'"),
        (lambda: SAT(layers=[]), ValueError, "layers is empty"),
        (lambda: SAT(layers="conv"), TypeError, "list of patterns"),
        (lambda: prepared("mlp", SAT(), SAT()), ValueError, "weight of layer '1' is pre-processed already"),
        (
            lambda: SAT().prepare(
                lb.preprocess_weights(prepared("mlp", spec=luq_spec(20)), "dorefa", bits=4)
            ),
            ValueError,
            "leave the weights' own pre-processing out",
        ),
    ],
)
def test_what_can_not_be_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_metagrad_takes_weights_whose_maximum_is_a_constant_and_refuses_the_others():
    def run(maximum: Any) -> str:
        model = lb.convert(toy_model(), [lb.Rule("*", luq_spec(20))])
        settings = TrainingSettings(epochs=1, batch_size=8, learning_rate=0.05)
        recipes = [SAT(maximum=maximum), lb.MetaGrad(lb.FCGrad())]
        return train(model, toy_examples(), toy_examples(5), settings, recipes=recipes).status

    assert run("constant") == "completed"
    with pytest.raises(ValueError, match='give sat the key maximum = "constant"'):
        run("differentiated")
