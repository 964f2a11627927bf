"""Dropout is torch's; its random numbers, its mask and its passes are on record."""

import pytest
import torch
import torch.nn.functional as F

import lowbit_sim as lb
from lowbit_sim.ops.attention import scaled_dot_product_attention
from lowbit_sim.ops.dropout import DECISION_BITS, drawn_bits, dropout
from tests.ops.cases import reals


def test_values_are_torch_s() -> None:
    x = reals(0, 5, 7)
    torch.manual_seed(3)
    expected = F.dropout(x, 0.3)
    torch.manual_seed(3)
    assert torch.equal(dropout(x, 0.3, ""), expected)
    assert dropout(x, 0.0, "") is x


def test_both_passes_by_hand() -> None:
    # 35 elements of 4 bytes; a mask of 35 bits takes 5 bytes.
    x = reals(0, 5, 7).requires_grad_()
    with lb.record() as trace:
        dropout(x, 0.3, "drop").sum().backward()
    forward, backward = trace.vectors
    assert (forward.read_bytes, forward.write_bytes, forward.random_bits) == (140, 140, 35 * 32)
    assert (forward.kept_bytes, forward.keeps, forward.layer, forward.elements) == (5, "marks", "drop", 35)
    assert (backward.read_bytes, backward.write_bytes, backward.random_bits) == (145, 140, 0)


def test_without_a_backward_pass_nothing_is_kept() -> None:
    with lb.record() as trace:
        dropout(reals(0, 5, 7), 0.3, "")
    [event] = trace.vectors
    assert (event.kept_bytes, event.keeps) == (0, "")


@pytest.mark.parametrize(
    ("name", "numbers"),
    [
        ("dropout", 2 * 3 * 4 * 5),
        ("alpha_dropout", 2 * 3 * 4 * 5),
        ("dropout2d", 2 * 3),
        ("feature_alpha_dropout", 2 * 3),
        ("relu", 0),
    ],
)
def test_a_number_for_each_decision(name: str, numbers: int) -> None:
    assert drawn_bits(name, torch.zeros(2, 3, 4, 5)) == numbers * DECISION_BITS


def test_an_attention_draws_for_each_probability() -> None:
    q, k, v = (reals(i, 2, 3, 4) for i in range(3))
    spec = lb.AttentionSpec.uniform(lb.OpSpec.uniform(lb.INT8))
    with lb.record() as trace:
        scaled_dot_product_attention(q, k, v, dropout_p=0.5, spec=spec)
    assert sum(e.random_bits for e in trace.vectors) == 2 * 3 * 3 * DECISION_BITS
