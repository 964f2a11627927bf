import pytest
import torch

from lowbit_sim.arith.mac import MacUnit
from lowbit_sim.arith.spec import OpSpec
from lowbit_sim.ghn import Precision, parse_precision
from lowbit_sim.ghn.precision import activation_quantizer, layer_quantizers, rules, weight_quantizer
from lowbit_sim.numerics.catalog import parse_format
from tests.ghn.examples import graph


@pytest.mark.parametrize("name", ["W32A32", "W8A8", "W4A8", "W4A4", "W2A2", "W3A5"])
def test_names_and_precisions_are_one(name):
    assert str(parse_precision(name)) == name
    assert parse_precision(name).is_float == (name == "W32A32")


def test_edges_are_told():
    assert str(parse_precision("W2A2", edge_bits=8)) == "W2A2 (first and last W8A8)"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: parse_precision("w4a4"), "as in W4A8, got 'w4a4'"),
        (lambda: parse_precision("W4A32"), "got W4A32"),
        (lambda: parse_precision("W1A4"), "2 to 8 bits each, or 32 both; got W1A4"),
        (lambda: Precision(weight_bits=4, activation_bits=9), "got W4A9"),
        (lambda: parse_precision("W4A4", edge_bits=1), "edge_bits=1"),
        (lambda: parse_precision("W32A32", edge_bits=8), "edge_bits would have no effect"),
        (lambda: parse_precision("W32A32", weight_scale="sawb"), "weight_scale would have no effect"),
        (lambda: parse_precision("W3A3", weight_scale="sawb"), "int2, int4 and int8 only"),
        (lambda: parse_precision("W4A4", weight_scale="sqwb"), "unknown scale of weights 'sqwb'"),
    ],
)
def test_bits_that_can_not_be(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_weights_are_symmetric_by_their_largest_magnitude(bits):
    w = torch.tensor([-1.0, -0.26, 0.0, 0.45, 0.74])
    q = weight_quantizer(bits)(w)
    top = 2 ** (bits - 1) - 1
    assert float(q.scale) == pytest.approx(1 / top, rel=1e-6)
    assert q.codes.tolist() == [round(v * top) for v in w.tolist()]
    assert q.zero_point is None


def test_sawb_keeps_more_of_a_bell_s_weights_than_absmax():
    """At 2 bits absmax rounds all below half of the largest to zero: most of 1,000 normal weights."""
    w = torch.randn(1000, generator=torch.Generator().manual_seed(0))
    zeros = [
        float((weight_quantizer(2, scale)(w).codes == 0).double().mean()) for scale in ("absmax", "sawb")
    ]
    assert zeros[0] > 0.8
    assert zeros[1] < 0.6
    found = layer_quantizers(graph(), parse_precision("W2A2", weight_scale="sawb"))
    assert {each.weight for each in found} == {weight_quantizer(2, "sawb")}
    assert str(parse_precision("W2A2", weight_scale="sawb")) == "W2A2 sawb"


def test_two_bits_have_three_levels():
    assert sorted(set(weight_quantizer(2)(torch.linspace(-1, 1, 101)).codes.tolist())) == [-1, 0, 1]


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_behind_a_relu_the_affine_quantiser_is_the_unsigned_one(bits):
    x = torch.relu(torch.randn(5, 7, generator=torch.Generator().manual_seed(bits)))
    affine, unsigned = activation_quantizer(bits)(x), activation_quantizer(bits, signed=False)(x)
    assert torch.equal(affine.codes, unsigned.codes)
    assert torch.equal(affine.scale.flatten(), unsigned.scale.flatten())
    assert torch.equal(affine.dequantize(), unsigned.dequantize())
    assert affine.zero_point is not None
    assert not affine.zero_point.any()


def test_activations_lie_between_their_ends():
    x = torch.tensor([-1.0, 0.0, 0.4, 2.0])
    q = activation_quantizer(4)(x)
    assert float(q.scale) == pytest.approx(3 / 15)
    assert q.codes.tolist() == [0, 5, 7, 15]


def test_the_first_and_the_last_layer_may_have_bits_of_their_own():
    found = layer_quantizers(graph(), parse_precision("W2A2", edge_bits=8))
    bits = [(each.weight.format.bits, each.activation.format.bits) for each in found]
    assert bits[0] == bits[-1] == (8, 8)
    assert set(bits[1:-1]) == {(2, 2)}
    assert [found[0].node.name, found[-1].node.name] == ["stem_conv", "classifier"]


def test_every_layer_that_multiplies_has_a_rule():
    network = graph()
    backward = OpSpec.uniform(parse_format("int8"))
    mac = MacUnit(accumulator_bits=20)
    found = rules(network, parse_precision("W4A4"), mac=mac, backward=backward)
    assert [rule.pattern for rule in found] == [node.path for node in network.multiplying]
    for rule in found:
        assert isinstance(rule.spec, OpSpec)
        assert rule.spec.output is not None
        assert rule.spec.output.mac is mac
        assert rule.spec.grad_input == backward.grad_input
        assert rule.spec.grad_weight == backward.grad_weight
    assert rules(network, Precision()) == []
