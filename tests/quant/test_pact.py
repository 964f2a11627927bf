"""PACT and CG-PACT against their definition, against autograd and against LSQ."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import lowbit_sim as lb
from lowbit_sim.quant.learned_step import learned_step
from lowbit_sim.quant.pact import ClipGradient, ClipGrid, clip_step, pact
from lowbit_sim.quant.pact_reference import clip_element
from tests.quant.cases import normal

GRIDS = [ClipGrid(bits=b, two_sided=t) for t in (False, True) for b in (1, 2, 3, 4, 8) if b > t]
GRADIENTS: tuple[ClipGradient, ...] = ("pact", "cg_pact")


def name(grid: ClipGrid) -> str:
    return f"{grid.bits} bits{' two-sided' if grid.two_sided else ''}"


def gradients(
    x: Tensor, alpha: float, grid: ClipGrid, gradient: ClipGradient
) -> tuple[Tensor, Tensor, Tensor]:
    """y_q, dy_q/dx and dy_q/dalpha, each element alone."""
    x = x.clone().requires_grad_()
    slopes = []
    for i in range(x.numel()):
        level = torch.tensor([alpha], requires_grad=True)
        pact(x.detach()[i : i + 1], level, grid, gradient).sum().backward()
        assert level.grad is not None
        slopes.append(level.grad)
    y = pact(x, torch.tensor([alpha]), grid, gradient)
    y.sum().backward()
    assert x.grad is not None
    return y.detach(), x.grad, torch.cat(slopes)


finite = st.floats(-20, 20, width=32)
positive = st.floats(2**-10, 16, width=32)


@given(st.lists(finite, min_size=1, max_size=8), positive, st.sampled_from(GRIDS))
def test_every_element_is_the_references(values, alpha, grid):
    expected = [clip_element(v, alpha, grid) for v in values]
    x = torch.tensor(values)
    for kind in GRADIENTS:
        y, dx, dalpha = gradients(x, alpha, grid, kind)
        assert y.tolist() == [e.value for e in expected]
        assert dx.tolist() == [e.passes for e in expected]
        for found, e in zip(dalpha.tolist(), expected, strict=True):
            assert found == pytest.approx(getattr(e, kind), abs=1e-6)


@pytest.mark.parametrize("grid", GRIDS, ids=name)
def test_codes_are_the_papers_formula(grid):
    """round(n clip(x) / alpha) in float64, with == wherever float32 can't fall on the other side of a half."""
    x, alpha = normal((4096,), seed=1, spread=3.0), torch.tensor(4.7)
    level = float(alpha)
    exact = x.double().clamp(-level if grid.two_sided else 0.0, level) / level * grid.steps
    decided = ((exact - exact.floor()) - 0.5).abs() > 1e-5
    codes = grid.quantizer(
        x, state=lb.ScaleState(value=clip_step(alpha.reshape(1), grid), frozen=True)
    ).values()
    assert torch.equal(codes[decided].double(), exact.round()[decided])
    assert torch.equal(pact(x, alpha, grid), codes * clip_step(alpha, grid))


@pytest.mark.parametrize("grid", GRIDS, ids=name)
def test_cg_pact_is_autograds_with_the_rounding_alone_straight_through(grid):
    """alpha q(clip(x, 0, alpha) / alpha), q's gradient the identity: no backward pass written by hand."""
    x = normal((256,), seed=2, spread=2.0)
    alpha, level = torch.tensor([1.9], requires_grad=True), torch.tensor([1.9], requires_grad=True)
    own, other = x.clone().requires_grad_(), x.double().requires_grad_()
    g = normal((256,), seed=3)
    pact(own, alpha, grid).backward(g)
    wide = level.double()
    v = torch.minimum(torch.maximum(other, -wide if grid.two_sided else torch.zeros(())), wide) / wide
    q = v + ((v * grid.steps).round() / grid.steps - v).detach()
    (wide * q).backward(g.double())
    assert alpha.grad is not None
    assert level.grad is not None
    assert float(alpha.grad) == pytest.approx(float(level.grad), rel=1e-4)
    assert torch.equal(own.grad != 0, other.grad != 0)
    torch.testing.assert_close(own.grad.double(), other.grad)


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_cg_pact_is_lsq_over_the_number_of_steps(bits):
    """dy/dalpha = (dy/dstep) / (2^k - 1): the same function, trained through its end instead of its step."""
    grid, x, g = ClipGrid(bits=bits), normal((1024,), seed=4, spread=2.0), normal((1024,), seed=5)
    alpha = torch.tensor([2.3], requires_grad=True)
    y = pact(x, alpha, grid)
    y.backward(g)
    step = clip_step(alpha, grid).requires_grad_()
    z = learned_step(x, step, grid.format, 1.0)
    z.backward(g)
    assert torch.equal(y, z)
    assert step.grad is not None
    assert float(alpha.grad) == pytest.approx(float(step.grad) / grid.steps, rel=1e-5)


@pytest.mark.parametrize("bits", range(1, 13))
def test_cg_pact_becomes_pact_with_more_bits(bits):
    """The difference is within 1 / (2 (2^k - 1)) of each element: 1/6 at two bits, and comes near it."""
    grid, x = ClipGrid(bits=bits), torch.linspace(0.01, 1.99, 181)
    _, _, plain = gradients(x, 2.0, grid, "pact")
    _, _, calibrated = gradients(x, 2.0, grid, "cg_pact")
    largest = float((plain - calibrated).abs().max())
    assert largest <= 1 / (2 * grid.steps) + 1e-5
    if bits <= 4:
        assert largest >= 0.9 / (2 * grid.steps)


@pytest.mark.parametrize("kind", GRADIENTS)
def test_the_table_of_derivatives(kind):
    """At two bits and alpha 3: the levels are 0, 1, 2, 3."""
    x = torch.tensor([-1.0, 0.0, 0.4, 1.25, 2.75, 3.0, 5.0])
    y, dx, dalpha = gradients(x, 3.0, ClipGrid(bits=2), kind)
    assert y.tolist() == [0, 0, 0, 1, 3, 3, 3]
    assert dx.tolist() == [0, 0, 1, 1, 1, 0, 0]
    inside = [-0.4 / 3, -0.25 / 3, 0.25 / 3] if kind == "cg_pact" else [0, 0, 0]
    assert dalpha.tolist() == pytest.approx([0, 0, *inside, 1, 1], abs=1e-6)


def test_a_two_sided_clip_is_odd():
    grid, x = ClipGrid(bits=3, two_sided=True), normal((64,), seed=6, spread=3.0)
    y, dx, dalpha = gradients(x, 2.0, grid, "cg_pact")
    z, dz, dbeta = gradients(-x, 2.0, grid, "cg_pact")
    assert torch.equal(y, -z)
    assert torch.equal(dx, dz)
    assert torch.equal(dalpha, -dbeta)
    assert set(dalpha[x <= -2].tolist()) == {-1.0}
    assert float(pact(torch.zeros(1), torch.tensor([2.0]), grid)) == 0


def test_the_sign_of_alpha_does_not_count():
    x, g = normal((64,), seed=7), normal((64,), seed=8)
    found = []
    for sign in (1, -1):
        alpha = torch.tensor([sign * 1.5], requires_grad=True)
        y = pact(x, alpha, ClipGrid(bits=4))
        y.backward(g)
        found.append((y.detach().tolist(), sign * float(alpha.grad)))
    assert found[0] == found[1]


def test_a_level_of_nothing_lets_nothing_through():
    alpha = torch.zeros(1, requires_grad=True)
    y = pact(torch.tensor([-1.0, 0.0, 2.0]), alpha, ClipGrid(bits=4))
    y.sum().backward()
    assert y.abs().max() < 1e-30
    assert float(alpha.grad) == 1


def test_float16_keeps_its_dtype_in_the_gradient_and_the_meta_device_its_shape():
    x = normal((5,), seed=9).half().requires_grad_()
    pact(x, torch.tensor([1.0]), ClipGrid(bits=4)).sum().backward()
    assert x.grad.dtype == torch.float16
    assert pact(torch.empty(2, 3, device="meta"), torch.empty(1, device="meta"), ClipGrid(bits=4)).shape == (
        2,
        3,
    )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ClipGrid(bits=0), "one-sided clip has 1 to 16 bits, got bits=0"),
        (lambda: ClipGrid(bits=1, two_sided=True), "two-sided clip has 2 to 16 bits, got bits=1"),
        (lambda: pact(torch.zeros(2), torch.ones(2), ClipGrid(bits=4)), r"one number .* shape \[2\]"),
        (
            lambda: pact(torch.zeros(2), torch.ones(1), ClipGrid(bits=4), "cgpact"),
            "unknown gradient of alpha 'cgpact': known are .*did you mean 'cg_pact'",
        ),
        (
            lambda: pact(torch.zeros(2), torch.tensor(math.nan), ClipGrid(bits=4)),
            "finite number, got alpha=nan",
        ),
        (lambda: pact(torch.tensor([math.nan]), torch.ones(1), ClipGrid(bits=4)), "NaN"),
    ],
)
def test_what_can_not_be_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
