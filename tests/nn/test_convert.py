"""Conversion and its undoing: what is swapped, what is refused, and what stays as it was."""

import copy
import io
import pickle

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize, prune

import lowbit_sim as lb
from lowbit_sim.nn import modules
from lowbit_sim.ops.linear import linear
from tests.nn.models import INT4, INT8, STOCHASTIC, assert_same, converted, convnet, images, train

ALL = [lb.Rule("*", INT8)]


def test_layers_become_emulated_in_place() -> None:
    model = convnet()
    assert lb.convert(model, ALL) is model
    assert [type(m) for m in model if not isinstance(m, nn.ReLU | nn.Flatten)] == [
        modules.Conv2d,
        modules.Conv2d,
        modules.Linear,
    ]
    assert isinstance(model[0], nn.Conv2d)
    assert isinstance(model[5], nn.Linear)


def test_rules_choose() -> None:
    model = lb.convert(convnet(), [lb.Rule("0", None), lb.Rule("?", INT4)])
    assert type(model.get_submodule("0")) is nn.Conv2d
    assert model.get_submodule("2").emulation.spec is INT4
    untouched = lb.convert(convnet(), [lb.Rule("2", INT8)])
    assert type(untouched.get_submodule("5")) is nn.Linear


def test_no_rules_convert_nothing() -> None:
    model = convnet()
    assert [type(m) for m in lb.convert(model, []).modules()] == [type(m) for m in convnet().modules()]


def test_a_none_rule_keeps_the_native_bits() -> None:
    model = lb.convert(convnet(), [lb.Rule("*", None)])
    native = convnet()
    assert train(model, range(3)) == train(native, range(3))
    assert_same(model, native)


@pytest.mark.parametrize("layer", [nn.Linear(4, 3), nn.Conv2d(2, 3, 1)], ids=["Linear", "Conv2d"])
def test_a_model_that_is_one_layer(layer) -> None:
    emulated = lb.convert(layer, ALL)
    assert isinstance(emulated, modules.Linear | modules.Conv2d)
    assert emulated.weight is layer.weight
    native = lb.restore(emulated)
    assert type(native) is type(layer)
    assert native.weight is layer.weight


def test_a_layer_under_two_paths_stays_one() -> None:
    shared = nn.Linear(4, 4)
    model = nn.Sequential(shared, nn.ReLU(), shared)
    lb.convert(model, ALL)
    assert model[0] is model[2]
    assert isinstance(model[0], modules.Linear)
    lb.restore(model)
    assert model[0] is model[2]
    assert type(model[0]) is nn.Linear


def test_a_layer_under_two_paths_needs_one_rule() -> None:
    shared = nn.Linear(4, 4)
    model = nn.Sequential(shared, shared)
    with pytest.raises(ValueError, match="'1' and '0' are one layer, but their rules differ"):
        lb.convert(model, [lb.Rule("0", INT8), lb.Rule("1", INT4)])
    assert type(model[0]) is nn.Linear


def test_tied_weights_stay_tied() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    model[1].weight = model[0].weight
    lb.convert(model, ALL)
    assert model[0].weight is model[1].weight
    assert model[0] is not model[1]
    model(torch.ones(2, 4)).sum().backward()
    assert len(list(model.parameters())) == 3


class Subclass(nn.Linear):
    pass


class OwnForward(nn.Linear):
    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return 2 * nn.functional.linear(input, self.weight, self.bias)


def reparametrized(layer: nn.Module) -> nn.Module:
    return parametrize.register_parametrization(layer, "weight", nn.Identity())


UNSUPPORTED = {
    "LazyConv1d": (lambda: nn.LazyConv1d(2, 1), "run it once first"),
    "LazyLinear": (lambda: nn.LazyLinear(2), "run it once first"),
    "OwnForward": (
        lambda: OwnForward(2, 2),
        "its class has a forward of its own: a rule with a FunctionalSpec",
    ),
}


@pytest.mark.parametrize("kind", UNSUPPORTED)
# torch announces that lazy modules may change.
@pytest.mark.filterwarnings("ignore:Lazy modules")
def test_a_layer_without_a_twin_is_refused(kind) -> None:
    make, why = UNSUPPORTED[kind]
    model = nn.Sequential(nn.Linear(4, 2), make())
    with pytest.raises(
        lb.UnsupportedModuleError, match=rf"rule '\*' asks to emulate '1', a {kind}; .*{why}"
    ) as e:
        lb.convert(model, ALL)
    assert 'Put Rule("1", None) before it' in str(e.value)
    # A refusal changes nothing.
    assert type(model[0]) is nn.Linear
    lb.convert(model, [lb.Rule("1", None), *ALL])
    assert type(model[0]) is modules.Linear
    assert type(model[1]).__name__ == kind


class SubclassedConv(nn.Conv2d):
    pass


@pytest.mark.parametrize(
    ("plain", "other", "shape"),
    [
        (nn.Linear(4, 3), Subclass(4, 3), (5, 4)),
        (nn.Linear(4, 3), reparametrized(nn.Linear(4, 3)), (5, 4)),
        (nn.Conv2d(2, 3, 3), SubclassedConv(2, 3, 3), (2, 2, 5, 5)),
    ],
    ids=["subclass", "parametrized", "convolution"],
)
def test_a_subclass_with_the_native_forward_is_emulated_as_its_base(plain, other, shape) -> None:
    with torch.no_grad():
        by_shape = {p.shape: p for p in plain.parameters()}
        for mine in other.parameters():
            mine.copy_(by_shape[mine.shape])
    kind, x = type(other), torch.randn(shape)
    emulated = [lb.convert(copy.deepcopy(m), [lb.Rule("*", STOCHASTIC)]) for m in (plain, other)]
    inputs = [x.clone().requires_grad_() for _ in emulated]
    outputs = [m(i) for m, i in zip(emulated, inputs, strict=True)]
    for y in outputs:
        y.square().sum().backward()
    assert torch.equal(*outputs)
    assert not torch.equal(outputs[0], plain(x))
    assert torch.equal(inputs[0].grad, inputs[1].grad)
    gradients = [{p.shape: p.grad for p in m.parameters()} for m in emulated]
    assert all(torch.equal(gradients[0][size], gradients[1][size]) for size in gradients[0])
    assert isinstance(emulated[1], kind)
    again = copy.deepcopy(emulated[1])
    assert torch.equal(again(x), emulated[1](x))
    assert type(lb.restore(emulated[1])) is kind


def test_a_subclass_goes_through_a_file() -> None:
    twin = lb.convert(Subclass(4, 3), ALL)
    again = pickle.loads(pickle.dumps(twin))
    assert torch.equal(again(torch.ones(2, 4)), twin(torch.ones(2, 4)))


def test_gradients_reach_a_weight_norm() -> None:
    layer = nn.utils.parametrizations.weight_norm(nn.Linear(4, 3))
    model = lb.convert(nn.Sequential(layer), ALL)
    model(torch.randn(5, 4)).square().sum().backward()
    assert len(list(model.parameters())) == 3
    assert all(p.grad is not None and p.grad.any() for p in model.parameters())


def test_a_forward_of_a_layers_own_takes_a_functional_spec() -> None:
    model = nn.Sequential(OwnForward(4, 3), nn.Linear(3, 2))
    lb.convert(model, [lb.Rule("0", lb.FunctionalSpec(INT8)), *ALL])
    x = torch.randn(5, 4)
    y = linear(x, model[0].weight, model[0].bias, INT8)
    assert torch.equal(model[0](x), 2 * y)
    assert type(lb.restore(model)[0]) is OwnForward  # pyright: ignore[reportIndexIssue]


def test_a_rule_that_is_not_in_a_list_is_refused() -> None:
    with pytest.raises(TypeError, match=r"rules are a list, also of one: \[Rule\("):
        lb.convert(convnet(), ALL[0])  # pyright: ignore[reportArgumentType]


def test_a_model_without_layers_points_to_functional_spec() -> None:
    with pytest.raises(lb.UnusedRuleError, match="the layers are none .*FunctionalSpec"):
        lb.convert(nn.ReLU(), ALL)


def test_a_bilinear_layer_is_refused_with_its_reason() -> None:
    with pytest.raises(lb.UnsupportedModuleError, match="'', a Bilinear; it sums over two axes at once"):
        lb.convert(nn.Bilinear(2, 2, 2), ALL)


def test_what_is_no_rule_is_refused() -> None:
    with pytest.raises(TypeError, match=r'rules are Rule\("pattern", spec\), got \(\'\*\''):
        lb.convert(convnet(), [("*", INT8)])


def test_converting_twice_is_refused() -> None:
    model = lb.convert(convnet(), [lb.Rule("2", INT8)])
    with pytest.raises(ValueError, match=r"layer '2' is emulated already: restore\(model\) first"):
        lb.convert(model, [lb.Rule("0", INT8)])
    lb.convert(lb.restore(model), ALL)
    assert type(model.get_submodule("0")) is modules.Conv2d


@pytest.mark.parametrize("seed", [-1, 1 << 32])
def test_a_seed_outside_its_range_is_refused_at_once(seed) -> None:
    with pytest.raises(ValueError, match=f"seed must be from 0 to 4294967295, got {seed}"):
        lb.convert(convnet(), ALL, seed=seed)


def test_unused_rules_change_nothing() -> None:
    model = convnet()
    with pytest.raises(lb.UnusedRuleError, match="'7' matches no layer: the layers are '0', '2', '5'"):
        lb.convert(model, [lb.Rule("7", INT8), *ALL])
    assert type(model[0]) is nn.Conv2d


def test_parameters_are_the_same_objects() -> None:
    model = convnet()
    before = {name: id(p) for name, p in model.named_parameters()}
    lb.convert(model, ALL)
    assert {name: id(p) for name, p in model.named_parameters()} == before
    lb.restore(model)
    assert {name: id(p) for name, p in model.named_parameters()} == before


def test_an_optimizer_made_before_still_trains() -> None:
    model = convnet()
    optimizer = torch.optim.Adam(model.parameters())
    lb.convert(model, ALL)
    late = converted(INT8)
    train(model, range(3), optimizer)
    train(late, range(3), torch.optim.Adam(late.parameters()))
    assert_same(model, late)
    assert not torch.equal(next(model.parameters()), next(convnet().parameters()))


def test_state_dicts_fit_both_ways() -> None:
    model = converted()
    train(model, range(2))
    native = convnet(seed=1)
    native.load_state_dict(model.state_dict(), strict=True)
    assert_same(native, model)
    other = convnet(seed=2)
    model.load_state_dict(other.state_dict(), strict=True)
    assert_same(model, other)


def test_hooks_survive() -> None:
    model, calls = convnet(), []
    model[2].register_forward_hook(lambda *_: calls.append("forward"))
    model[2].register_forward_pre_hook(lambda *_: calls.append("before"))
    model[2].register_full_backward_hook(lambda *_: calls.append("backward"))
    lb.convert(model, ALL)
    model(images()).sum().backward()
    assert calls == ["before", "forward", "backward"]
    lb.restore(model)(images())
    assert calls[3:] == ["before", "forward"]


def test_pruned_weights_stay_pruned() -> None:
    """Pruning is a forward pre-hook that sets the weight."""
    model = convnet()
    prune.random_unstructured(model[5], "weight", amount=0.5)
    lb.convert(model, ALL)
    train(model, range(2))
    assert (model[5].weight == 0).float().mean() == 0.5


def test_flags_are_kept() -> None:
    model = convnet().eval()
    model[2].train()
    model[0].weight.requires_grad_(False)
    for change in (lambda: lb.convert(model, ALL), lambda: lb.restore(model)):
        change()
        assert [m.training for m in model] == [False, False, True, False, False, False]
        assert not model[0].weight.requires_grad
        assert model[2].weight.requires_grad


def through_a_file(model: nn.Module) -> nn.Module:
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


@pytest.mark.parametrize(
    "duplicate",
    [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model)), through_a_file],
    ids=["deepcopy", "pickle", "torch.save"],
)
def test_a_copy_goes_on_with_the_same_bits(duplicate) -> None:
    model = converted()
    train(model, range(2))
    twin = duplicate(model)
    assert lb.random_steps(twin) == lb.random_steps(model)
    assert torch.equal(twin.eval()(images()), model.eval()(images()))
    assert train(twin.train(), range(2, 5)) == train(model.train(), range(2, 5))
    assert_same(twin, model)
    # The copy has its own counters and weights.
    train(twin, range(1))
    assert lb.random_steps(twin) != lb.random_steps(model)


def test_restoring_gives_the_native_model() -> None:
    model = converted()
    train(model, range(2))
    reference = convnet()
    reference.load_state_dict(model.state_dict())
    assert lb.restore(model) is model
    assert [type(m) for m in model.modules()] == [type(m) for m in reference.modules()]
    for mine, native in zip(model.modules(), reference.modules(), strict=True):
        assert mine.__dict__.keys() == native.__dict__.keys()
    assert torch.equal(model(images()), reference(images()))
    assert train(model, range(2)) == train(reference, range(2))
    assert lb.restore(model) is model


def test_summary() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Linear(4, 4), nn.LSTM(4, 4))
    lb.convert(model, [lb.Rule("3", None), lb.Rule("2", None), lb.Rule("*", STOCHASTIC)])
    gemms = (
        "output: int4 x int4 -> 32-bit wrap, grad_input: int4 stochastic x int4 -> 32-bit wrap, "
        "grad_weight: int4 stochastic x int4 -> 32-bit wrap"
    )
    assert lb.summary(model) == [
        lb.LayerSummary(path="0", kind="Conv2d", numerics=gemms),
        lb.LayerSummary(path="2", kind="Linear", numerics="native"),
        lb.LayerSummary(path="3", kind="LSTM", numerics="native"),
    ]
    assert gemms in repr(model)
    assert "Conv2d(3, 4, kernel_size=(1, 1), stride=(1, 1), output: int4" in repr(model[0])
    assert "Linear(in_features=2, out_features=1, bias=True, output: int8" in repr(
        lb.convert(nn.Linear(2, 1), ALL)
    )
