"""Scaled dot-product attention: torch's arguments and results, both products emulated, probabilities in a format."""

import math

import pytest
import torch
import torch.nn.functional as F

import lowbit_sim as lb
from lowbit_sim.ops.attention import AttentionSpec, attention, scaled_dot_product_attention
from lowbit_sim.ops.capture import capture
from lowbit_sim.ops.operand import CallSite
from tests.ops.captured import assert_definition
from tests.ops.cases import NATIVE, reals

NATIVE_ATTENTION = AttentionSpec.uniform(NATIVE)
INT8 = AttentionSpec.uniform(lb.OpSpec.uniform(lb.INT8))
WIDE = AttentionSpec.uniform(lb.OpSpec.uniform(lb.INT16, mac=lb.MacUnit(accumulator_bits=48)))

MASK = torch.rand(2, 1, 5, 7, generator=torch.Generator().manual_seed(9)) > 0.4
OPTIONS = {
    "plain": {},
    "causal": {"is_causal": True},
    "boolean mask": {"attn_mask": MASK},
    "float mask": {"attn_mask": reals(8, 5, 7)},
    "minus infinity": {"attn_mask": torch.zeros(2, 1, 5, 7).masked_fill(~MASK, -math.inf)},
    "scale": {"scale": 0.3},
    "query without keys": {"attn_mask": MASK & (torch.arange(5) != 2)[:, None]},
}


def inputs(key_heads: int = 4) -> list[torch.Tensor]:
    shapes = ((2, 4, 5, 8), (2, key_heads, 7, 8), (2, key_heads, 7, 6))
    return [reals(i, *shape).requires_grad_() for i, shape in enumerate(shapes)]


def results(function, tensors, **options) -> list[torch.Tensor]:
    y = function(*tensors, **options)
    return [y, *torch.autograd.grad(y, tensors, reals(5, *y.shape).to(y.dtype))]


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize(
    ("spec", "tolerance"), [(NATIVE_ATTENTION, 1e-5), (WIDE, 1e-3)], ids=["native", "int16"]
)
def test_torch_s_result_and_gradients(options, spec, tolerance) -> None:
    expected = results(F.scaled_dot_product_attention, inputs(), **options)
    mine = results(scaled_dot_product_attention, inputs(), spec=spec, **options)
    for a, b in zip(mine, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("heads", [1, 2, 4])
def test_fewer_key_heads(heads) -> None:
    expected = results(F.scaled_dot_product_attention, inputs(heads), enable_gqa=True)
    mine = results(scaled_dot_product_attention, inputs(heads), enable_gqa=True, spec=NATIVE_ATTENTION)
    for a, b in zip(mine, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


def test_both_products_are_the_definition_s() -> None:
    spec = AttentionSpec(
        scores=lb.OpSpec.uniform(lb.INT4, mac=lb.MacUnit(accumulator_bits=8, overflow="saturate")),
        values=lb.OpSpec.uniform(lb.INT8, mac=lb.MacUnit(accumulator_bits=16, overflow="wrap", chunk=2)),
    )
    with capture() as kept:
        results(scaled_dot_product_attention, inputs(), is_causal=False, spec=spec, at=CallSite(layer="a"))
    assert [(g.layer, g.role) for g in kept.gemms] == [
        ("a#scores", "output"),
        ("a#values", "output"),
        ("a#values", "grad_input"),
        ("a#values", "grad_weight"),
        ("a#scores", "grad_input"),
        ("a#scores", "grad_weight"),
    ]
    assert assert_definition(kept) == 6 * 8
    assert kept.gemms[0].spec == spec.scores.output
    assert kept.gemms[1].spec == spec.values.output


def test_probabilities_in_a_format() -> None:
    quantizer = lb.Quantizer(lb.UINT4, scale=lb.FixedScale(1 / 16))
    spec = AttentionSpec(scores=NATIVE, values=NATIVE, probabilities=quantizer)
    q, k, v = inputs()
    y, p = attention(q, k, v, None, 0.0, None, spec, CallSite())
    exact = torch.softmax(q @ k.mT / math.sqrt(8), -1)
    assert torch.equal(p, quantizer(exact).dequantize())
    assert not torch.equal(p, exact)
    torch.testing.assert_close(y, p @ v)
    [through] = torch.autograd.grad(p, q, reals(3, *p.shape), retain_graph=True)
    [native] = torch.autograd.grad(exact, q, reals(3, *p.shape))
    torch.testing.assert_close(through, native)


def test_dropout_is_torch_s() -> None:
    q, k, v = inputs()
    torch.manual_seed(3)
    y, p = attention(q, k, v, None, 0.5, None, INT8, CallSite())
    torch.manual_seed(3)
    mask = F.dropout(torch.ones_like(p), 0.5)
    _, whole = attention(q, k, v, None, 0.0, None, INT8, CallSite())
    assert torch.equal(p, whole * mask)
    assert bool((p == 0).any())
    torch.manual_seed(3)
    assert torch.equal(scaled_dot_product_attention(q, k, v, dropout_p=0.5, spec=INT8), y)


def test_a_narrow_dtype_comes_back() -> None:
    q, k, v = (x.detach().bfloat16() for x in inputs())
    assert scaled_dot_product_attention(q, k, v, spec=INT8).dtype == torch.bfloat16


def test_the_softmax_is_on_record() -> None:
    with lb.record() as trace:
        results(scaled_dot_product_attention, inputs(), spec=INT8)
    size = 2 * 4 * 5 * 7
    events = [e for e in trace.vectors if e.kind == "activation"]
    assert [(e.elements, e.read_bytes, e.write_bytes) for e in events] == [
        (size, 4 * size, 4 * size),
        (size, 8 * size, 4 * size),
    ]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"is_causal": True, "attn_mask": MASK}, ValueError, "attn_mask or is_causal=True, not both"),
        ({"attn_mask": MASK.int()}, TypeError, "boolean or floating point, got torch.int32"),
        ({"dropout_p": 1.5}, ValueError, "dropout_p must be from 0 to 1, got 1.5"),
        ({"value": torch.ones(2, 4, 6, 6)}, ValueError, "7 keys .* and 6 values"),
        (
            {"key": torch.ones(2, 3, 7, 8), "enable_gqa": True},
            ValueError,
            "4 query heads are no multiple of 3",
        ),
        ({"query": torch.ones(8)}, ValueError, r"\[..., length, features\], got \[8\]"),
        ({"query": torch.ones(2, 4, 5, 8).long()}, TypeError, "got torch.int64"),
        ({"key": torch.full((2, 4, 7, 8), float("nan"))}, lb.NotANumberError, "'a#scores', weight of output"),
    ],
    ids=["mask and causal", "integer mask", "dropout", "values", "heads", "vector", "integers", "nan"],
)
def test_bad_input(change, error, message) -> None:
    query, key, value = (x.detach() for x in inputs())
    arguments = {"query": query, "key": key, "value": value} | change
    with pytest.raises(error, match=message):
        scaled_dot_product_attention(**arguments, spec=INT8, at=CallSite(layer="a"))


def test_a_spec_of_something_else() -> None:
    with pytest.raises(TypeError, match="scores takes an OpSpec, got 'int8'"):
        AttentionSpec(scores="int8", values=NATIVE)
    with pytest.raises(TypeError, match="probabilities takes a Quantizer or None, got 'int8'"):
        AttentionSpec(scores=NATIVE, values=NATIVE, probabilities="int8")
