"""Activation checkpointing with random bits: every bit as without it, or a refusal.

Reentrant checkpointing adds a shared weight's gradients in another order, also in torch's own layers. A weight gets
at most two contributions where such gradients are compared: a + b = b + a.
"""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint, checkpoint_sequential

import lowbit_sim as lb
from lowbit_sim.nn import recomputation
from tests.nn.models import assert_same, converted, different, images, labels

_DRAWN = lb.Quantizer(lb.INT4, rounding=lb.Rounding("stochastic", random_bits=8))
_NEAREST = lb.Quantizer(lb.INT8)
_GEMM = lb.GemmSpec(_DRAWN, _DRAWN)
DRAWN = lb.OpSpec(output=_GEMM, grad_input=_GEMM, grad_weight=_GEMM)
#: The forward pass is deterministic, the backward pass draws.
GRADIENTS = lb.OpSpec(output=lb.GemmSpec(_NEAREST, _NEAREST), grad_input=_GEMM, grad_weight=_GEMM)
NEAREST = lb.OpSpec.uniform(lb.INT8)
SPECS = {"drawn": DRAWN, "gradients": GRADIENTS, "nearest": NEAREST}

both_kinds = pytest.mark.parametrize("reentrant", [False, True], ids=["non-reentrant", "reentrant"])

Pass = Callable[..., Tensor]


class Block(nn.Module):
    """A residual block with a native dropout, an element-wise rule and two emulated layers, one used again."""

    def __init__(self, checkpointed: Callable[[Pass, Tensor], Tensor], uses: int) -> None:
        super().__init__()
        self.uses = uses
        self.first, self.shared, self.norm = nn.Linear(8, 8), nn.Linear(8, 8), nn.LayerNorm(8)
        self.dropout = nn.Dropout(0.25)
        self.checkpointed = checkpointed

    def inside(self, x: Tensor) -> Tensor:
        h = self.dropout(self.norm(self.first(x)).relu())
        for _ in range(self.uses):
            h = self.shared(h)
        return x + h

    def forward(self, x: Tensor) -> Tensor:
        return self.checkpointed(self.inside, x)


def plain(function: Pass, x: Tensor) -> Tensor:
    return function(x)


def model(
    checkpointed: Callable[[Pass, Tensor], Tensor], spec: lb.OpSpec = DRAWN, uses: int = 1
) -> nn.Module:
    """Two blocks between two layers that are not checkpointed; one is used `uses` times, in the other a layer is."""
    torch.manual_seed(0)
    block, other = Block(checkpointed, 1), Block(checkpointed, uses)
    middle = [block, nn.GELU(), other, block] if uses > 1 else [block, nn.GELU(), other]
    net = nn.Sequential(nn.Linear(6, 8), *middle, nn.Linear(8, 4))
    norm = lb.ElementwiseSpec(output=_DRAWN, grad_input=_DRAWN)
    return lb.convert(net, [lb.Rule("*", spec), lb.Rule("*.norm", norm)])


def batch(step: int) -> tuple[Tensor, Tensor]:
    x = torch.randn(10, 6, generator=torch.Generator().manual_seed(step))
    return x.requires_grad_(), torch.arange(10) % 4


def train(net: nn.Module, steps: range, micro_batches: int = 1) -> list[float]:
    torch.manual_seed(7)  # of the dropout
    optimizer, losses = torch.optim.SGD(net.parameters(), lr=0.05), []
    for step in steps:
        optimizer.zero_grad()
        for micro in range(micro_batches):
            x, y = batch(step * micro_batches + micro)
            loss = nn.functional.cross_entropy(net(x), y)
            loss.backward()
            losses.append(loss.item())
        optimizer.step()
    return losses


@both_kinds
@pytest.mark.parametrize("spec", SPECS)
def test_checkpointing_changes_no_bit(spec, reentrant) -> None:
    native = model(plain, SPECS[spec], uses=2)
    repeated = model(partial(checkpoint, use_reentrant=reentrant), SPECS[spec], uses=2)
    assert train(repeated, range(3)) == train(native, range(3))
    assert_same(repeated, native)
    assert lb.random_steps(repeated) == lb.random_steps(native)
    # Other bits give other weights, so the test can fail.
    if spec != "nearest":
        again = model(plain, SPECS[spec], uses=2)
        lb.set_random_steps(again, dict.fromkeys(lb.random_steps(again), 9))
        train(again, range(3))
        assert list(different(again, native))


@both_kinds
def test_gradient_accumulation(reentrant) -> None:
    native, repeated = model(plain), model(partial(checkpoint, use_reentrant=reentrant))
    assert train(repeated, range(2), micro_batches=3) == train(native, range(2), micro_batches=3)
    assert_same(repeated, native)


def gradients_of_two_passes(net: nn.Module) -> list[Tensor]:
    """Two forward passes of the same batch before the first backward pass, and the backward passes swapped."""
    torch.manual_seed(7)
    x, y = batch(0)
    first = nn.functional.cross_entropy(net(x), y)
    second = nn.functional.cross_entropy(net(x), y)
    second.backward()
    first.backward()
    return [p.grad for p in net.parameters() if p.grad is not None]


@both_kinds
def test_two_passes_of_one_batch_before_their_backward_passes(reentrant) -> None:
    expected = gradients_of_two_passes(model(plain))
    found = gradients_of_two_passes(model(partial(checkpoint, use_reentrant=reentrant)))
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def nested(outer: bool, inner: bool) -> Callable[[Pass, Tensor], Tensor]:
    """A checkpoint within a checkpoint, after a part that is repeated once only."""

    def run(function: Pass, x: Tensor) -> Tensor:
        def inside(h: Tensor) -> Tensor:
            return checkpoint(function, function(h), use_reentrant=inner)  # type: ignore[return-value]

        return checkpoint(inside, x, use_reentrant=outer)  # type: ignore[return-value]

    return run


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
@pytest.mark.parametrize("inner", [False, True], ids=["inner non-reentrant", "inner reentrant"])
@pytest.mark.parametrize("outer", [False, True], ids=["outer non-reentrant", "outer reentrant"])
def test_nested_regions(outer, inner) -> None:
    native = model(lambda function, x: function(function(x)))
    repeated = model(nested(outer, inner))
    assert train(repeated, range(2)) == train(native, range(2))
    assert_same(repeated, native)
    assert lb.random_steps(repeated) == lb.random_steps(native)


@both_kinds
@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
def test_evaluation_in_between_changes_no_bit(reentrant) -> None:
    """Also evaluation in training mode without gradients, and between a forward and its backward pass."""

    def run(net: nn.Module, evaluate: bool) -> list[Tensor]:
        torch.manual_seed(7)
        for step in range(2):
            x, y = batch(step)
            loss = nn.functional.cross_entropy(net(x), y)
            if evaluate:
                state = torch.get_rng_state()
                with torch.no_grad():
                    net(x)
                net.eval()(x)
                net.train()
                torch.set_rng_state(state)
            loss.backward()
        return [p.grad for p in net.parameters() if p.grad is not None]

    expected = run(model(plain), evaluate=False)
    found = run(model(partial(checkpoint, use_reentrant=reentrant)), evaluate=True)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_a_graph_that_is_kept_is_repeated_each_time() -> None:
    net, native = model(partial(checkpoint, use_reentrant=False), uses=2), model(plain, uses=2)
    results = []
    for n in (net, native):
        torch.manual_seed(7)
        x, y = batch(0)
        loss = nn.functional.cross_entropy(n(x), y)
        parameters = list(n.parameters())
        results.append(
            [
                *torch.autograd.grad(loss, parameters, retain_graph=True),
                *torch.autograd.grad(loss, parameters),
            ]
        )
    for a, b in zip(*results, strict=True):
        assert torch.equal(a, b)


@both_kinds
def test_a_sequence_in_segments(reentrant) -> None:
    native, repeated = converted(DRAWN), converted(DRAWN)
    x = images().requires_grad_()
    for net, logits in (
        (native, native(x)),
        (repeated, checkpoint_sequential(repeated, 3, x, use_reentrant=reentrant)),  # type: ignore[arg-type]
    ):
        nn.functional.cross_entropy(logits, labels()).backward()
        assert lb.random_steps(net) == {"0": 1, "2": 1, "5": 1}
    for a, b in zip(native.parameters(), repeated.parameters(), strict=True):
        assert torch.equal(a.grad, b.grad)  # type: ignore[arg-type]


def test_logs_go_with_their_graphs() -> None:
    import gc

    for reentrant in (False, True):
        train(model(partial(checkpoint, use_reentrant=reentrant)), range(1))
    gc.collect()
    assert len(recomputation._LOGS) == 0


class Reversed(torch.autograd.Function):
    """A user's own recomputation, which nothing says what it repeats."""

    @staticmethod
    def forward(ctx, x, function):
        ctx.function, ctx.x = function, x.detach()
        with torch.no_grad():
            return function(x)

    @staticmethod
    def backward(ctx, g):  # type: ignore[override]
        with torch.enable_grad():
            x = ctx.x.requires_grad_()
            y = ctx.function(x)
        torch.autograd.backward(y, g)
        return x.grad, None


def test_an_unknown_recomputation_is_refused_if_bits_depend_on_it() -> None:
    x = images().requires_grad_()
    with pytest.raises(lb.RecomputationError, match="layer '0' runs forward inside a backward pass"):
        Reversed.apply(x, converted(DRAWN)).sum().backward()  # type: ignore[union-attr]
    module = lb.convert(nn.LayerNorm(8), [lb.Rule("*", lb.ElementwiseSpec(output=_DRAWN))])
    with pytest.raises(lb.RecomputationError, match="layer '' runs forward inside a backward pass"):
        Reversed.apply(x, module).sum().backward()  # type: ignore[union-attr]
    native, repeated = converted(NEAREST), converted(NEAREST)
    native(x).sum().backward()
    Reversed.apply(x, repeated).sum().backward()  # type: ignore[union-attr]
    for a, b in zip(native.parameters(), repeated.parameters(), strict=True):
        assert torch.equal(a.grad, b.grad)  # type: ignore[arg-type]


@both_kinds
def test_a_torch_whose_checkpoint_is_not_known_is_refused(monkeypatch, reentrant) -> None:
    monkeypatch.setattr(recomputation, "_codes", dict)
    logits = checkpoint(converted(DRAWN), images().requires_grad_(), use_reentrant=reentrant)
    with pytest.raises(
        lb.RecomputationError, match="is not found to repeat a call under torch.utils.checkpoint"
    ):
        logits.sum().backward()  # type: ignore[union-attr]


@both_kinds
def test_running_scales_are_refused(reentrant) -> None:
    """They have moved on when the pass is repeated."""
    running = lb.Quantizer(lb.INT8, scale=lb.EmaScale(momentum=0.9))
    gemm = lb.GemmSpec(running, _NEAREST)
    net = lb.convert(
        nn.Linear(6, 4), [lb.Rule("*", lb.OpSpec(output=gemm, grad_input=None, grad_weight=None))]
    )
    y = checkpoint(net, batch(0)[0], use_reentrant=reentrant)
    with pytest.raises(lb.RecomputationError, match="running scales, which have moved on since"):
        y.sum().backward()  # type: ignore[union-attr]
    module = lb.convert(nn.GELU(), [lb.Rule("*", lb.ElementwiseSpec(output=running))])
    z = checkpoint(module, batch(0)[0], use_reentrant=reentrant)
    with pytest.raises(lb.RecomputationError, match="its output has a running scale"):
        z.sum().backward()  # type: ignore[union-attr]
