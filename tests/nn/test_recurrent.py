"""Emulated recurrent layers and cells: torch's options, packed sequences, and bits of their own for each step."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

import lowbit_sim as lb
from lowbit_sim.ops.capture import capture
from tests.nn.models import STOCHASTIC
from tests.ops.captured import assert_definition
from tests.ops.cases import NATIVE, reals

WIDE = lb.OpSpec.uniform(lb.INT16, mac=lb.MacUnit(accumulator_bits=48))
SPECS = pytest.mark.parametrize(
    ("spec", "tolerance"), [(NATIVE, 1e-5), (WIDE, 2e-3)], ids=["native", "int16"]
)
pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections")

LAYERS = {
    "RNN": nn.RNN(3, 4),
    "RNN relu": nn.RNN(3, 4, nonlinearity="relu", bias=False),
    "LSTM": nn.LSTM(3, 4),
    "GRU": nn.GRU(3, 4),
    "LSTM deep": nn.LSTM(3, 4, num_layers=2, bidirectional=True),
    "GRU deep": nn.GRU(3, 4, num_layers=3, bidirectional=True, bias=False),
    "LSTM projected": nn.LSTM(3, 4, num_layers=2, proj_size=2, bidirectional=True),
}


def pairs(layer: nn.Module, spec: lb.OpSpec) -> tuple[nn.Module, nn.Module]:
    """A layer with reproducible parameters and its emulated twin."""
    native = copy.deepcopy(layer)
    for i, p in enumerate(native.parameters()):
        p.data = 0.5 * reals(i, *p.shape)
    twin = lb.convert(copy.deepcopy(native), [lb.Rule("*", spec)])
    assert type(twin).__module__ == "lowbit_sim.nn.recurrent"
    assert list(twin.state_dict()) == list(native.state_dict())
    return twin, native


def tensors(value) -> list[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        return [value] if value.is_floating_point() else []
    return [] if value is None else [t for v in value for t in tensors(v)]


def assert_alike(layers, call, tolerance: float) -> None:
    """The same outputs and gradients."""
    found = []
    for layer in layers:
        outputs = tensors(call(layer))
        total = sum((y * reals(i, *y.shape)).sum() for i, y in enumerate(outputs))
        found.append([*outputs, *torch.autograd.grad(total, tuple(layer.parameters()))])
    for mine, theirs in zip(*found, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=tolerance, atol=tolerance)


@SPECS
@pytest.mark.parametrize("name", LAYERS)
def test_torch_s_results(name, spec, tolerance) -> None:
    assert_alike(pairs(LAYERS[name], spec), lambda layer: layer(reals(9, 5, 2, 3)), tolerance)


@SPECS
@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("ordered", [True, False])
def test_packed_sequences(name, ordered, spec, tolerance) -> None:
    lengths = [5, 4, 4, 1] if ordered else [4, 1, 5, 4]
    packed = pack_padded_sequence(reals(9, 5, 4, 3), lengths, enforce_sorted=ordered)
    assert_alike(pairs(LAYERS[name], spec), lambda layer: layer(packed), tolerance)


def initial(layer: nn.RNNBase, *batch: int) -> torch.Tensor | tuple[torch.Tensor, ...]:
    count = layer.num_layers * (2 if layer.bidirectional else 1)
    hidden = reals(20, count, *batch, layer.proj_size or layer.hidden_size)
    return (hidden, reals(21, count, *batch, layer.hidden_size)) if layer.mode == "LSTM" else hidden


@pytest.mark.parametrize("name", LAYERS)
def test_an_initial_state(name) -> None:
    layers = pairs(LAYERS[name], NATIVE)
    assert_alike(layers, lambda layer: layer(reals(9, 5, 2, 3), initial(layer, 2)), 1e-5)
    assert_alike(layers, lambda layer: layer(reals(9, 5, 3), initial(layer)), 1e-5)
    packed = pack_padded_sequence(reals(9, 5, 2, 3), [2, 5], enforce_sorted=False)
    assert_alike(layers, lambda layer: layer(packed, initial(layer, 2)), 1e-5)


@pytest.mark.parametrize("name", LAYERS)
def test_batch_first(name) -> None:
    layer = copy.deepcopy(LAYERS[name])
    layer.batch_first = True
    assert_alike(pairs(layer, NATIVE), lambda layer: layer(reals(9, 2, 5, 3)), 1e-5)


def test_dropout_between_layers() -> None:
    twin, native = pairs(nn.LSTM(3, 4, num_layers=2, dropout=0.5), NATIVE)
    x = reals(9, 5, 2, 3)
    torch.manual_seed(0)
    dropped = twin(x)[0]
    assert not torch.allclose(dropped, twin.eval()(x)[0])
    torch.testing.assert_close(twin(x)[0], native.eval()(x)[0])


CELLS = {
    "RNN": nn.RNNCell(3, 4),
    "RNN relu": nn.RNNCell(3, 4, nonlinearity="relu"),
    "GRU": nn.GRUCell(3, 4, bias=False),
    "LSTM": nn.LSTMCell(3, 4),
}


@SPECS
@pytest.mark.parametrize("name", CELLS)
def test_cells(name, spec, tolerance) -> None:
    layers = pairs(CELLS[name], spec)
    for batch in ((), (2,)):
        assert_alike(layers, lambda layer, b=batch: layer(reals(9, *b, 3)), tolerance)
        state = (reals(10, *batch, 4), reals(11, *batch, 4)) if name == "LSTM" else reals(10, *batch, 4)
        assert_alike(layers, lambda layer, b=batch, s=state: layer(reals(9, *b, 3), s), tolerance)


def test_every_gemm_is_the_definition_s() -> None:
    model = lb.convert(nn.GRU(3, 4, num_layers=2, bidirectional=True), [lb.Rule("*", STOCHASTIC)])
    with capture() as kept:
        model(reals(9, 3, 2, 3))[0].sum().backward()
    assert {g.layer for g in kept.gemms} == {
        f"#l{depth}{way}.{name}"
        for depth in (0, 1)
        for way in ("", "_reverse")
        for name in ("input", "hidden")
    }
    assert assert_definition(kept) == len(kept.gemms)


def test_a_step_of_training_draws_new_bits() -> None:
    model = lb.convert(nn.LSTM(3, 4), [lb.Rule("*", STOCHASTIC)])
    gradients = []
    for _ in range(2):
        [gradient] = torch.autograd.grad(model(reals(9, 5, 2, 3))[0].sum(), model.weight_hh_l0)
        gradients.append(gradient)
    assert not torch.equal(*gradients)
    assert model.random_step == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((reals(0, 5, 2, 4),), r"takes \[steps, 3\] or a batch of such, got \[5, 2, 4\]"),
        ((reals(0, 0, 2, 3),), "a batch of such"),
        ((reals(0, 5, 2, 3), reals(1, 1, 3, 4)), r"initial state \[1, 3, 4\] must be \[1, 2, 4\]"),
    ],
    ids=["features", "no steps", "state"],
)
def test_bad_shapes(arguments, message) -> None:
    model = lb.convert(nn.GRU(3, 4), [lb.Rule("*", NATIVE)])
    with pytest.raises(ValueError, match=message):
        model(*arguments)


def test_a_bad_state_of_a_cell() -> None:
    model = lb.convert(nn.GRUCell(3, 4), [lb.Rule("*", NATIVE)])
    with pytest.raises(ValueError, match=r"state \[3, 4\] must be \[2, 4\]"):
        model(reals(0, 2, 3), reals(1, 3, 4))
