"""One direction of a recurrent layer: its GEMMs are the definition's, named and numbered by step."""

import pytest
import torch

import lowbit_sim as lb
from lowbit_sim.arith.mac import MacUnit
from lowbit_sim.ops.capture import capture
from lowbit_sim.ops.operand import CallSite
from lowbit_sim.ops.recurrent import GATES, PRODUCTS, CellWeights, cell, sequence
from tests.ops.captured import assert_definition
from tests.ops.cases import NATIVE, reals

GATE_COUNT = {"RNN_TANH": 1, "RNN_RELU": 1, "GRU": 3, "LSTM": 4}
MAC = MacUnit(accumulator_bits=14, overflow="saturate", chunk=2, outer_bits=15)
INT8 = lb.OpSpec.uniform(lb.INT8, mac=MAC)


def weights(mode: str, projected: int = 0) -> CellWeights:
    rows = 4 * GATE_COUNT[mode]
    return CellWeights(
        w_ih=reals(1, rows, 3).requires_grad_(),
        w_hh=reals(2, rows, projected or 4).requires_grad_(),
        b_ih=reals(3, rows),
        b_hh=reals(4, rows),
        w_hr=reals(5, projected, 4).requires_grad_() if projected else None,
    )


def states(mode: str, batch: int) -> tuple[torch.Tensor, ...]:
    return tuple(reals(6 + i, batch, 4) for i in range(2 if mode == "LSTM" else 1))


@pytest.mark.parametrize("mode", GATES)
def test_a_sequence_is_its_cells_one_after_another(mode) -> None:
    x, w = reals(0, 4, 2, 3), weights(mode)
    state = states(mode, 2)
    y, last = sequence(mode, x.flatten(0, 1), [2] * 4, state, w, False, NATIVE, CallSite(), PRODUCTS)
    for t in range(4):
        state = cell(mode, x[t], state, w, NATIVE, CallSite())
        torch.testing.assert_close(y[2 * t : 2 * t + 2], state[0])
    for mine, expected in zip(last, state, strict=True):
        torch.testing.assert_close(mine, expected)


@pytest.mark.parametrize("mode", GATES)
def test_every_gemm_is_the_definition_s(mode) -> None:
    w = weights(mode, projected=2 if mode == "LSTM" else 0)
    state = tuple(s[:, : 2 if mode == "LSTM" and i == 0 else 4] for i, s in enumerate(states(mode, 2)))
    x, at = reals(0, 5, 3).requires_grad_(), CallSite(layer="r")
    with capture() as kept:
        y, _ = sequence(mode, x, [2, 2, 1], state, w, False, INT8, at, PRODUCTS)
        y.square().sum().backward()
    forward = [g.layer for g in kept.gemms if g.role == "output"]
    step = ["r#hidden", "r#projection"] if mode == "LSTM" else ["r#hidden"]
    assert forward == ["r#input", *step * 3]
    assert assert_definition(kept) == len(kept.gemms)


def test_steps_draw_bits_of_their_own() -> None:
    rounding = lb.Rounding("stochastic", random_bits=8)
    stochastic = lb.Quantizer(lb.INT4, rounding=rounding)
    spec = lb.OpSpec(output=lb.GemmSpec(stochastic, stochastic), grad_input=None, grad_weight=None)
    w = weights("RNN_RELU")
    with capture() as kept:
        sequence("RNN_RELU", torch.zeros(3, 3), [1] * 3, states("RNN_RELU", 1), w, False, spec, CallSite(), 3)
    hidden = [g.rhs[0] for g in kept.gemms if g.layer == "#hidden"]
    assert not torch.equal(hidden[0], hidden[1])
    assert not torch.equal(hidden[1], hidden[2])


def test_one_running_scale_serves_all_steps() -> None:
    quantizer = lb.Quantizer(lb.INT8, scale=lb.EmaScale(0.5))
    spec = lb.OpSpec(output=lb.GemmSpec(quantizer, quantizer), grad_input=None, grad_weight=None)
    at = CallSite(layer="r")
    sequence("GRU", reals(0, 4, 3), [1] * 4, states("GRU", 1), weights("GRU"), False, spec, at, PRODUCTS)
    assert set(at.states) == {
        (f"{name}.output", side) for name in ("input", "hidden") for side in ("lhs", "rhs")
    }
