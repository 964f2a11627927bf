"""Weights pre-processed before they are quantised: formulas, T2 (finite differences) and the layers they work on."""

import copy
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import lowbit_sim as lb
from lowbit_sim.nn.weight_preprocessing import (
    BWNWeight,
    DoReFaWeight,
    preprocess_weights,
    remove_weight_preprocessing,
)

INT8 = lb.OpSpec.uniform(lb.INT8)


def weights(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def away_from_the_maximum(w: Tensor) -> Tensor:
    return w.abs() < w.abs().max()


def slope(f, w: Tensor, step: float = 1e-6) -> Tensor:
    """Central differences of an element-wise function."""
    found = torch.empty_like(w)
    for i in range(w.numel()):
        ends = []
        for sign in (1, -1):
            moved = w.clone()
            moved.view(-1)[i] += sign * step
            ends.append(f(moved).reshape(-1)[i])
        found.view(-1)[i] = (ends[0] - ends[1]) / (2 * step)
    return found


def test_the_calibration_of_dorefa_is_the_slope():
    """T2: of 2 W~ - 1 the calibration, of W~ half of it, away from the maximum, which counts as a constant."""
    dorefa, w = DoReFaWeight(), weights(4, 5)
    inner = away_from_the_maximum(w)
    calibration = dorefa.calibration(w)
    torch.testing.assert_close(slope(dorefa.signed, w)[inner], calibration[inner], rtol=1e-7, atol=1e-9)
    torch.testing.assert_close(
        slope(dorefa.preprocessed, w)[inner], calibration[inner] / 2, rtol=1e-7, atol=1e-9
    )
    assert not torch.allclose(slope(dorefa.signed, w)[~inner], calibration[~inner])


@pytest.mark.parametrize(
    "kind", [DoReFaWeight, BWNWeight, partial(DoReFaWeight, 3)], ids=["dorefa", "bwn", "dorefa 3"]
)
def test_the_gradient_passes_with_the_calibration(kind):
    step, w, g = kind(), weights(4, 5).requires_grad_(), weights(4, 5) + 1
    step(w).backward(g)
    assert torch.equal(w.grad, g * step.calibration(w.detach()))
    w.grad, step.passes_uncalibrated = None, True
    step(w).backward(g)
    assert torch.equal(w.grad, g)


@given(st.integers(1, 8), st.integers(0, 99))
def test_levels_of_dorefa(bits, seed):
    w = torch.randn(50, generator=torch.Generator().manual_seed(seed))
    y = DoReFaWeight(bits)(w)
    codes = (y.double() + 1) / 2 * (2**bits - 1)
    assert torch.allclose(codes, codes.round(), atol=1e-4)
    assert len(y.unique()) <= 2**bits
    assert float(y.abs().max()) == 1
    assert torch.equal(DoReFaWeight()(w).sign() + 1, (w.sign() + 1))


@pytest.mark.parametrize(("bits", "value"), [(None, 0.0), (1, -1.0), (2, 1 / 3), (4, 1 / 15)])
@pytest.mark.parametrize("fill", [0.0, 1e-42])
def test_a_tensor_of_zeros_has_a_calibration_of_1(bits, value, fill):
    """Some layers start from zeros; numbers too small to divide by count as such."""
    step, w = DoReFaWeight(bits), torch.full((3, 3), fill).requires_grad_()
    y = step(w)
    assert torch.allclose(y, torch.full((3, 3), value))
    y.backward(torch.full((3, 3), 2.0))
    assert torch.equal(w.grad, torch.full((3, 3), 2.0))


def test_bwn_is_sign_and_mean():
    w = torch.tensor([[1.0, -3.0], [0.0, -2.0]])
    assert BWNWeight()(w).tolist() == [[1.5, -1.5], [1.5, -1.5]]


def test_zeros_stay_zeros():
    assert DoReFaWeight()(torch.zeros(3)).tolist() == [0.0, 0.0, 0.0]


def attention() -> nn.Module:
    return nn.MultiheadAttention(4, 2, batch_first=True)


LAYERS = {
    "linear": (lambda: nn.Linear(4, 3), (5, 4), ["weight"]),
    "conv": (lambda: nn.Conv2d(4, 3, 2), (5, 4, 3, 3), ["weight"]),
    "attention": (attention, (5, 6, 4), ["in_proj_weight", "out_proj.weight"]),
}


def run(layer: nn.Module, x: Tensor) -> Tensor:
    y = layer(x, x, x) if isinstance(layer, nn.MultiheadAttention) else layer(x)
    return y[0] if isinstance(y, tuple) else y


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("method", ["dorefa", "bwn"])
def test_a_layer_computes_with_the_preprocessed_weight(kind, method):
    """Its output is that of a plain layer that holds W^; its gradient that layer's, calibrated."""
    build, shape, names = LAYERS[kind]
    torch.manual_seed(0)
    native = build()
    plain, layer = (lb.convert(copy.deepcopy(native), [lb.Rule("*", INT8)]) for _ in range(2))
    preprocess_weights(layer, method)
    step = DoReFaWeight() if method == "dorefa" else BWNWeight()
    with torch.no_grad():
        for name in names:
            p = plain.get_parameter(name)
            p.copy_(step(p))
    x = torch.randn(*shape)
    y, expected = run(layer, x), run(plain, x)
    assert torch.equal(y, expected)
    y.square().sum().backward()
    expected.square().sum().backward()
    for name in names:
        path, _, own = name.rpartition(".")
        steps: Any = layer.get_submodule(path).parametrizations
        original = steps[own].original
        grad = plain.get_parameter(name).grad * step.calibration(native.get_parameter(name).detach())
        assert torch.equal(original.grad, grad)


def test_parameters_stay_those_of_the_optimiser():
    layer = lb.convert(nn.Linear(4, 3), [lb.Rule("*", INT8)])
    weight = layer.weight
    preprocess_weights(layer, "dorefa", bits=2)
    assert layer.parametrizations.weight.original is weight
    remove_weight_preprocessing(layer)
    assert layer.weight is weight


def test_none_changes_nothing():
    layer = lb.convert(nn.Linear(4, 3), [lb.Rule("*", INT8)])
    assert preprocess_weights(layer, "none") is layer
    assert not hasattr(layer, "parametrizations")


def test_native_layers_are_left_alone():
    model = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))
    lb.convert(model, [lb.Rule("1", INT8)])
    preprocess_weights(model, "bwn")
    assert [name for name, _ in model.named_parameters()] == [
        "0.weight",
        "0.bias",
        "1.bias",
        "1.parametrizations.weight.original",
    ]


def test_a_copy_has_a_preprocessing_of_its_own():
    layer = preprocess_weights(lb.convert(nn.Linear(4, 3), [lb.Rule("*", INT8)]), "dorefa")
    twin = copy.deepcopy(layer)
    x = torch.randn(2, 4)
    assert torch.equal(twin(x), layer(x))
    with torch.no_grad():
        twin.parametrizations.weight.original.add_(torch.randn(3, 4))
    assert not torch.equal(twin(x), layer(x))


def test_its_work_is_on_record():
    layer = preprocess_weights(lb.convert(nn.Linear(4, 3), [lb.Rule("*", INT8)]), "dorefa")
    with lb.record() as trace:
        layer(torch.randn(2, 4)).sum().backward()
    mine = [e for e in trace.vectors if e.kind == "transform"]
    assert [(e.elements, e.read_bytes, e.write_bytes) for e in mine] == [(12, 96, 48), (12, 96, 48)]


def test_what_is_wrong_is_said():
    model = lb.convert(nn.Linear(4, 3), [lb.Rule("*", INT8)])
    with pytest.raises(ValueError, match="unknown pre-processing of weights 'doref'.*did you mean 'dorefa'"):
        preprocess_weights(model, "doref")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="bits are for dorefa"):
        preprocess_weights(model, "bwn", bits=2)
    with pytest.raises(ValueError, match="from 1 to 24, got 0"):
        preprocess_weights(model, "dorefa", bits=0)
    with pytest.raises(ValueError, match="convert it first"):
        preprocess_weights(nn.Linear(4, 3), "dorefa")
    preprocess_weights(model, "dorefa")
    with pytest.raises(ValueError, match="pre-processed already"):
        preprocess_weights(model, "dorefa")
