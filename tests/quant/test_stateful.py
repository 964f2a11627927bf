"""Rules with a memory: what they use, what they keep, and what they refuse."""

import math

import pytest
import torch

import lowbit_sim as lb
from lowbit_sim.numerics import catalog
from lowbit_sim.numerics.reference import float32
from lowbit_sim.quant.clipping import cosine_clip
from lowbit_sim.quant.granularity import PerTensor
from lowbit_sim.quant.scaling import AbsMaxScale, scale_and_zero_point
from lowbit_sim.quant.stateful import first_step
from tests.quant.cases import GRANULARITIES, normal, regions_of, scale_index


def ema(past: float, current: float, momentum: float) -> float:
    """fp32(fp32((1 - momentum) current) + fp32(momentum past))."""
    rest, weight = float32(1 - momentum), float32(momentum)
    return float32(float32(rest * current) + float32(weight * past))


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9, 0.99])
def test_ema_uses_the_past_and_keeps_the_present(momentum: float) -> None:
    quantizer = lb.Quantizer(catalog.INT8, scale=lb.EmaScale(momentum))
    state = lb.ScaleState()
    maxima = [1.5, 0.3, 12.7, 2.0]
    expected = maxima[0]
    for call, largest in enumerate(maxima):
        q = quantizer(torch.tensor([largest, -largest / 3]), state=state)
        assert q.scale.item() == float32(float32(expected) / 127)
        expected = ema(float32(expected), float32(largest), momentum) if call else float32(largest)
        assert state.value is not None
        assert state.value.item() == expected
        assert state.calls == call + 1


def test_ema_saturates_what_the_past_did_not_hold() -> None:
    quantizer, state = lb.Quantizer(catalog.INT8, scale=lb.EmaScale(0.9)), lb.ScaleState()
    quantizer(torch.tensor([127.0]), state=state)
    assert quantizer(torch.tensor([1000.0, -300.0, 5.0]), state=state).codes.tolist() == [127, -127, 5]


def test_ema_without_a_past_of_other_than_zeros_takes_the_present() -> None:
    quantizer = lb.Quantizer(catalog.INT8, scale=lb.EmaScale(0.9), granularity=lb.PerAxis(0))
    state = lb.ScaleState()
    quantizer(torch.tensor([[0.0, 0.0], [127.0, 0.0]]), state=state)
    q = quantizer(torch.tensor([[254.0, 1.0], [254.0, 0.0]]), state=state)
    assert q.scale.flatten().tolist() == [2.0, 1.0]
    assert state.value is not None
    assert state.value.flatten().tolist() == [254.0, ema(127.0, 254.0, 0.9)]


def test_a_frozen_state_is_used_and_not_changed() -> None:
    quantizer, state = lb.Quantizer(catalog.INT8, scale=lb.EmaScale(0.5)), lb.ScaleState()
    quantizer(torch.tensor([4.0]), state=state)
    state.frozen = True
    before = state.value
    q = quantizer(torch.tensor([100.0]), state=state)
    assert q.scale.item() == float32(4 / 127)
    assert state.value is before
    assert state.calls == 1


@pytest.mark.parametrize(("granularity", "shape"), GRANULARITIES)
def test_ema_of_every_granularity(granularity, shape) -> None:
    quantizer = lb.Quantizer(catalog.INT8, scale=lb.EmaScale(0.9), granularity=granularity)
    first, second, state = normal(shape, seed=1), normal(shape, seed=2), lb.ScaleState()
    quantizer(first, state=state)
    found = quantizer(second, state=state)
    assert torch.equal(found.scale, scale_and_zero_point(first, catalog.INT8, granularity, AbsMaxScale())[0])
    assert state.value is not None
    assert state.value.shape == found.scale.shape


@pytest.mark.parametrize("rule", [lb.EmaScale(), lb.LearnedScale(), lb.DirectionSensitiveScale(2)])
def test_a_rule_with_a_memory_needs_a_state(rule) -> None:
    quantizer = lb.Quantizer(catalog.INT8, scale=rule)
    assert quantizer.is_stateful
    with pytest.raises(ValueError, match=r"remembers .* pass state=ScaleState\(\)"):
        quantizer(torch.ones(3))


@pytest.mark.parametrize("rule", [lb.AbsMaxScale(), lb.MseScale(), lb.DirectionSensitiveScale()])
def test_a_rule_without_a_memory_ignores_a_state(rule) -> None:
    quantizer, state = lb.Quantizer(catalog.INT8, scale=rule), lb.ScaleState()
    assert not quantizer.is_stateful
    x = normal((20,), seed=3)
    assert torch.equal(quantizer(x, state=state).scale, quantizer(x).scale)


@pytest.mark.parametrize("rule", [lb.EmaScale(), lb.LearnedScale(), lb.DirectionSensitiveScale(2)])
def test_a_state_of_another_tensor_is_refused(rule) -> None:
    quantizer, state = lb.Quantizer(catalog.INT8, scale=rule, granularity=lb.PerAxis(0)), lb.ScaleState()
    quantizer(torch.ones(3, 4), state=state)
    with pytest.raises(ValueError, match=r"shape \[3, 1\].*shape \[2, 4\] with PerAxis\(0\).*\[2, 1\]"):
        quantizer(torch.ones(2, 4), state=state)


def test_a_clip_is_searched_for_every_period_th_call() -> None:
    quantizer = lb.Quantizer(catalog.INT4, scale=lb.DirectionSensitiveScale(3))
    state = lb.ScaleState()
    tensors = [normal((100,), seed=s) * (s + 1) for s in range(7)]
    found = [quantizer(x, state=state).scale.item() for x in tensors]
    searched = [float32(cosine_clip(x, catalog.INT4, PerTensor()).item() / 7) for x in tensors]
    assert found == [searched[k] for k in (0, 0, 0, 3, 3, 3, 6)]


@pytest.mark.parametrize("value", [0, -1, 1.5, True])
def test_a_period_is_a_whole_number(value) -> None:
    with pytest.raises(ValueError, match="whole number of calls"):
        lb.DirectionSensitiveScale(value)


@pytest.mark.parametrize("value", [-0.1, 1.0, math.nan])
def test_momentum_out_of_range(value: float) -> None:
    with pytest.raises(ValueError, match="momentum is from 0"):
        lb.EmaScale(value)


@pytest.mark.parametrize(("granularity", "shape"), GRANULARITIES)
def test_first_step_of_a_learned_scale(granularity, shape) -> None:
    x = normal(shape, seed=4)
    step = first_step(x, catalog.INT4, granularity)
    for members in regions_of(granularity, shape).values():
        mean = math.fsum(abs(x[i].item()) for i in members) / len(members)
        found = {step[scale_index(granularity, i, shape)].item() for i in members}
        assert len(found) == 1
        assert found.pop() == pytest.approx(2 * mean / math.sqrt(7), rel=1e-7)
    assert first_step(torch.zeros(2, 2), catalog.INT4, PerTensor()).tolist() == [[1.0]]


def test_a_learned_scale_is_the_states_value() -> None:
    quantizer = lb.Quantizer(catalog.INT4, scale=lb.LearnedScale())
    step = torch.nn.Parameter(torch.tensor([0.5]))
    q = quantizer(torch.tensor([0.5, 1.3, 100.0]), state=lb.ScaleState(value=step))
    assert q.scale.tolist() == [0.5]
    assert q.codes.tolist() == [1, 3, 7]
    assert not q.scale.requires_grad
    state = lb.ScaleState()
    x = normal((30,), seed=5)
    first = quantizer(x, state=state)
    assert torch.equal(first.scale, first_step(x, catalog.INT4, PerTensor()))
    assert torch.equal(quantizer(2 * x, state=state).scale, first.scale)


@pytest.mark.parametrize("step", [-1.0, 0.0, 2.0**-140])
def test_a_learned_scale_has_a_floor(step: float) -> None:
    state = lb.ScaleState(value=torch.tensor([step]))
    q = lb.Quantizer(catalog.INT4, scale=lb.LearnedScale())(torch.tensor([1.0]), state=state)
    assert q.scale.item() == 2.0**-126


@pytest.mark.parametrize("step", [math.nan, math.inf])
def test_a_learned_scale_is_finite(step: float) -> None:
    with pytest.raises(ValueError, match=f"a learned step is finite, got {step}"):
        lb.Quantizer(catalog.INT4, scale=lb.LearnedScale())(
            torch.ones(1), state=lb.ScaleState(value=torch.tensor([step]))
        )
