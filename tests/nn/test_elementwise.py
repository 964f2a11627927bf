"""The element-wise rule on modules: its values, its random bits, and what of the module stays as it was."""

import copy
import io
import pickle
from collections import namedtuple

import pytest
import torch
from torch import Tensor, nn

import lowbit_sim as lb
from lowbit_sim.numerics.random import draw
from lowbit_sim.numerics.reference import decode_value, encode_value
from lowbit_sim.training.workload import trace_training_step
from tests.nn.models import INT8

STOCHASTIC = lb.Rounding("stochastic", random_bits=8)
BF16 = lb.Quantizer(lb.BF16, scale=lb.FixedScale(1.0))
FP8 = lb.Quantizer(lb.FP8_E5M2, scale=lb.FixedScale(1.0))
DRAWN = lb.Quantizer(lb.INT8, scale=lb.FixedScale(0.0625), rounding=STOCHASTIC)
ROUNDED = lb.ElementwiseSpec(output=BF16, grad_input=FP8)


def values(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def rounded(module: nn.Module, spec: lb.ElementwiseSpec = ROUNDED, **options) -> nn.Module:
    return lb.convert(module, [lb.Rule("*", spec)], **options)


def bf16(x: Tensor) -> Tensor:
    return x.to(torch.bfloat16).float()


def e5m2(x: Tensor) -> Tensor:
    return x.to(torch.float8_e5m2).float()


class Scale(nn.Module):
    """A user's own module, with a parameter and a keyword argument."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(1.3))

    def forward(self, x: Tensor, *, bias: float | Tensor = 0.0) -> Tensor:
        return x * self.gain + bias


MODULES = {
    "LayerNorm": lambda: nn.LayerNorm(8),
    "BatchNorm": lambda: nn.BatchNorm1d(8),
    "GELU": nn.GELU,
    "Softmax": lambda: nn.Softmax(-1),
    "Scale": Scale,
    "ReLU in place": lambda: nn.ReLU(inplace=True),
    "Dropout": lambda: nn.Dropout(0.5),
}


@pytest.mark.parametrize("name", MODULES)
def test_output_and_gradient_are_rounded(name) -> None:
    """By torch's own casts: bfloat16 out, float8 back, the native gradient in between."""
    native, mine = MODULES[name](), rounded(MODULES[name]())
    x, g = values(6, 8).requires_grad_(), values(6, 8, seed=1)
    torch.manual_seed(0)
    y = native(x.clone())
    native_gradients = torch.autograd.grad(y, (x, *native.parameters()), g)
    torch.manual_seed(0)
    z = mine(x.clone())
    gradients = torch.autograd.grad(z, (x, *mine.parameters()), g)
    assert torch.equal(z, bf16(y))
    assert torch.equal(gradients[0], e5m2(native_gradients[0]))
    assert not torch.equal(gradients[0], native_gradients[0])
    for a, b in zip(gradients[1:], native_gradients[1:], strict=True):
        assert torch.equal(a, b)


def test_only_this_reader_s_gradient_is_rounded() -> None:
    """A residual connection hands its gradient on as it is."""
    x = values(4, 8).requires_grad_()
    h = x * 1.0
    module = rounded(nn.GELU(), lb.ElementwiseSpec(grad_input=FP8))
    (module(h) + h).sum().backward()
    y = values(4, 8).requires_grad_()
    nn.functional.gelu(y).sum().backward()
    assert torch.equal(x.grad, e5m2(y.grad) + 1)  # type: ignore[arg-type]


def test_in_place_work_after_the_module() -> None:
    model = rounded(nn.LayerNorm(8))
    x = values(4, 8).requires_grad_()
    y = model(x)
    expected = y.detach().clone().relu()
    y.relu_()
    y.sum().backward()
    assert torch.equal(y, expected)


Pair = namedtuple("Pair", "first second")


class Several(nn.Module):
    def forward(self, x: Tensor, others: list[Tensor], *, last: Tensor) -> dict[str, object]:
        index = torch.arange(3)
        return {"pair": Pair(x + 1, index), "list": [others[0] * 2, (last, None)], "text": "kept"}


def test_nested_tensors() -> None:
    inputs = [values(5, seed=i).requires_grad_() for i in range(3)]
    out = rounded(Several())(inputs[0], [inputs[1]], last=inputs[2])
    assert type(out["pair"]) is Pair
    assert torch.equal(out["pair"].first, bf16(inputs[0] + 1))
    assert torch.equal(out["pair"].second, torch.arange(3))
    assert torch.equal(out["list"][0], bf16(inputs[1] * 2))
    assert torch.equal(out["list"][1][0], bf16(inputs[2]))
    assert out["list"][1][1] is None
    assert out["text"] == "kept"
    g = values(5, seed=9)
    (out["pair"].first @ g + out["list"][0] @ g + out["list"][1][0] @ g).backward()
    assert [torch.equal(x.grad, e5m2(k * g)) for x, k in zip(inputs, (1, 2, 1), strict=True)] == [True] * 3  # type: ignore[arg-type]


def test_each_tensor_draws_its_own_bits() -> None:
    class Twice(nn.Module):
        def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
            return x, y

    module = rounded(Twice(), lb.ElementwiseSpec(output=DRAWN, grad_input=DRAWN))
    x = torch.full((256,), 0.03, requires_grad=True)
    y = torch.full((256,), 0.03, requires_grad=True)
    a, b = module(x, y)
    torch.autograd.backward((a, b), (torch.full((256,), 0.03),) * 2)
    assert len({tuple(t.tolist()) for t in (a, b, x.grad, y.grad)}) == 4  # type: ignore[union-attr]


def test_stochastic_bits_are_those_of_their_address() -> None:
    module = rounded(nn.Identity(), lb.ElementwiseSpec(output=DRAWN, grad_input=DRAWN), seed=5)
    x, g = values(40).requires_grad_(), values(40, seed=1)

    def expected(tensor: Tensor, operand: int, step: int) -> list[float]:
        stream = lb.Stream(seed=5, step=step, site=0, operand=operand)
        return [
            decode_value(encode_value(v * 16, lb.INT8, STOCHASTIC, draw(stream, i, 8)), lb.INT8) / 16
            for i, v in enumerate(tensor.tolist())
        ]

    for step in range(2):
        y = module(x)
        assert y.tolist() == expected(x, 6, step)
        (grad,) = torch.autograd.grad(y, x, g)
        assert grad.tolist() == expected(g, 7, step)
    module.eval()
    assert module(x).tolist() == module(x).tolist() == expected(x, 6, 2)


def test_half_precision_keeps_its_dtype() -> None:
    for dtype in (torch.bfloat16, torch.float16):
        y = rounded(nn.GELU(), lb.ElementwiseSpec(output=FP8))(values(9).to(dtype))
        assert y.dtype == dtype
        assert torch.equal(y, nn.functional.gelu(values(9).to(dtype)).to(torch.float8_e5m2).to(dtype))


def model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.LayerNorm(8), nn.GELU(), nn.Linear(8, 3))


def converted(spec: lb.ElementwiseSpec = ROUNDED) -> nn.Module:
    return lb.convert(model(), [lb.Rule("1", spec), lb.Rule("*", INT8)])


def test_a_rule_finds_its_own_kind() -> None:
    both = lb.convert(model(), [lb.Rule("*", INT8), lb.Rule("1", None), lb.Rule("*", ROUNDED)])
    assert [(s.path, s.numerics) for s in lb.summary(both)] == [
        ("0", str(INT8)),
        ("2", "output: bf16, grad_input: fp8_e5m2"),
        ("3", str(INT8)),
    ]
    nothing_rounded = lb.convert(model(), [lb.Rule("*", INT8)])
    assert [s.path for s in lb.summary(nothing_rounded)] == ["0", "3"]


def test_an_unused_element_wise_rule_is_refused() -> None:
    with pytest.raises(
        lb.UnusedRuleError, match="'0' matches no layer: the modules without GEMMs are '1', '2'$"
    ):
        lb.convert(model(), [lb.Rule("0", ROUNDED)])
    with pytest.raises(lb.UnusedRuleError, match="'1' is never used: rule '[*]' before it takes '1'"):
        lb.convert(model(), [lb.Rule("*", None), lb.Rule("1", ROUNDED)])
    untouched = model()
    with pytest.raises(lb.UnusedRuleError, match="'1' matches no layer: the layers are '0', '3'$"):
        lb.convert(untouched, [lb.Rule("1", INT8), lb.Rule("*", ROUNDED)])
    assert not any(m._forward_hooks for m in untouched.modules())


def test_a_spec_takes_quantizers() -> None:
    with pytest.raises(
        TypeError, match="output of an element-wise rule is a Quantizer or None, got IntFormat"
    ):
        lb.ElementwiseSpec(output=lb.INT8)  # type: ignore[arg-type]

    with pytest.raises(ValueError, match="output of an element-wise rule can't have a learned scale"):
        lb.ElementwiseSpec(output=lb.Quantizer(lb.INT8, scale=lb.LearnedScale()))


def test_a_running_scale_is_saved_and_rests_in_evaluation() -> None:
    running = lb.ElementwiseSpec(output=lb.Quantizer(lb.INT4, scale=lb.EmaScale(momentum=0.5)))
    mine, twin = rounded(nn.Identity(), running), rounded(nn.Identity(), running)
    for seed in range(2):
        mine(values(8, seed=seed))
    state = lb.emulation_state(mine)
    lb.load_emulation_state(twin, state)
    for module in (mine, twin):
        module.eval()(100 * values(8))
        module.train()
    assert torch.equal(mine(values(8, seed=2)), twin(values(8, seed=2)))
    fresh = rounded(nn.Identity(), running)
    assert not torch.equal(
        fresh(values(8, seed=2)), lb.load_emulation_state(twin, state) or twin(values(8, seed=2))
    )


def test_a_module_under_two_paths_is_rounded_once() -> None:
    shared = nn.GELU()
    twice = lb.convert(nn.Sequential(shared, shared), [lb.Rule("*", ROUNDED)])
    assert len(shared._forward_hooks) == 1
    assert lb.restore(twice)[0] is shared  # type: ignore[index]
    with pytest.raises(ValueError, match="'1' and '0' are one layer, but their rules differ"):
        lb.convert(nn.Sequential(shared, shared), [lb.Rule("0", None), lb.Rule("1", ROUNDED)])
    assert not shared._forward_hooks


def test_the_module_stays_what_it_is() -> None:
    native, mine = model(), converted()
    assert type(mine[1]) is nn.LayerNorm  # type: ignore[index]
    assert mine.state_dict().keys() == native.state_dict().keys()
    mine.load_state_dict(native.state_dict(), strict=True)
    with pytest.raises(ValueError, match="layer '1' is emulated already"):
        lb.convert(lb.convert(model(), [lb.Rule("1", ROUNDED)]), [lb.Rule("*", INT8)])


def test_restoring_leaves_the_user_s_hooks() -> None:
    mine, seen = model(), []
    mine[1].register_forward_hook(lambda m, args, y: seen.append(y))
    lb.convert(mine, [lb.Rule("1", ROUNDED), lb.Rule("*", INT8)])
    mine(values(2, 6))
    assert torch.equal(seen[0], bf16(seen[0]))  # the user's hook sees the module's rounded output
    lb.restore(mine)
    assert len(mine[1]._forward_hooks) == 1
    assert not any(m._forward_pre_hooks or m._forward_hooks_with_kwargs for m in mine.modules())
    assert torch.equal(mine(values(2, 6)), model()(values(2, 6)))


def through_a_file(module: nn.Module) -> nn.Module:
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


@pytest.mark.parametrize(
    "duplicate",
    [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m)), through_a_file],
    ids=["deep", "pickle", "file"],
)
def test_copies_and_checkpoints_go_on_with_the_same_bits(duplicate) -> None:
    mine, x = converted(lb.ElementwiseSpec(output=DRAWN)), values(5, 6)
    mine(x)
    twin = duplicate(mine)
    assert lb.random_steps(twin) == lb.random_steps(mine) == {"0": 1, "1": 1, "3": 1}
    expected = mine(x)
    assert torch.equal(twin(x), expected)
    lb.set_random_steps(twin, {"0": 1, "1": 1, "3": 1})
    assert torch.equal(twin(x), expected)
    assert not torch.equal(twin(x), expected)


# torch's compiler looks at .grad of every tensor that crosses a break of the graph and hides the warning, but not
# from a filter that turns warnings into errors.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
def test_a_compiled_model_has_the_same_bits() -> None:
    torch._dynamo.reset()
    mine, other = converted(lb.ElementwiseSpec(output=DRAWN)), converted(lb.ElementwiseSpec(output=DRAWN))
    fast = torch.compile(other, backend="eager")
    for step in range(2):
        assert torch.equal(fast(values(5, 6, seed=step)), mine(values(5, 6, seed=step)))
    assert lb.random_steps(other) == lb.random_steps(mine)


def test_a_fused_transformer_block_does_not_pass_the_rounding_by() -> None:
    block = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True).eval()
    x = values(2, 3, 8)
    with torch.no_grad():
        y = lb.convert(block, [lb.Rule("norm2", lb.ElementwiseSpec(output=FP8))])(x)
    assert torch.equal(y, e5m2(y))


def test_a_nan_names_the_module() -> None:
    with pytest.raises(lb.NotANumberError, match="module '1', output: 8 of 8"):
        lb.convert(model(), [lb.Rule("1", ROUNDED)])(torch.full((1, 6), torch.nan))


def test_rounding_is_put_on_record_beside_the_module_s_own_work() -> None:
    spec = lb.ElementwiseSpec(output=DRAWN, grad_input=lb.Quantizer(lb.INT8))
    mine = lb.convert(model(), [lb.Rule("1", spec), lb.Rule("*", INT8)])
    targets = torch.zeros(5, dtype=torch.int64)
    trace = trace_training_step(mine, values(5, 6), targets, torch.optim.SGD(mine.parameters(), lr=0.1))
    n = 5 * 8
    assert [
        (e.kind, e.elements, e.read_bytes, e.write_bytes, e.random_bits)
        for e in trace.vectors
        if e.layer == "1"
    ] == [
        ("batch_norm", n, 8 * n, n, 8 * n),  # the cast is part of it
        ("batch_norm", n, 16 * n, 4 * n, 0),
        ("scale_reduction", n, 4 * n, 0, 0),
        ("quantize", n, 4 * n, n, 0),
    ]


def test_clipping_and_underflow_are_counted() -> None:
    quantizer = lb.Quantizer(lb.INT4, scale=lb.FixedScale(0.5))
    module = rounded(nn.Identity(), lb.ElementwiseSpec(output=quantizer, grad_input=quantizer))
    x = torch.tensor([0.0, 0.1, -0.2, 1.0, 3.6, 4.0, -9.0], requires_grad=True)
    with lb.record() as trace:
        module(x).backward(torch.tensor([0.0, 0.0, 0.25, 0.3, 100.0, 1.0, 1.0]))
    assert [(e.kind, e.clipped, e.underflowed) for e in trace.vectors] == [
        ("quantize", 2, 2),
        ("quantize", 1, 1),
    ]
