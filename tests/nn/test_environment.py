"""What training code does around a model: freezing, sharing, accumulating, mixed precision. Right to the bit."""

import copy

import pytest
import torch
from torch import Tensor, nn

import lowbit_sim as lb
from tests.nn.models import INT8, STOCHASTIC, assert_same, converted, images, labels

_DRAWN = lb.Quantizer(lb.INT4, rounding=lb.Rounding("stochastic", random_bits=8))
_GEMM = lb.GemmSpec(_DRAWN, _DRAWN)
#: Every operand of every GEMM draws random bits.
DRAWN = lb.OpSpec(output=_GEMM, grad_input=_GEMM, grad_weight=_GEMM)

every_spec = pytest.mark.parametrize(
    "spec", [INT8, STOCHASTIC, DRAWN], ids=["int8", "gradients drawn", "drawn"]
)


def values(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def gradients(model: nn.Module, x: Tensor | None = None) -> dict[str, Tensor]:
    """The gradients of one backward pass, added to those there are."""
    nn.functional.cross_entropy(model(images() if x is None else x), labels()).backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@every_spec
@pytest.mark.parametrize("frozen", ["0", "2", "5"])
def test_a_frozen_layer_runs_no_gradient_gemm_and_changes_no_other_bit(spec, frozen) -> None:
    plain, model = converted(spec), converted(spec)
    model.get_submodule(frozen).requires_grad_(False)
    expected = gradients(plain)
    with lb.record() as trace:
        found = gradients(model)
    assert found.keys() == {name for name in expected if not name.startswith(frozen)}
    assert all(torch.equal(found[name], expected[name]) for name in found)
    assert (frozen, "grad_weight") not in {(e.layer, e.role) for e in trace.gemms}
    # Nothing before the first layer that trains needs a gradient.
    first = min(int(name.split(".")[0]) for name in found)
    assert {e.layer for e in trace.gemms if e.role == "grad_input"} == {
        p for p in ("0", "2", "5") if int(p) > first
    }


@every_spec
def test_a_frozen_model_still_has_the_gradient_of_its_input(spec) -> None:
    plain, model = converted(spec), converted(spec).requires_grad_(False)
    x, y = images().requires_grad_(), images().requires_grad_()
    gradients(plain, x)
    with lb.record() as trace:
        assert gradients(model, y) == {}
    assert torch.equal(x.grad, y.grad)  # type: ignore[arg-type]
    assert {e.role for e in trace.gemms} == {"output", "grad_input"}


def at_step(layer: nn.Module, step: int) -> nn.Module:
    """A copy of a layer alone that draws the bits of a step."""
    twin = copy.deepcopy(layer)
    lb.set_random_steps(twin, {"": step})
    return twin


@every_spec
def test_a_layer_that_is_used_twice_is_two_uses(spec) -> None:
    """Each use has its own step: its output is that of a copy alone, and the gradients are the copies' sum."""
    layer = lb.convert(nn.Linear(8, 8), [lb.Rule("*", spec)])
    first, second = at_step(layer, 0), at_step(layer, 1)
    x, y = (values(6, 8).requires_grad_() for _ in range(2))
    together = layer(layer(x).relu())
    apart = second(first(y).relu())
    assert torch.equal(together, apart)
    g = values(6, 8, seed=1)
    together.backward(g)
    apart.backward(g)
    assert torch.equal(x.grad, y.grad)  # type: ignore[arg-type]
    for p, a, b in zip(layer.parameters(), first.parameters(), second.parameters(), strict=True):
        assert torch.equal(p.grad, a.grad + b.grad)  # type: ignore[arg-type, operator]
    assert lb.random_steps(layer) == {"": 2}


def test_the_uses_of_a_layer_draw_different_bits() -> None:
    layer, x = lb.convert(nn.Linear(8, 8), [lb.Rule("*", DRAWN)]), values(6, 8)
    assert not torch.equal(layer(x), layer(x))
    layer = lb.convert(nn.Linear(8, 8), [lb.Rule("*", STOCHASTIC)])
    found = []
    for _ in range(2):
        layer.zero_grad()
        layer(x).backward(values(6, 8, seed=1))
        found.append(next(layer.parameters()).grad)
    assert not torch.equal(*found)  # type: ignore[call-overload]


class Tied(nn.Module):
    """A language model whose embedding and output layer share one weight."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding, self.hidden = nn.Embedding(11, 8), nn.Linear(8, 8)
        self.head = nn.Linear(8, 11, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.hidden(self.embedding(tokens)).relu())


@every_spec
def test_tied_weights_add_their_gradients(spec) -> None:
    tokens, g = torch.arange(7), values(7, 11)
    rules = [lb.Rule("embedding", None), lb.Rule("*", spec)]
    tied, untied = lb.convert(Tied(), rules), Tied()
    untied.head.weight = nn.Parameter(untied.embedding.weight.detach().clone())
    lb.convert(untied, rules)
    for model in (tied, untied):
        model(tokens).backward(g)
    weight = tied.get_parameter("embedding.weight")
    assert weight is tied.get_submodule("head").weight
    parts = [untied.get_parameter(f"{name}.weight").grad for name in ("embedding", "head")]
    assert torch.equal(weight.grad, parts[0] + parts[1])  # type: ignore[operator, arg-type]
    assert all(part is not None and part.any() for part in parts)


@every_spec
def test_a_tied_weight_trains_as_one(spec) -> None:
    tied = lb.convert(Tied(), [lb.Rule("embedding", None), lb.Rule("*", spec)])
    optimizer = torch.optim.SGD(tied.parameters(), lr=0.1)
    tied(torch.arange(7)).square().sum().backward()
    optimizer.step()
    assert torch.equal(tied.get_submodule("head").weight, tied.get_submodule("embedding").weight)  # type: ignore[arg-type]


@every_spec
@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode], ids=["no_grad", "inference_mode"])
def test_without_gradients_the_bits_are_the_same_and_nothing_is_kept(spec, context) -> None:
    model = converted(spec)
    with context():
        quiet = model(images())
    steps = lb.random_steps(model)
    loud = model(images())
    assert torch.equal(quiet, loud)
    assert not quiet.requires_grad
    assert set(steps.values()) == {0}
    assert set(lb.random_steps(model).values()) == {1}


@every_spec
def test_fine_tuning_in_evaluation_mode(spec) -> None:
    """Gradients in evaluation mode are those of training mode; the step stays."""
    plain, model = converted(spec), converted(spec).eval()
    expected, found = gradients(plain), gradients(model)
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert set(lb.random_steps(model).values()) == {0}


@every_spec
def test_gradients_accumulate(spec) -> None:
    model, alone = converted(spec), converted(spec)
    first = gradients(alone, images(0))
    alone.zero_grad()
    second = gradients(alone, images(1))
    gradients(model, images(0))
    total = gradients(model, images(1))
    assert all(torch.equal(total[name], first[name] + second[name]) for name in total)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@every_spec
def test_half_precision_inputs_are_widened(spec, dtype) -> None:
    half, wide = converted(spec), converted(spec)
    x = images().to(dtype)
    a, b = x.clone().requires_grad_(), x.float().requires_grad_()
    y, z = half.get_submodule("0")(a), wide.get_submodule("0")(b)
    assert y.dtype == dtype
    assert torch.equal(y, z.to(dtype))
    g = values(*y.shape, seed=1).to(dtype)
    y.backward(g)
    z.backward(g.float())
    assert a.grad is not None
    assert b.grad is not None
    assert a.grad.dtype == dtype
    assert torch.equal(a.grad, b.grad.to(dtype))
    for p, q in zip(half.parameters(), wide.parameters(), strict=True):
        assert (p.grad is None) == (q.grad is None)
        if p.grad is not None and p.ndim > 1:  # a bias' gradient is torch's own sum
            assert torch.equal(p.grad, q.grad)  # type: ignore[arg-type]


@every_spec
def test_autocast_changes_native_layers_alone(spec) -> None:
    """Under autocast the emulated layer reads what the native one returned, in bfloat16, and widens it."""
    rules = [lb.Rule("0", None), lb.Rule("1", spec)]
    model = lb.convert(nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 4)), rules)
    native, emulated = copy.deepcopy(model.get_submodule("0")), copy.deepcopy(model.get_submodule("1"))
    x = values(5, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = model(x)
        h = native(x)
    assert h.dtype == y.dtype == torch.bfloat16
    assert torch.equal(y, emulated(h.float()).to(torch.bfloat16))


@every_spec
def test_a_gradient_scaler_changes_no_bit(spec) -> None:
    """Absmax scales move with a power of two, so unscaled gradients are the very same; the update too."""
    plain, scaled = converted(spec), converted(spec)
    optimizers = [torch.optim.SGD(m.parameters(), lr=0.125, momentum=0.5) for m in (plain, scaled)]
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    for step in range(3):
        for model, optimizer in zip((plain, scaled), optimizers, strict=True):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(images(step)), labels())
            if model is plain:
                loss.backward()
                optimizer.step()
            else:
                scaler.scale(loss).backward()
                scaler.step(optimizer)
                scaler.update()
    assert_same(plain, scaled)


def test_a_gradient_scaler_skips_a_low_precision_update_that_overflowed() -> None:
    p = nn.Parameter(torch.ones(4))
    optimizer = lb.SGD([p], lr=1.0, momentum=0.5, update=lb.UpdateSpec.uniform(lb.BF16))
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    scaler.scale((p * torch.tensor([1.0, 1.0, 1.0, torch.inf])).sum()).backward()
    scaler.step(optimizer)
    scaler.update()
    assert p.tolist() == [1.0] * 4
    assert scaler.get_scale() == 2.0
    optimizer.zero_grad()
    scaler.scale(p.sum()).backward()
    scaler.step(optimizer)
    assert p.tolist() == [0.0] * 4
