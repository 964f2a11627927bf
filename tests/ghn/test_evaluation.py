import pytest
import torch
from torch import nn

from lowbit_sim.arith.mac import MacUnit
from lowbit_sim.ghn import accuracy, at_precision, he_initialized, parse_precision
from lowbit_sim.ghn.evaluation import near_equal
from lowbit_sim.nn.emulation import EmulatedLayer
from lowbit_sim.training.examples import Examples
from tests.ghn.examples import graph, graphs, images


def test_batches_are_nearly_equal_and_keep_the_order():
    data = images(10)
    assert [len(each) for each in near_equal(data, 4)] == [4, 3, 3]
    assert torch.equal(torch.cat([each.inputs for each in near_equal(data, 4)]), data.inputs)
    assert [len(each) for each in near_equal(data, 64)] == [10]
    assert [len(each) for each in near_equal(images(65), 64)] == [33, 32]


def test_by_the_batch_is_torch_s_training_mode():
    model, data = he_initialized(graphs(1)[0], seed=0), images(24)
    found = accuracy(model, data, statistics="batch")
    model.train()
    expected = float((model(data.inputs).argmax(1) == data.targets).double().mean())
    assert found == expected


def test_recalibrated_is_evaluation_with_the_mean_of_the_batches_statistics():
    model, data = he_initialized(graphs(1)[0], seed=0), images(24)
    calibration = [images(16, seed=1), images(16, seed=2)]
    found = accuracy(model, data, statistics="recalibrated", calibration=calibration)
    stem = model.layers["stem_conv"](torch.cat([each.inputs for each in calibration]))
    norm = model.layers["stem_bn"]
    assert not norm.running_mean.any()  # put back
    twin = he_initialized(graphs(1)[0], seed=0)
    for module in twin.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
    with torch.no_grad():
        for each in calibration:
            twin(each.inputs)
    torch.testing.assert_close(
        twin.layers["stem_bn"].running_mean, stem.mean((0, 2, 3)), rtol=1e-4, atol=1e-6
    )
    twin.eval()
    with torch.no_grad():
        assert found == float((twin(data.inputs).argmax(1) == data.targets).double().mean())


def test_the_model_is_left_as_it_was():
    model = he_initialized(graphs(1)[0], seed=0)
    model.layers["stem_bn"].eval()
    modes = [module.training for module in model.modules()]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    for statistics in ("batch", "recalibrated"):
        accuracy(model, images(24), statistics=statistics, calibration=[images(8)])
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model.layers["stem_bn"].momentum == 0.1


def test_calibration_is_asked_for():
    with pytest.raises(ValueError, match="pass calibration"):
        accuracy(he_initialized(graphs(1)[0], seed=0), images(8), statistics="recalibrated")


def test_every_layer_is_emulated_at_a_precision():
    model = at_precision(
        he_initialized(graph(), seed=0), parse_precision("W4A8"), mac=MacUnit(accumulator_bits=24)
    )
    layers = [m for m in model.modules() if isinstance(m, EmulatedLayer)]
    assert len(layers) == len(graph().multiplying)
    assert {str(layer.emulation.op_spec.output.rhs.format) for layer in layers} == {"int4"}
    assert {layer.emulation.op_spec.output.mac.accumulator_bits for layer in layers} == {24}
    assert not any(
        isinstance(m, EmulatedLayer)
        for m in at_precision(he_initialized(graph(), seed=0), parse_precision("W32A32")).modules()
    )


def test_fewer_bits_move_the_logits_further():
    data = images(24)
    distance = []
    plain = he_initialized(graph(), seed=0)
    with torch.no_grad():
        expected = plain(data.inputs)
        for name in ("W8A8", "W4A4", "W2A2"):
            model = at_precision(he_initialized(graph(), seed=0), parse_precision(name))
            distance.append(float((model(data.inputs) - expected).norm() / expected.norm()))
    assert distance == sorted(distance)
    assert 0 < distance[0] < 0.1


def test_all_images_count():
    model, data = he_initialized(graphs(1)[0], seed=0), images(24)
    same = Examples(inputs=data.inputs, targets=model(data.inputs).argmax(1))
    assert accuracy(model, same, statistics="batch") == 1.0
