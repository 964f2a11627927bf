"""Emulated multi-head attention: torch's options and masks; encoders that call their layers in evaluation mode."""

import copy

import pytest
import torch
from torch import nn

import lowbit_sim as lb
from lowbit_sim.nn import attention
from lowbit_sim.ops.capture import capture
from tests.nn.models import INT4, INT8, STOCHASTIC
from tests.ops.captured import assert_definition
from tests.ops.cases import NATIVE, reals

WIDE = lb.OpSpec.uniform(lb.INT16, mac=lb.MacUnit(accumulator_bits=48))
SPECS = pytest.mark.parametrize(
    ("spec", "tolerance"), [(NATIVE, 1e-5), (WIDE, 2e-3)], ids=["native", "int16"]
)
pytestmark = pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")

OPTIONS = {
    "plain": {},
    "batch first": {"batch_first": True},
    "no bias": {"bias": False},
    "other widths": {"kdim": 3, "vdim": 5},
    "added keys": {"add_bias_kv": True},
    "zero key": {"add_zero_attn": True},
    "everything": {"kdim": 3, "vdim": 5, "add_bias_kv": True, "add_zero_attn": True, "batch_first": True},
}


def pairs(spec: lb.OpSpec | lb.FunctionalSpec, **options) -> tuple[nn.Module, nn.Module]:
    native = nn.MultiheadAttention(8, 2, **options)
    for i, p in enumerate(native.parameters()):
        p.data = 0.5 * reals(i, *p.shape)
    twin = lb.convert(copy.deepcopy(native), [lb.Rule("*", spec)])
    assert type(twin) is attention.MultiheadAttention
    assert list(twin.state_dict()) == list(native.state_dict())
    return twin, native


def inputs(layer: nn.MultiheadAttention, *batch: int) -> list[torch.Tensor]:
    """Query of 5 positions, key and value of 7."""
    sizes = ((5, 8), (7, layer.kdim), (7, layer.vdim))
    found = [reals(10 + i, length, *batch, width) for i, (length, width) in enumerate(sizes)]
    return [x.transpose(0, 1) for x in found] if layer.batch_first and batch else found


def assert_alike(layers, tolerance: float, *batch: int, **arguments) -> None:
    """The same outputs, weights and gradients."""
    found = []
    for layer in layers:
        y, weights = layer(*inputs(layer, *batch), **arguments)
        outputs = [y] if weights is None else [y, weights]
        total = sum((o * reals(i, *o.shape)).sum() for i, o in enumerate(outputs))
        found.append([*outputs, *torch.autograd.grad(total, tuple(layer.parameters()))])
    for mine, theirs in zip(*found, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=tolerance, atol=tolerance)


@SPECS
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_every_option(options, spec, tolerance) -> None:
    layers = pairs(spec, **options)
    assert_alike(layers, tolerance, 3)
    assert_alike(layers, tolerance)
    assert_alike(layers, tolerance, 3, need_weights=False)
    assert_alike(layers, tolerance, 3, average_attn_weights=False)


PADDING = torch.tensor([[False] * 7, [False] * 5 + [True] * 2, [False, True] * 3 + [False]])
MASKS = {
    "boolean": {"attn_mask": torch.ones(5, 7, dtype=torch.bool).triu(3)},
    "float": {"attn_mask": reals(3, 5, 7)},
    "each head": {"attn_mask": reals(3, 6, 5, 7)},
    "padding": {"key_padding_mask": PADDING},
    "float padding": {"key_padding_mask": reals(4, 3, 7)},
    "both": {"attn_mask": reals(3, 6, 5, 7), "key_padding_mask": PADDING.float() * -3},
    "hint": {
        "attn_mask": torch.ones(5, 7, dtype=torch.bool).triu(1),
        "is_causal": True,
    },
}


@pytest.mark.parametrize("masks", MASKS.values(), ids=MASKS)
@pytest.mark.parametrize(
    "options", [{}, {"add_bias_kv": True, "add_zero_attn": True}], ids=["plain", "added"]
)
def test_masks(masks, options) -> None:
    assert_alike(pairs(NATIVE, **options), 1e-5, 3, **masks)


def test_a_padding_mask_without_a_batch() -> None:
    assert_alike(pairs(NATIVE), 1e-5, key_padding_mask=PADDING[1])


def test_dropout_is_for_training() -> None:
    twin, native = pairs(NATIVE, dropout=0.5)
    x = reals(0, 5, 3, 8)
    assert not torch.allclose(twin(x, x, x)[0], native.eval()(x, x, x)[0])
    torch.testing.assert_close(twin.eval()(x, x, x)[0], native(x, x, x)[0])


def test_every_gemm_is_the_definition_s_and_has_a_name() -> None:
    layer, _ = pairs(lb.FunctionalSpec(INT8, lb.AttentionSpec(scores=INT4, values=STOCHASTIC)))
    x = reals(0, 3, 2, 8).requires_grad_()
    with capture() as kept:
        layer(x, x, x)[0].square().sum().backward()
    names = {"query", "key", "value", "attention.scores", "attention.values", "out_proj"}
    assert {g.layer for g in kept.gemms} == {f"#{name}" for name in names}
    assert len(kept.gemms) == 18
    assert assert_definition(kept) == 3 * (4 + 2 * 4)
    used = {g.layer: g.spec for g in kept.gemms if g.role == "output"}
    assert used["#attention.scores"] == INT4.output
    assert used["#attention.values"] == STOCHASTIC.output
    assert used["#query"] == used["#out_proj"] == INT8.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"is_causal": True}, "a hint about attn_mask"),
        ({"attn_mask": torch.zeros(7, 5)}, r"attn_mask \[7, 5\] must be \[5, 7\] or \[6, 5, 7\]"),
        ({"key_padding_mask": torch.zeros(7, 3)}, r"key_padding_mask \[7, 3\] must be \[3, 7\]"),
    ],
    ids=["hint", "mask", "padding"],
)
def test_bad_masks(arguments, message) -> None:
    layer, _ = pairs(NATIVE)
    with pytest.raises(ValueError, match=message):
        layer(*inputs(layer, 3), **arguments)


def test_an_integer_mask_is_refused() -> None:
    layer, _ = pairs(NATIVE)
    with pytest.raises(TypeError, match="boolean or floating point, got torch.int64"):
        layer(*inputs(layer, 3), attn_mask=torch.zeros(5, 7, dtype=torch.int64))


def encoder() -> nn.TransformerEncoder:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
    return nn.TransformerEncoder(layer, 2)


@pytest.mark.parametrize("padding", [None, PADDING[:2]], ids=["whole", "padded"])
def test_an_encoder_calls_its_layers_in_evaluation_mode(padding) -> None:
    native, x = encoder().eval(), reals(0, 2, 7, 8)
    model = lb.convert(copy.deepcopy(native), [lb.Rule("*", NATIVE)])
    with torch.no_grad(), lb.record() as trace:
        found, expected = model(x, src_key_padding_mask=padding), native(x, src_key_padding_mask=padding)
    kept = slice(None) if padding is None else ~padding
    torch.testing.assert_close(found[kept], expected[kept], rtol=1e-5, atol=1e-5)
    assert len({e.layer for e in trace.gemms}) == 2 * 8
    with torch.no_grad():
        training = model.train()(x, src_key_padding_mask=padding)
    assert torch.equal(training, found), "dropout is 0: the mode must not matter"


def test_one_emulated_layer_in_a_lone_encoder_layer_is_called() -> None:
    model = lb.convert(encoder().layers[0].eval(), [lb.Rule("linear1", INT8)])
    with torch.no_grad(), lb.record() as trace:
        model(reals(0, 2, 7, 8))
    assert [e.layer for e in trace.gemms] == ["linear1"]


def test_the_way_back() -> None:
    native = encoder()
    model = lb.restore(lb.convert(copy.deepcopy(native), [lb.Rule("*", INT8)]))
    assert [type(m) for m in model.modules()] == [type(m) for m in native.modules()]
    x = reals(0, 2, 7, 8)
    assert torch.equal(model(x), native(x))


def test_untouched_encoders_keep_their_fused_kernel() -> None:
    model = nn.Sequential(encoder(), nn.Linear(8, 4))
    lb.convert(model, [lb.Rule("1", INT8)])
    assert type(model[0]) is nn.TransformerEncoder


def test_other_encoders_are_refused() -> None:
    class Mine(nn.TransformerEncoderLayer):
        pass

    with pytest.raises(lb.UnsupportedModuleError, match="'0' is a Mine, a subclass of torch's"):
        lb.convert(nn.Sequential(Mine(8, 2, 16)), [lb.Rule("*", INT8)])


def test_a_projection_is_no_layer_of_its_own() -> None:
    with pytest.raises(lb.UnusedRuleError, match="the layers are 'self_attn', 'linear1', 'linear2'"):
        lb.convert(encoder().layers[0], [lb.Rule("self_attn.out_proj", INT8)])
    model = lb.convert(encoder().layers[0], [lb.Rule("*", INT8)])
    from lowbit_sim.nn.convert import summary

    assert [s.path for s in summary(model)] == ["self_attn", "linear1", "linear2"]


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_a_whole_transformer(mode) -> None:
    """Products of all modules as well: the encoders are twins then, and still call their layers."""
    torch.manual_seed(0)
    native = nn.Transformer(8, 2, 1, 1, 16, dropout=0.0, batch_first=True)
    getattr(native, mode)()
    rules = [lb.Rule("*", NATIVE), lb.Rule("*", lb.FunctionalSpec(NATIVE))]
    model = lb.convert(copy.deepcopy(native), rules)
    given = reals(0, 2, 7, 8), reals(1, 2, 5, 8)
    with torch.no_grad(), lb.record() as trace:
        masks = {"src_key_padding_mask": PADDING[:2], "memory_key_padding_mask": PADDING[:2]}
        found, expected = model(*given, **masks), native(*given, **masks)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert len(trace.gemms) == 3 * 6 + 4


def test_a_training_step_is_traced() -> None:
    class Classifier(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding, self.encoder, self.head = nn.Embedding(9, 8), encoder(), nn.Linear(8, 3)

        def forward(self, tokens: torch.Tensor) -> torch.Tensor:
            return self.head(self.encoder(self.embedding(tokens)).mean(1))

    model = lb.convert(Classifier(), [lb.Rule("*", INT8)])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    trace = lb.trace_training_step(model, torch.arange(6).reshape(2, 3), torch.tensor([0, 2]), optimizer)
    names = {e.layer for e in trace.gemms}
    assert "encoder.layers.1.self_attn#attention.scores" in names
    assert {"embedding", "head", "encoder.layers.0.linear1"} <= names
    assert {e.kind for e in trace.vectors} >= {"embedding", "batch_norm", "activation", "optimizer_update"}
