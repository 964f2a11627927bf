"""Products in a module's own forward: every spelling is emulated, children are left alone, the rest is refused."""

import copy
import io
import pickle
import threading

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

import lowbit_sim as lb
from lowbit_sim.nn import modules
from lowbit_sim.nn.products import REFUSED
from lowbit_sim.ops.capture import capture
from tests.nn.models import INT4, INT8, STOCHASTIC, assert_same
from tests.ops.captured import assert_definition
from tests.ops.cases import NATIVE, codes_spec, integers, reals

EXACT = lb.FunctionalSpec(codes_spec())


class Calls(nn.Module):
    """A module that calls one function of two tensors."""

    def __init__(self, function) -> None:
        super().__init__()
        self.function = function

    def forward(self, *tensors: torch.Tensor, **options) -> torch.Tensor:
        return self.function(*tensors, **options)


MATRICES = ((3, 4), (4, 5))
BATCHES = ((2, 3, 4), (2, 4, 5))
IMAGES = ((2, 4, 6, 7), (6, 2, 3, 2), (6,))
SPELLINGS = {
    "torch.matmul": (torch.matmul, BATCHES),
    "matmul by name": (lambda a, b: torch.matmul(input=a, other=b), BATCHES),
    "a @ b": (lambda a, b: a @ b, BATCHES),
    "a.matmul(b)": (lambda a, b: a.matmul(b), BATCHES),
    "torch.linalg.matmul": (torch.linalg.matmul, BATCHES),
    "rmatmul": (lambda a, b: b.__rmatmul__(a), BATCHES),
    "torch.bmm": (torch.bmm, BATCHES),
    "a.bmm(b)": (lambda a, b: a.bmm(b), BATCHES),
    "torch.mm": (torch.mm, MATRICES),
    "torch.mv": (torch.mv, ((3, 4), (4,))),
    "torch.dot": (torch.dot, ((4,), (4,))),
    "addmm": (lambda a, b, c: torch.addmm(c, a, b, beta=2, alpha=3), (*MATRICES, (5,))),
    "addmm without input": (lambda a, b, c: torch.addmm(c, a, b, beta=0), (*MATRICES, (5,))),
    "c.addmm(a, b)": (lambda a, b, c: c.addmm(a, b), (*MATRICES, (3, 5))),
    "addmv": (lambda a, b, c: torch.addmv(c, a, b), ((3, 4), (4,), (3,))),
    "baddbmm": (lambda a, b, c: torch.baddbmm(c, a, b, alpha=2), (*BATCHES, (2, 3, 5))),
    "F.linear": (F.linear, ((2, 3, 4), (5, 4), (5,))),
    "F.linear without bias": (F.linear, ((2, 3, 4), (5, 4))),
    "F.linear of a vector": (F.linear, ((3, 4), (4,))),
    "einsum": (lambda a, b: torch.einsum("bij,bjk->bki", a, b), BATCHES),
    "einsum of a list": (lambda a, b: torch.einsum("bij,bjk->bik", [a, b]), BATCHES),
    "conv1d": (lambda x, w, b: F.conv1d(x, w, b, 2, 1), ((2, 3, 8), (4, 3, 3), (4,))),
    "conv2d": (lambda x, w, b: F.conv2d(x, w, b, (2, 1), (1, 0), (1, 2), 2), IMAGES),
    "conv2d same": (lambda x, w: F.conv2d(x, w, padding="same", groups=2), ((2, 4, 6, 7), (6, 2, 3, 5))),
    "conv3d": (F.conv3d, ((1, 2, 4, 4, 4), (3, 2, 2, 2, 2))),
    "conv_transpose1d": (
        lambda x, w: F.conv_transpose1d(x, w, stride=2, output_padding=1),
        ((2, 3, 5), (3, 4, 3)),
    ),
    "conv_transpose2d": (
        lambda x, w: F.conv_transpose2d(x, w, None, 2, 1, 1, 2),
        ((2, 4, 3, 3), (4, 3, 3, 2)),
    ),
}


@pytest.mark.parametrize("name", SPELLINGS)
def test_every_spelling_of_a_product(name) -> None:
    function, shapes = SPELLINGS[name]
    native, model = Calls(function), lb.convert(Calls(function), [lb.Rule("*", EXACT)])
    given = [integers(i, *shape, largest=5).requires_grad_() for i, shape in enumerate(shapes)]
    y, expected = model(*given), native(*given)
    assert torch.equal(y, expected)
    g = integers(9, *y.shape, largest=3)
    used = [x for x in given if name != "addmm without input" or x is not given[2]]
    for mine, theirs in zip(
        torch.autograd.grad(y, used, g), torch.autograd.grad(expected, used, g), strict=True
    ):
        assert torch.equal(mine, theirs)
    with lb.record() as trace:
        model(*given)
    assert [(e.layer, e.role, e.backend != "native") for e in trace.gemms] == [("#0", "output", True)]


def test_attention_has_numerics_of_its_own() -> None:
    given = [reals(i, 2, 3, 4, 8) for i in range(3)]
    spec = lb.AttentionSpec(scores=INT4, values=INT8)
    model = lb.convert(
        Calls(F.scaled_dot_product_attention), [lb.Rule("*", lb.FunctionalSpec(STOCHASTIC, spec))]
    )
    with capture() as kept:
        y = model(*given, is_causal=True)
    assert torch.equal(y, lb.scaled_dot_product_attention(*given, is_causal=True, spec=spec))
    assert [(g.layer, g.spec) for g in kept.gemms] == [("#0.scores", INT4.output), ("#0.values", INT8.output)]
    with capture() as kept:
        lb.convert(Calls(F.scaled_dot_product_attention), [lb.Rule("*", lb.FunctionalSpec(INT8))])(*given)
    assert [g.spec for g in kept.gemms] == [INT8.output] * 2


class Block(nn.Module):
    """Products of its own before, between and after two children."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.inner = Calls(lambda x: x @ x.mT)
        self.weight = nn.Parameter(reals(0, 4, 4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x @ self.weight
        x = self.first(x)
        scores = torch.softmax(self.inner(x), -1)
        return F.linear(scores @ x, self.weight)


def layers_that_ran(model: nn.Module) -> list[str]:
    with lb.record() as trace:
        model(reals(1, 2, 3, 4))
    return [e.layer for e in trace.gemms]


def test_children_are_left_alone() -> None:
    torch.manual_seed(0)
    spec = lb.FunctionalSpec(INT8)
    assert layers_that_ran(lb.convert(Block(), [lb.Rule("", spec)])) == ["#0", "#1", "#2"]
    assert layers_that_ran(lb.convert(Block(), [lb.Rule("first", INT8), lb.Rule("inner", spec)])) == [
        "first",
        "inner#0",
    ]
    whole = lb.convert(Block(), [lb.Rule("*", INT8), lb.Rule("*", spec)])
    assert layers_that_ran(whole) == ["#0", "first", "inner#0", "#1", "#2"]
    assert type(whole.first) is modules.Linear


def test_a_child_that_fails_and_is_caught() -> None:
    class Tries(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.child = Calls(lambda x: x @ x)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            try:
                self.child(x)
            except RuntimeError:
                return x @ x.mT
            raise AssertionError("the shapes must not fit")

    model = lb.convert(Tries(), [lb.Rule("", EXACT)])
    with lb.record() as trace:
        model(integers(0, 2, 3))
    assert [e.layer for e in trace.gemms] == ["#0"]


def test_the_world_outside_stays_native() -> None:
    model = lb.convert(Block(), [lb.Rule("*", lb.FunctionalSpec(INT8))])
    model(reals(1, 2, 3, 4))
    with pytest.raises(ValueError, match="matmul can't multiply"):
        model(reals(1, 2, 3, 5))  # leaves the forward pass by an error
    with lb.record() as trace:
        torch.matmul(reals(0, 2, 3), reals(1, 3, 2))
        nn.Linear(4, 4)(reals(1, 2, 4))
    assert trace.gemms == []


def test_every_gemm_is_the_definition_s() -> None:
    model = lb.convert(
        Block(), [lb.Rule("*", STOCHASTIC), lb.Rule("*", lb.FunctionalSpec(STOCHASTIC))], seed=3
    )
    with capture() as kept:
        model(reals(1, 2, 3, 4)).square().sum().backward()
    assert len(kept.gemms) == 3 * 5 - 1  # x needs no gradient
    assert assert_definition(kept) >= len(kept.gemms)


def test_rules_for_products_leave_the_bits_of_layers_alone() -> None:
    gradients = []
    for rules in (
        [lb.Rule("first", STOCHASTIC)],
        [lb.Rule("first", STOCHASTIC), lb.Rule("*", lb.FunctionalSpec(NATIVE))],
    ):
        torch.manual_seed(0)
        model = lb.convert(Block(), rules, seed=7)
        model(reals(1, 2, 3, 4)).sum().backward()
        gradients.append(model.first.weight.grad)
    torch.testing.assert_close(*gradients, rtol=1e-5, atol=1e-6)


def test_a_none_rule_keeps_a_module_s_products_native() -> None:
    model = lb.convert(Block(), [lb.Rule("inner", None), lb.Rule("*", lb.FunctionalSpec(INT8))])
    assert layers_that_ran(model) == ["#0", "#1", "#2"]


def test_unused_rules() -> None:
    with pytest.raises(
        lb.UnusedRuleError, match="'nowhere' matches no layer: the modules that may call products are"
    ):
        lb.convert(Block(), [lb.Rule("nowhere", EXACT)])
    with pytest.raises(lb.UnusedRuleError, match=r"'inner' is never used: rule '\*' before it takes 'inner'"):
        lb.convert(Block(), [lb.Rule("*", EXACT), lb.Rule("inner", lb.FunctionalSpec(INT8))])
    with pytest.raises(lb.UnusedRuleError, match="'first' matches no layer"):
        lb.convert(Block(), [lb.Rule("first", EXACT)])


IN_WORDS = {
    "inner": lambda a: torch.inner(a, a),
    "tensordot": lambda a: torch.tensordot(a, a, 1),
    "bilinear": lambda a: F.bilinear(a, a, torch.ones(2, 3, 3)),
    "addmm_": lambda a: torch.zeros(3, 3).addmm_(a, a),
    "addbmm": lambda a: torch.addbmm(a, a[None], a[None]),
    "linalg_multi_dot": lambda a: torch.linalg.multi_dot([a, a]),
    "cdist": lambda a: torch.cdist(a, a),
    "lstm_cell": lambda a: torch.lstm_cell(a, (a, a), torch.ones(12, 3), torch.ones(12, 3)),
    "multi_head_attention_forward": lambda a: F.multi_head_attention_forward(
        a, a, a, 3, 1, torch.ones(9, 3), None, None, None, False, 0.0, torch.ones(3, 3), None
    ),
}


@pytest.mark.parametrize("name", IN_WORDS)
def test_what_can_t_be_emulated_is_refused_by_name(name) -> None:
    model = lb.convert(nn.Sequential(Calls(IN_WORDS[name])), [lb.Rule("0", EXACT)])
    with pytest.raises(
        lb.UnsupportedFunctionError, match=f"module '0' calls '{name}', which can't be emulated: "
    ):
        model(reals(0, 3, 3))
    assert name in REFUSED


def test_arguments_that_have_no_emulation() -> None:
    model = lb.convert(Calls(lambda a: torch.matmul(a, a, out=torch.empty(3, 3))), [lb.Rule("", EXACT)])
    with pytest.raises(
        lb.UnsupportedFunctionError, match="'matmul' is emulated with arguments input, other, not out"
    ):
        model(integers(0, 3, 3))
    model = lb.convert(Calls(lambda a: torch.einsum("ij,jk,kl->il", a, a, a)), [lb.Rule("", EXACT)])
    with pytest.raises(lb.UnsupportedFunctionError, match="'einsum' is emulated with arguments"):
        model(integers(0, 3, 3))


def test_integer_products_and_outer_products_stay_native() -> None:
    def function(a: torch.Tensor) -> torch.Tensor:
        assert (a.long() @ a.long()).dtype == torch.int64
        return torch.outer(a[0], a[0]) + torch.einsum("ij->ji", a)

    model = lb.convert(Calls(function), [lb.Rule("", EXACT)])
    with lb.record() as trace:
        assert torch.equal(model(integers(0, 3, 3)), function(integers(0, 3, 3)))
    assert trace.gemms == []


def test_steps_and_calls_draw_bits_of_their_own() -> None:
    rounding = lb.Rounding("stochastic", random_bits=8)
    quantizer = lb.Quantizer(lb.INT4, rounding=rounding)
    spec = lb.OpSpec(output=lb.GemmSpec(quantizer, quantizer), grad_input=None, grad_weight=None)
    model = lb.convert(Calls(lambda a: torch.stack([a @ a, a @ a])), [lb.Rule("", lb.FunctionalSpec(spec))])
    a = reals(0, 8, 8)
    first, second = model(a), model(a)
    assert not torch.equal(first[0], first[1])
    assert not torch.equal(first, second)
    assert model.random_step == 2
    lb.set_random_steps(model, {"": 0})
    assert torch.equal(model(a), first)


def test_copies_and_pickles() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(PickledBlock())
    lb.convert(model, [lb.Rule("0", lb.FunctionalSpec(STOCHASTIC))], seed=5)
    x = reals(1, 2, 3, 4)
    buffer = io.BytesIO()
    torch.save(model, buffer)
    buffer.seek(0)
    for other in (
        copy.deepcopy(model),
        pickle.loads(pickle.dumps(model)),
        torch.load(buffer, weights_only=False),
    ):
        assert_same(other, model)
        assert isinstance(other[0], PickledBlock)
        assert type(other[0]) is type(model[0])
        other[0].weight.grad = None
        other(x).sum().backward()
        gradient = other[0].weight.grad
        twin = copy.deepcopy(model)
        twin(x).sum().backward()
        assert torch.equal(gradient, twin[0].weight.grad)


class PickledBlock(nn.Module):
    """A block of the module's own scope, as pickle needs."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(reals(0, 4, 4))

    def forward(self, x: torch.Tensor, scale: float = 1.0) -> torch.Tensor:
        """The Gram matrix of x w."""
        y = x @ self.weight * scale
        return y @ y.mT


def test_the_twin_looks_like_the_native_module() -> None:
    import inspect

    native = PickledBlock()
    model = lb.convert(copy.deepcopy(native), [lb.Rule("*", lb.FunctionalSpec(INT8))])
    assert list(inspect.signature(model.forward).parameters) == ["x", "scale"]
    assert type(model).__name__ == "PickledBlock"
    assert list(model.state_dict()) == list(native.state_dict())
    assert "products (output: int8" in repr(model)
    back = lb.restore(model)
    assert type(back) is PickledBlock
    assert torch.equal(back(reals(1, 2, 3, 4)), native(reals(1, 2, 3, 4)))


def test_a_spec_of_something_else() -> None:
    with pytest.raises(TypeError, match="products takes an OpSpec, got 'int8'"):
        lb.FunctionalSpec("int8")
    with pytest.raises(TypeError, match="attention takes an AttentionSpec or None"):
        lb.FunctionalSpec(INT8, INT8)


class Interrupted(nn.Module):
    """A child that is interrupted, which runs no hooks."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Raises."""
        raise KeyboardInterrupt


def test_an_interrupt_leaves_torch_as_it_was() -> None:
    model = lb.convert(nn.Sequential(nn.Sequential(Interrupted())), [lb.Rule("*", EXACT)])
    with pytest.raises(KeyboardInterrupt):
        model(integers(0, 2, 2))
    assert torch.overrides._get_current_function_mode() is None
    assert not torch.nn.modules.module._global_forward_hooks
    assert not torch.nn.modules.module._global_forward_pre_hooks


def test_another_mode_inside_the_forward_pass() -> None:
    class Inside(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.child = Calls(lambda x: x @ x.mT)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            with torch.device("cpu"):
                y = self.child(x) @ x
            return y + self.child(x) @ x

    model = lb.convert(Inside(), [lb.Rule("", EXACT)])
    x = integers(0, 3, 3, largest=2)
    with lb.record() as trace:
        assert torch.equal(model(x), 2 * (x @ x.mT @ x))
    assert [e.layer for e in trace.gemms] == ["#0", "#1"]


def test_threads_do_not_disturb_each_other() -> None:
    started, finished = threading.Event(), threading.Event()

    def wait(x: torch.Tensor) -> torch.Tensor:
        started.set()
        assert finished.wait(10)
        return x @ x.mT

    model = lb.convert(Calls(wait), [lb.Rule("", EXACT)])
    found = []
    with lb.record() as trace:
        thread = threading.Thread(target=lambda: found.append(model(integers(0, 2, 2))))
        thread.start()
        assert started.wait(10)
        nn.Sequential(Calls(lambda x: x @ x))(integers(1, 2, 2))  # native, and no child of the model
        finished.set()
        thread.join()
    assert [e.layer for e in trace.gemms] == ["#0"]
    assert len(found) == 1


def test_a_compiled_model_has_the_same_bits() -> None:
    torch._dynamo.reset()
    results = []
    for wrap in (lambda m: m, lambda m: torch.compile(m, backend="eager")):
        torch.manual_seed(0)
        model = lb.convert(Block(), [lb.Rule("*", STOCHASTIC), lb.Rule("*", lb.FunctionalSpec(STOCHASTIC))])
        wrap(model)(reals(1, 2, 3, 4)).sum().backward()
        results.append(model.weight.grad)
    assert torch.equal(*results)


@pytest.mark.parametrize("reentrant", [True, False])
def test_a_checkpoint_of_the_module_s_own_is_refused_and_one_around_it_is_not(reentrant) -> None:
    class Own(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return checkpoint(lambda y: y @ y, x, use_reentrant=reentrant)

    x = integers(0, 3, 3).requires_grad_()
    with pytest.raises(
        lb.UnsupportedFunctionError, match="module '' calls 'matmul' inside of torch.utils.checkpoint"
    ):
        lb.convert(Own(), [lb.Rule("", EXACT)])(x)
    gradients = []
    for around in (False, True):
        torch.manual_seed(0)
        model = lb.convert(Block(), [lb.Rule("*", lb.FunctionalSpec(STOCHASTIC))], seed=4)
        y = reals(1, 2, 3, 4).requires_grad_()
        z = checkpoint(model, y, use_reentrant=reentrant) if around else model(y)
        z.sum().backward()
        gradients.append(model.weight.grad)
    assert torch.equal(*gradients)
