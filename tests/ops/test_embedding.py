"""Embeddings: rows of the quantised table, and the one-hot product's bits by whatever path."""

import pytest
import torch
import torch.nn.functional as F

import lowbit_sim as lb
from lowbit_sim.arith.backends import reference
from lowbit_sim.arith.mac import MacUnit
from lowbit_sim.ops.backend import using_backend
from lowbit_sim.ops.capture import capture
from lowbit_sim.ops.embedding import embedding
from lowbit_sim.ops.operand import CallSite
from tests.ops.cases import NATIVE, codes_spec, integers, reals

TOKENS = torch.tensor([[3, 0, 3, 8], [5, 3, 8, 8], [3, 1, 3, 3]])


def grad_weight(spec: lb.OpSpec, g: torch.Tensor, tokens: torch.Tensor = TOKENS, **options) -> torch.Tensor:
    weight = reals(0, 9, 5).requires_grad_()
    [grad] = torch.autograd.grad(embedding(tokens, weight, spec, **options), weight, g)
    return grad


def test_rows_of_the_quantised_table() -> None:
    weight = reals(0, 9, 5)
    for quantizer in (
        lb.Quantizer(lb.INT4),
        lb.Quantizer(lb.INT8, granularity=lb.PerAxis(0)),
        lb.Quantizer(lb.MXFP4),
        lb.Quantizer(lb.UINT8, scale=lb.MinMaxScale()),
    ):
        mac = lb.FloatMacUnit()
        spec = lb.OpSpec(output=lb.GemmSpec(quantizer, quantizer, mac), grad_input=None, grad_weight=None)
        y = embedding(TOKENS, weight, spec)
        assert y.shape == (3, 4, 5)
        assert torch.equal(y, quantizer(weight).dequantize()[TOKENS])


@pytest.mark.parametrize(
    "options", [{}, {"padding_idx": 3}, {"padding_idx": -1}, {"scale_grad_by_freq": True}], ids=str
)
@pytest.mark.parametrize("spec", [codes_spec(), NATIVE], ids=["emulated", "native"])
def test_torch_s_result_and_gradient(options, spec) -> None:
    weight, g = integers(0, 9, 5).requires_grad_(), integers(1, 3, 4, 5)
    theirs = F.embedding(TOKENS, weight, **options)
    mine = embedding(TOKENS, weight, spec, **options)
    assert torch.equal(mine, theirs)
    [expected] = torch.autograd.grad(theirs, weight, g)
    [found] = torch.autograd.grad(mine, weight, g)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=0)
    assert torch.equal(found, expected) or options.get("scale_grad_by_freq")


MACS = [
    MacUnit(),
    MacUnit(accumulator_bits=8, overflow="saturate"),
    MacUnit(accumulator_bits=8, overflow="wrap", chunk=3, outer_bits=9),
    MacUnit(accumulator_bits=9, overflow="saturate", chunk=5, outer_bits=10),
    MacUnit(accumulator_bits=16, chunk=4, truncated_bits=2, truncation="nearest_even"),
]


@pytest.mark.parametrize("mac", MACS, ids=str)
def test_the_gradient_is_the_definition_s_one_hot_product(mac) -> None:
    g = integers(1, 3, 4, 5, largest=100)
    with lb.record() as trace:
        found = grad_weight(codes_spec(mac), g)
    one_hot = F.one_hot(TOKENS.flatten(), 9)
    rows, overflows = g.reshape(-1, 5).long(), 0
    for token in range(9):
        for column in range(5):
            expected, count = reference.dot(rows[:, column].tolist(), one_hot[:, token].tolist(), mac)
            assert found[token, column] == expected
            overflows += count
    [event] = trace.gemms
    assert event.overflows == overflows
    assert (event.M, event.N, event.K) == (5, 1, 12)


@pytest.mark.parametrize("mac", MACS, ids=str)
def test_every_path_has_the_same_bits_and_counts(mac) -> None:
    spec, g = lb.OpSpec.uniform(lb.INT8, mac=mac), reals(1, 3, 4, 5)
    with lb.record() as plain:
        found = grad_weight(spec, g)
    with lb.record() as kept, capture() as gemms:
        assert torch.equal(grad_weight(spec, g), found)
    with lb.record() as forced, using_backend("reference"):
        assert torch.equal(grad_weight(spec, g), found)
    counts = [[(e.additions, e.overflows) for e in t.gemms] for t in (plain, kept, forced)]
    assert counts[0] == counts[1] == counts[2]
    [gemm] = gemms.gemms
    assert torch.equal(gemm.rhs[0], F.one_hot(TOKENS.flatten(), 9)[:, TOKENS.unique()].to(torch.int8))


def test_few_tokens_are_plainly_added() -> None:
    with lb.record() as trace:
        grad_weight(lb.OpSpec.uniform(lb.INT8), reals(1, 3, 4, 5))
    assert [e.backend for e in trace.gemms] == ["torch_exact"]


FLOATS = {
    "fp8": lb.OpSpec.uniform(lb.FP8_E4M3FN, mac=lb.FloatMacUnit(accumulator=lb.FP16)),
    "mx": lb.OpSpec.uniform(lb.MXFP8_E4M3),
    "hadamard": lb.OpSpec(
        output=None,
        grad_input=None,
        grad_weight=lb.GemmSpec(
            lb.Quantizer(lb.INT16), lb.Quantizer(lb.INT16), transform=lb.HadamardTransform(4)
        ),
    ),
    "samples": lb.OpSpec(
        output=None,
        grad_input=None,
        grad_weight=lb.GemmSpec(
            lb.Quantizer(lb.INT8, rounding=lb.Rounding("stochastic", random_bits=8)),
            lb.Quantizer(lb.INT8),
            samples=8,
        ),
    ),
}


@pytest.mark.parametrize("name", FLOATS)
def test_other_numerics_are_near_torch(name) -> None:
    g = reals(1, 3, 4, 5)
    found, expected = grad_weight(FLOATS[name], g), grad_weight(NATIVE, g)
    assert (found - expected).abs().max() < 0.1 * expected.abs().max()
    assert not torch.equal(found, expected)


def test_a_stochastic_accumulator_s_bits_belong_to_the_row() -> None:
    """Rows of other tokens do not shift the bits that a row draws."""
    mac = lb.FloatMacUnit(accumulator=lb.BF16, rounding=lb.Rounding("stochastic", random_bits=8))
    spec, g = lb.OpSpec.uniform(lb.BF16, mac=mac, scale=lb.FixedScale(1.0)), reals(1, 3, 4, 5)
    others = torch.where(TOKENS == 8, 2, TOKENS)
    rows = [0, 1, 3, 5]
    assert torch.equal(grad_weight(spec, g)[rows], grad_weight(spec, g, others)[rows])
    assert not torch.equal(grad_weight(spec, g)[rows], grad_weight(spec, g, at=CallSite(seed=1))[rows])


def test_no_tokens() -> None:
    grad = grad_weight(lb.OpSpec.uniform(lb.INT8), torch.zeros(0, 5), torch.zeros(0, dtype=torch.int64))
    assert torch.equal(grad, torch.zeros(9, 5))


@pytest.mark.parametrize(
    ("tokens", "error", "message"),
    [
        (torch.tensor([9]), IndexError, "tokens from 9 to 9, the table has rows 0 to 8"),
        (torch.tensor([-1, 2]), IndexError, "tokens from -1 to 2"),
        (torch.tensor([1.0]), TypeError, "int32 or int64 tokens, got torch.float32"),
    ],
    ids=["too large", "negative", "floats"],
)
def test_bad_tokens(tokens, error, message) -> None:
    with pytest.raises(error, match=message):
        embedding(tokens, reals(0, 9, 5), NATIVE)


def test_a_scale_for_each_token_is_refused() -> None:
    per_token = lb.Quantizer(lb.INT8, granularity=lb.PerAxis(0))
    spec = lb.OpSpec(output=None, grad_input=None, grad_weight=lb.GemmSpec(per_token, per_token))
    with pytest.raises(ValueError, match="sums over that axis"):
        grad_weight(spec, reals(1, 3, 4, 5))
