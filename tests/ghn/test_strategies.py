import pytest
import torch

import lowbit_sim as lb
from lowbit_sim.ghn import Precision, Strategy, parse_precision, predict
from lowbit_sim.ghn.network import meta_network, run
from lowbit_sim.ghn.precision import rules
from lowbit_sim.nn.emulation import EmulatedLayer
from lowbit_sim.ops.capture import capture
from tests.ghn.examples import graph, hypernetwork, images

W4A4 = parse_precision("W4A4")


def logits(strategy: Strategy, predicted) -> torch.Tensor:
    prepared = strategy.prepared(meta_network(graph()))
    return run(prepared.module, prepared.changed(predicted), images(6).inputs)


@pytest.fixture(scope="module")
def predicted() -> dict[str, torch.Tensor]:
    return predict(hypernetwork(), graph())


@pytest.mark.parametrize("name", ["simquant", "noisequant"])
def test_32_bits_change_nothing_bit_for_bit(name, predicted):
    strategy = Strategy(name=name, precision=Precision())
    assert torch.equal(logits(strategy, predicted), logits(Strategy(), predicted))


@pytest.mark.parametrize("precision", ["W8A8", "W4A4", "W2A2"])
def test_simquant_is_the_emulated_network(precision, predicted):
    """Values times values in float32, and integer sums of the same codes times scales: equal up to float's rounding.

    A rounding may carry an activation over to the next code, so the first layers are compared, where none has.
    """
    native = Strategy(name="simquant", precision=parse_precision(precision))
    emulated = Strategy(
        name="simquant", precision=parse_precision(precision), numerics=lb.OpSpec.uniform(lb.INT8)
    )
    found = []
    for strategy in (native, emulated):
        prepared = strategy.prepared(meta_network(graph()))
        outputs: list[torch.Tensor] = []
        prepared.module.get_submodule("layers.stem_conv").register_forward_hook(
            lambda m, args, y, o=outputs: o.append(y)
        )
        run(prepared.module, prepared.changed(predicted), images(6).inputs)
        found.append(outputs[0])
    torch.testing.assert_close(found[0], found[1], rtol=1e-5, atol=1e-6)


def test_the_codes_in_the_emulated_gemm_are_those_of_the_formula(predicted):
    strategy = Strategy(name="simquant", precision=W4A4, numerics=lb.OpSpec.uniform(lb.INT8))
    prepared = strategy.prepared(meta_network(graph()))
    x = images(6).inputs
    with torch.no_grad(), capture() as kept:
        run(prepared.module, prepared.changed(predicted), x)
    stem = next(each for each in kept.gemms if each.layer == "layers.stem_conv")
    weight = predicted["layers.stem_conv.weight"]  # [4, 1, 3, 3]
    codes = torch.round(weight / (weight.abs().max() / 7))
    assert torch.equal(stem.rhs[0].double(), codes.flatten(1).T.double())  # [K, outputs]
    low, high = min(float(x.min()), 0.0), max(float(x.max()), 0.0)
    step = (high - low) / 15
    zero = round(-low / step)
    quantised = torch.clamp(torch.round(x / step) + zero, 0, 15) - zero
    windows = torch.nn.functional.unfold(quantised, 3, padding=1)  # [6, 9, 64]
    assert torch.equal(stem.lhs[0].double(), windows.transpose(1, 2).flatten(0, 1).double())


def test_emulated_layers_have_the_precision_s_operands_and_the_table_s_rest():
    mac = lb.MacUnit(accumulator_bits=20)
    backward = lb.OpSpec.uniform(lb.INT8, mac=mac)
    strategy = Strategy(name="simquant", precision=W4A4, numerics=backward)
    prepared = strategy.prepared(meta_network(graph()), seed=3)
    layers = [m for m in prepared.module.modules() if isinstance(m, EmulatedLayer)]
    assert len(layers) == len(graph().multiplying)
    for layer, rule in zip(layers, rules(graph(), W4A4, mac=mac, backward=backward), strict=True):
        assert layer.emulation.spec == rule.spec
        assert layer.emulation.seed == 3
    prepared.at_step(41)
    assert {layer.random_step for layer in layers} == {41}


def test_noise_is_new_in_every_pass(predicted):
    strategy = Strategy(name="noisequant", precision=W4A4)
    torch.manual_seed(0)
    first, second = logits(strategy, predicted), logits(strategy, predicted)
    assert not torch.equal(first, second)
    torch.manual_seed(0)
    assert torch.equal(first, logits(strategy, predicted))


def test_weights_and_inputs_of_every_layer_are_rounded(predicted):
    prepared = Strategy(name="simquant", precision=parse_precision("W2A2")).prepared(meta_network(graph()))
    seen: dict[str, torch.Tensor] = {}
    for node in graph().multiplying:
        prepared.module.get_submodule(node.path).register_forward_hook(
            lambda m, args, y, name=node.name: seen.update({name: args[0]})
        )
    changed = prepared.changed(predicted)
    run(prepared.module, changed, images(6).inputs)
    assert len(seen) == len(graph().multiplying)
    for node in graph().multiplying:
        assert len(seen[node.name].unique()) <= 4
        assert len(changed[f"{node.path}.weight"].unique()) <= 3
    assert changed["layers.stem_bn.weight"] is predicted["layers.stem_bn.weight"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "simqant"}, "simqant"),
        ({"precision": W4A4}, "'float' quantises nothing: leave out W4A4"),
        (
            {"name": "noisequant", "precision": W4A4, "numerics": lb.OpSpec.uniform(lb.INT8)},
            "numerics are those of simquant's GEMMs",
        ),
        (
            {
                "name": "simquant",
                "precision": W4A4,
                "numerics": lb.OpSpec(output=None, grad_input=None, grad_weight=None),
            },
            "no emulated forward GEMM",
        ),
    ],
)
def test_strategies_that_can_not_be(options, message):
    with pytest.raises(ValueError, match=message):
        Strategy(**options)
