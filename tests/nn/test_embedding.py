"""The emulated embedding layer: torch's options, and what is refused."""

import copy

import pytest
import torch
from torch import nn

import lowbit_sim as lb
from lowbit_sim.nn.embedding import Embedding
from tests.nn.models import INT8

EXACT = [lb.Rule("*", lb.OpSpec.uniform(lb.INT8, scale=lb.FixedScale(1.0)))]
TOKENS = torch.tensor([[1, 2, 1], [0, 5, 2]])


def table(**options) -> nn.Embedding:
    layer = nn.Embedding(6, 4, **options)
    layer.weight.data = torch.randint(-9, 10, (6, 4), generator=torch.Generator().manual_seed(0)).float()
    return layer


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"padding_idx": 2},
        {"scale_grad_by_freq": True},
        {"max_norm": 5.0},
        {"max_norm": 7.0, "norm_type": 1.0},
    ],
    ids=str,
)
def test_every_option_of_an_embedding(options) -> None:
    native = table(**options)
    spec = (
        EXACT
        if "max_norm" not in options
        else [lb.Rule("*", lb.OpSpec(output=None, grad_input=None, grad_weight=None))]
    )
    layer = lb.convert(copy.deepcopy(native), spec)
    assert type(layer) is Embedding
    g = torch.randint(-9, 10, (2, 3, 4), generator=torch.Generator().manual_seed(1)).float()
    results = []
    for each in (layer, native):
        y = each(TOKENS)
        y.backward(g)
        results.append((y, each.weight.grad, each.weight))
    for mine, theirs in zip(*results, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-6, atol=0)


def test_a_tied_table_stays_tied_and_gets_both_gradients() -> None:
    model = nn.Sequential(table(), nn.Linear(4, 6, bias=False))
    model[1].weight = model[0].weight
    lb.convert(model, EXACT)
    assert model[0].weight is model[1].weight
    model(TOKENS).sum().backward()
    alone = table()
    alone(TOKENS).backward(model[1].weight.detach().sum(0).expand(2, 3, 4))
    rows = alone(TOKENS).detach().flatten(0, 1).sum(0)
    assert torch.equal(model[0].weight.grad, alone.weight.grad + rows)


def test_sparse_gradients_are_refused() -> None:
    with pytest.raises(
        lb.UnsupportedModuleError, match=r"'0', a Embedding; its gradient is sparse \(sparse=True\)"
    ):
        lb.convert(nn.Sequential(table(sparse=True)), [lb.Rule("*", INT8)])


def test_bags_are_refused() -> None:
    with pytest.raises(lb.UnsupportedModuleError, match="EmbeddingBag; it sums rows forward as well"):
        lb.convert(nn.Sequential(nn.EmbeddingBag(6, 4)), [lb.Rule("*", INT8)])


def test_the_look_up_is_on_record() -> None:
    layer = lb.convert(table(), [lb.Rule("*", INT8)])
    with lb.record() as trace:
        layer(TOKENS).sum().backward()
    [look_up] = [e for e in trace.vectors if e.kind == "embedding"]
    assert (look_up.elements, look_up.read_bytes, look_up.write_bytes) == (24, 24, 96)
    assert [(e.role, e.M, e.N, e.K) for e in trace.gemms] == [("grad_weight", 4, 1, 6)]
