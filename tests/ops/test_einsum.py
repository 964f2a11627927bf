"""einsum: torch's result where it is a product of matrices, a refusal elsewhere."""

import pytest
import torch

from lowbit_sim.ops.einsum import einsum
from tests.ops.cases import codes_spec, integers

EQUATIONS = {
    "ij,jk->ik": ((2, 3), (3, 4)),
    "ij,jk": ((2, 3), (3, 4)),
    "ji,jk->ki": ((3, 2), (3, 4)),
    "bhld,bhsd->bhls": ((2, 3, 4, 5), (2, 3, 6, 5)),
    "blhd,bshd->bhls": ((2, 4, 3, 5), (2, 6, 3, 5)),
    "bhls,bshd->blhd": ((2, 3, 4, 6), (2, 6, 3, 5)),
    "abc,cbd -> ad": ((2, 3, 4), (4, 3, 5)),
    "i,j->ij": ((3,), (4,)),
    "i,i->": ((3,), (3,)),
    "bi,bi->b": ((2, 3), (2, 3)),
    "bij,jk->bki": ((2, 3, 4), (4, 5)),
}


@pytest.mark.parametrize("equation", EQUATIONS)
def test_torch_s_result_and_gradients(equation) -> None:
    first, second = EQUATIONS[equation]
    a, b = integers(0, *first).requires_grad_(), integers(1, *second).requires_grad_()
    y, expected = einsum(equation, (a, b), codes_spec()), torch.einsum(equation, a, b)
    assert torch.equal(y, expected)
    g = integers(2, *y.shape)
    for mine, theirs in zip(
        torch.autograd.grad(y, (a, b), g), torch.autograd.grad(expected, (a, b), g), strict=True
    ):
        assert torch.equal(mine, theirs)


@pytest.mark.parametrize(
    ("equation", "shapes", "why"),
    [
        ("ij,jk,kl->il", ((2, 2),) * 3, "has 3 operands"),
        ("...ij,jk->...ik", ((2, 2, 2), (2, 2)), "write the indices out"),
        ("ii,ij->j", ((2, 2), (2, 2)), "'ii' must name each axis"),
        ("ijk,jk->i", ((2, 2), (2, 2)), "'ijk' must name each axis"),
        ("ij,kl->il", ((2, 2), (2, 2)), r"\['j', 'k'\] are summed over one operand alone"),
        ("ij,jk->il", ((2, 2), (2, 2)), r"\['k'\] are summed"),
        ("ij,jk->ikk", ((2, 2), (2, 2)), "result 'ikk'"),
        ("ij,jk->ik", ((2, 3), (2, 2)), "'j' is 3 in one operand and 2 in the other"),
    ],
)
def test_what_is_no_product_of_matrices(equation, shapes, why) -> None:
    with pytest.raises(ValueError, match=why):
        einsum(equation, [integers(0, *s) for s in shapes], codes_spec())
