"""LSQ's gradients against the paper's piecewise definition, and its values against the quantiser's."""

import math

import pytest
import torch

import lowbit_sim as lb
from lowbit_sim.numerics import catalog
from lowbit_sim.numerics.reference import float32
from lowbit_sim.quant.granularity import scale_shape
from lowbit_sim.quant.learned_step import learned_step, value_range
from tests.quant.cases import GRANULARITIES, normal, regions_of, scale_index


def slopes(x: float, step: float, low: int, high: int) -> tuple[float, float]:
    """dy/dx and dy/dstep: Esser et al. 2020."""
    v = float32(x * float32(1 / step))
    if v <= low:
        return 0.0, low
    if v >= high:
        return 0.0, high
    return 1.0, float32(round(v) - v)


@pytest.mark.parametrize(
    "fmt", [catalog.INT2, catalog.INT4, catalog.UINT4, lb.IntFormat(bits=4, symmetric=False)], ids=str
)
@pytest.mark.parametrize("step", [0.25, 0.3, 1.0])
def test_gradients_of_single_elements(fmt, step: float) -> None:
    # Inside, on ties, on both ends of the range and beyond.
    values = [i * step / 4 for i in range(4 * fmt.qmin - 6, 4 * fmt.qmax + 7)]
    for value in map(float32, values):
        x = torch.tensor([value], requires_grad=True)
        s = torch.tensor([step], requires_grad=True)
        learned_step(x, s, fmt, 1.0).backward()
        assert x.grad is not None
        assert s.grad is not None
        assert (x.grad.item(), s.grad.item()) == slopes(value, float32(step), fmt.qmin, fmt.qmax)


@pytest.mark.parametrize(("granularity", "shape"), GRANULARITIES)
def test_gradients_are_summed_over_what_shares_a_step(granularity, shape) -> None:
    x = normal(shape, seed=1).requires_grad_()
    steps = scale_shape(granularity, shape)
    step = torch.full(steps, 0.3)
    step.requires_grad_()
    weight = normal(shape, seed=2)
    (learned_step(x, step, catalog.INT4, 0.5, granularity=granularity) * weight).sum().backward()
    assert x.grad is not None
    assert step.grad is not None
    for members in regions_of(granularity, shape).values():
        terms = [slopes(x[i].item(), float32(0.3), -7, 7) for i in members]
        expected = 0.5 * math.fsum(weight[i].item() * t[1] for i, t in zip(members, terms, strict=True))
        for i, (dx, _) in zip(members, terms, strict=True):
            assert x.grad[i].item() == weight[i].item() * dx
            assert step.grad[scale_index(granularity, i, shape)].item() == pytest.approx(
                expected, rel=1e-5, abs=1e-6
            )


def test_the_gradients_are_the_slopes_of_the_function_away_from_its_steps() -> None:
    # Numerical derivatives: in x, of the straight-through estimate q(v) - v held fixed; in the step, of y with the
    # rounding's offset held fixed, which is what LSQ differentiates.
    x, s, h = torch.tensor([0.37]), 0.25, 2.0**-10
    offset = round(0.37 / s) - 0.37 / s

    def held(step: float) -> float:
        return step * (x.item() / step + offset)

    numeric = (held(s + h) - held(s - h)) / (2 * h)
    step = torch.tensor([s], requires_grad=True)
    learned_step(x, step, catalog.INT4, 1.0).backward()
    assert step.grad is not None
    assert step.grad.item() == pytest.approx(numeric, abs=1e-5)


@pytest.mark.parametrize(
    "fmt", [catalog.INT4, catalog.FP4_E2M1, catalog.FP8_E5M2, catalog.LOG4_RADIX2], ids=str
)
@pytest.mark.parametrize(("granularity", "shape"), GRANULARITIES)
def test_values_are_the_quantisers(fmt, granularity, shape) -> None:
    x = normal(shape, seed=3, spread=1.0)
    step = normal(scale_shape(granularity, shape), seed=4).abs() + 0.1
    quantizer = lb.Quantizer(fmt, granularity=granularity, scale=lb.LearnedScale())
    expected = quantizer(x, state=lb.ScaleState(value=step))
    assert torch.equal(learned_step(x, step, fmt, granularity=granularity), expected.dequantize())


def test_the_default_factor_is_lsqs() -> None:
    x = normal((8, 32), seed=5)
    plain, scaled = (torch.tensor([0.2], requires_grad=True) for _ in range(2))
    learned_step(x, plain, catalog.INT8, 1.0).sum().backward()
    learned_step(x, scaled, catalog.INT8).sum().backward()
    assert plain.grad is not None
    assert scaled.grad is not None
    assert scaled.grad.item() == pytest.approx(plain.grad.item() / math.sqrt(256 * 127), rel=1e-6)
    per_row = torch.full((8, 1), 0.2, requires_grad=True)
    learned_step(x, per_row, catalog.INT8, granularity=lb.PerAxis(0)).sum().backward()
    assert per_row.grad is not None
    assert per_row.grad.sum().item() == pytest.approx(plain.grad.item() / math.sqrt(32 * 127), rel=1e-5)


def test_a_step_of_any_one_element_shape_serves_a_tensor() -> None:
    x = normal((3, 4), seed=6)
    for shape in ((), (1,), (1, 1)):
        step = torch.full(shape, 0.3, requires_grad=True)
        learned_step(x, step, catalog.INT4).sum().backward()
        assert step.grad is not None
        assert step.grad.shape == shape


def test_infinities_have_the_slopes_of_saturated_values() -> None:
    x = torch.tensor([math.inf, -math.inf], requires_grad=True)
    step = torch.tensor([1.0], requires_grad=True)
    y = learned_step(x, step, catalog.INT4, 1.0)
    y.backward(torch.tensor([1.0, 3.0]))
    assert y.tolist() == [7.0, -7.0]
    assert x.grad is not None
    assert step.grad is not None
    assert (x.grad.tolist(), step.grad.tolist()) == ([0.0, 0.0], [-14.0])


def test_learning_the_step_lowers_the_error() -> None:
    x, step = normal((2000,), seed=7), torch.tensor([1.0], requires_grad=True)
    optimizer = torch.optim.SGD([step], lr=0.5)
    errors = []
    for _ in range(60):
        optimizer.zero_grad()
        error = ((learned_step(x, step, catalog.INT4, 1.0) - x) ** 2).mean()
        error.backward()
        optimizer.step()
        errors.append(error.item())
    best = ((lb.Quantizer(catalog.INT4, scale=lb.MseScale())(x).dequantize() - x) ** 2).mean().item()
    assert errors[0] > 4 * best
    assert errors[-1] < 1.2 * best


def test_what_is_refused() -> None:
    with pytest.raises(ValueError, match=r"with PerAxis\(0\) has shape \[3, 1\], got \[4\]"):
        learned_step(torch.ones(3, 4), torch.ones(4), catalog.INT4, granularity=lb.PerAxis(0))
    with pytest.raises(ValueError, match="mxfp4 computes its own scales"):
        learned_step(torch.ones(3, 4), torch.ones(1), catalog.MXFP4)
    with pytest.raises(lb.NotANumberError):
        learned_step(torch.tensor([math.nan]), torch.ones(1), catalog.INT4)
    with pytest.raises(ValueError, match="a learned step is finite"):
        learned_step(torch.ones(1), torch.tensor([math.nan]), catalog.INT4)


def test_value_range() -> None:
    every = [catalog.INT4, catalog.UINT4, catalog.FP4_E2M1, lb.FixedFormat(word_length=4, fraction_length=2)]
    assert [value_range(f) for f in every] == [(-7, 7), (0, 15), (-6, 6), (-2, 1.75)]
    assert value_range(lb.CodebookFormat(values=(-1.0, 0.0, 3.0))) == (-1.0, 3.0)
