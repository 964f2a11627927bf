"""Products of batches of matrices: torch's shapes, exact with wide formats, the definition's sums."""

import pytest
import torch

import lowbit_sim as lb
from lowbit_sim.arith.mac import MacUnit
from lowbit_sim.ops.capture import capture
from lowbit_sim.ops.linear import matmul
from tests.ops.captured import assert_definition
from tests.ops.cases import NATIVE, codes_spec, integers, reals

SHAPES = {
    "matrices": ((3, 4), (4, 5)),
    "batches": ((2, 3, 4), (2, 4, 5)),
    "two batch axes": ((2, 3, 4, 5), (2, 3, 5, 6)),
    "broadcast left": ((3, 4), (2, 4, 5)),
    "broadcast right": ((2, 3, 3, 4), (4, 5)),
    "broadcast both": ((2, 1, 3, 4), (1, 3, 4, 5)),
    "vectors": ((4,), (4,)),
    "vector left": ((4,), (2, 4, 5)),
    "vector right": ((2, 3, 4), (4,)),
    "no rows": ((2, 0, 4), (2, 4, 5)),
    "no batch": ((0, 3, 4), (0, 4, 5)),
    "no reduction": ((2, 3, 0), (2, 0, 5)),
}


def results(a, b, product) -> list[torch.Tensor]:
    a, b = a.clone().requires_grad_(), b.clone().requires_grad_()
    y = product(a, b)
    g = integers(2, *y.shape).to(y.dtype)
    return [t.detach().double() for t in (y, *torch.autograd.grad(y, (a, b), g))]


@pytest.mark.parametrize("shapes", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("spec", [codes_spec(), NATIVE], ids=["emulated", "native"])
def test_torch_s_result_and_gradients_of_integers(shapes, spec) -> None:
    a, b = integers(0, *shapes[0]), integers(1, *shapes[1])
    expected = results(a.double(), b.double(), torch.matmul)
    for mine, theirs in zip(results(a, b, lambda a, b: matmul(a, b, spec)), expected, strict=True):
        assert torch.equal(mine, theirs)


@pytest.mark.parametrize("shapes", [((2, 3, 4), (2, 4, 5)), ((2, 1, 3, 4), (3, 4, 5))], ids=str)
@pytest.mark.parametrize(
    "mac", [MacUnit(), MacUnit(accumulator_bits=10, overflow="saturate", chunk=2, outer_bits=11)], ids=str
)
def test_each_gemm_is_the_definition_s(shapes, mac) -> None:
    a, b = reals(0, *shapes[0]).requires_grad_(), reals(1, *shapes[1]).requires_grad_()
    with capture() as kept:
        matmul(a, b, lb.OpSpec.uniform(lb.INT8, mac=mac)).square().sum().backward()
    assert [g.role for g in kept.gemms] == ["output", "grad_input", "grad_weight"]
    assert assert_definition(kept) == 3 * (2 if shapes[0] == (2, 3, 4) else 6)


def test_the_scales_of_heads_are_their_own() -> None:
    per_matrix = lb.Quantizer(lb.INT8, granularity=lb.PerAxis(0))
    spec = lb.OpSpec(
        **dict.fromkeys(("output", "grad_input", "grad_weight"), lb.GemmSpec(per_matrix, per_matrix))
    )
    a, b = reals(0, 3, 4, 5), reals(1, 3, 5, 6)
    a[1] *= 1000
    together = matmul(a, b, spec)
    alone = torch.stack([matmul(x, y, lb.OpSpec.uniform(lb.INT8)) for x, y in zip(a, b, strict=True)])
    assert torch.equal(together, alone)


def test_every_matrix_draws_its_own_bits() -> None:
    stochastic = lb.Quantizer(lb.INT4, rounding=lb.Rounding("stochastic", random_bits=8))
    spec = lb.OpSpec(output=lb.GemmSpec(stochastic, stochastic), grad_input=None, grad_weight=None)
    y = matmul(reals(0, 1, 8, 16).expand(3, 8, 16), reals(1, 1, 16, 8).expand(3, 16, 8), spec)
    assert not torch.equal(y[0], y[1])
    assert not torch.equal(y[1], y[2])


def test_dtypes_are_promoted() -> None:
    a, b = integers(0, 2, 3).bfloat16(), integers(1, 3, 2)
    assert matmul(a, b, codes_spec()).dtype == torch.float32
    assert matmul(a, b.bfloat16(), codes_spec()).dtype == torch.bfloat16


@pytest.mark.parametrize("shapes", [((2, 3), (2, 3)), ((2, 3, 4), (3, 4, 5)), ((), (3,))], ids=str)
def test_shapes_that_don_t_fit(shapes) -> None:
    with pytest.raises(ValueError, match="matmul can't"):
        matmul(integers(0, *shapes[0]), integers(1, *shapes[1]), codes_spec())


def test_integers_are_refused() -> None:
    with pytest.raises(TypeError, match="floating-point tensor, got torch.int64"):
        matmul(torch.ones(2, 2, dtype=torch.int64), torch.ones(2, 2), codes_spec())
