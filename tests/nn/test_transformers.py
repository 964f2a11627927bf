"""Hugging Face models from small configurations: converted without edits, trained, saved, every GEMM checked."""

import copy
import io
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import lowbit_sim as lb
from lowbit_sim.nn.registry import multiplies
from lowbit_sim.ops.capture import capture
from tests.nn.models import STOCHASTIC, assert_same
from tests.ops.captured import assert_definition

transformers = pytest.importorskip("transformers")
pytestmark = [pytest.mark.oracle, pytest.mark.filterwarnings("ignore::DeprecationWarning")]

INT8 = lb.Quantizer(lb.INT8)
GRADIENT = lb.Quantizer(lb.INT4, rounding=lb.Rounding("stochastic", random_bits=8))
SPEC = lb.OpSpec(
    output=lb.GemmSpec(INT8, INT8),
    grad_input=lb.GemmSpec(GRADIENT, INT8),
    grad_weight=lb.GemmSpec(GRADIENT, INT8),
)
RULES = [lb.Rule("*", SPEC), lb.Rule("*", lb.FunctionalSpec(SPEC))]
TOKENS = torch.randint(0, 30, (2, 6), generator=torch.Generator().manual_seed(0))
NAMES = ("bert", "bert eager", "gpt2", "vit")


def build(name: str) -> nn.Module:
    """A model of two layers, 8 wide, with reproducible parameters and without dropout."""
    torch.manual_seed(0)
    small: dict[str, Any] = {
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "hidden_size": 8,
        "intermediate_size": 16,
    }
    quiet: dict[str, Any] = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    match name:
        case "gpt2":
            config = transformers.GPT2Config(
                vocab_size=30, n_embd=8, n_layer=2, n_head=2, n_positions=8, bos_token_id=0, eos_token_id=0,
                resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
            )  # fmt: skip
            return transformers.GPT2LMHeadModel(config)
        case "vit":
            config = transformers.ViTConfig(image_size=8, patch_size=4, num_labels=3, **small, **quiet)
            return transformers.ViTForImageClassification(config)
        case _:
            config = transformers.BertConfig(vocab_size=30, max_position_embeddings=8, **small, **quiet)
            config._attn_implementation = "eager" if "eager" in name else "sdpa"
            return transformers.BertForMaskedLM(config)


def loss_of(model: nn.Module) -> torch.Tensor:
    if isinstance(model, transformers.ViTForImageClassification):
        images = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))
        return model(pixel_values=images, labels=torch.tensor([0, 2])).loss
    mask = torch.ones_like(TOKENS)
    mask[1, 4:] = 0
    return model(input_ids=TOKENS, labels=TOKENS, attention_mask=mask).loss


def train(model: nn.Module, steps: int) -> list[float]:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3)
    losses = []
    for _ in range(steps):
        loss = loss_of(model)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("name", NAMES)
def test_training_with_few_bits_lowers_the_loss(name) -> None:
    model = lb.convert(build(name), RULES)
    losses = train(model, 4)
    assert all(map(math.isfinite, losses))
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("name", NAMES)
def test_every_gemm_is_emulated_and_the_definition_s(name) -> None:
    rules = [lb.Rule("*", STOCHASTIC), lb.Rule("*", lb.FunctionalSpec(STOCHASTIC))]
    model = lb.convert(build(name), rules, seed=1)
    with capture() as kept:
        loss_of(model).backward()
    assert assert_definition(kept) >= len(kept.gemms)
    ran = {g.layer.split("#")[0] for g in kept.gemms}
    layers = {path for path, m in model.named_modules() if multiplies(m) and not isinstance(m, nn.Embedding)}
    # What a masked language model has beside its loss is not run: a pooler, for one.
    assert layers <= ran
    attentions = {g.layer for g in kept.gemms if "#" in g.layer and "embeddings" not in g.layer}
    assert len(attentions) == 2 * 2, "two products in each of two attentions"


@pytest.mark.parametrize("name", NAMES)
def test_native_numerics_change_nothing(name) -> None:
    native = lb.OpSpec(output=None, grad_input=None, grad_weight=None)
    model, plain = (
        lb.convert(build(name), [lb.Rule("*", native), lb.Rule("*", lb.FunctionalSpec(native))]),
        build(name),
    )
    for mine, theirs in zip(train(model, 2), train(plain, 2), strict=True):
        assert mine == pytest.approx(theirs, rel=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_state_ties_and_the_way_back(name) -> None:
    native = build(name)
    model = lb.convert(copy.deepcopy(native), RULES)
    assert list(model.state_dict()) == list(native.state_dict())
    assert len(list(model.parameters())) == len(list(native.parameters())), "ties stay ties"
    assert isinstance(model, type(native))
    train(model, 1)
    other = lb.convert(build(name), RULES)
    other.load_state_dict(model.state_dict())
    assert_same(other, model)
    back = lb.restore(model)
    assert [type(m) for m in back.modules()] == [type(m) for m in native.modules()]
    assert_same(back, other)


@pytest.mark.parametrize("name", NAMES)
def test_saving_and_loading(name, tmp_path) -> None:
    model = lb.convert(build(name), RULES)
    train(model, 1)
    buffer = io.BytesIO()
    torch.save(model, buffer)
    buffer.seek(0)
    loaded = torch.load(buffer, weights_only=False)
    assert train(loaded, 2) == train(model, 2)
    assert_same(loaded, model)
    lb.restore(model).save_pretrained(tmp_path)
    assert_same(type(build(name)).from_pretrained(tmp_path), model)


def test_attention_only() -> None:
    """The rule of the documentation: the products of the attentions, all else native."""
    model = lb.convert(build("bert"), [lb.Rule("*.attention.self", lb.FunctionalSpec(SPEC))])
    with lb.record() as trace:
        loss_of(model)
    assert [e.layer for e in trace.gemms] == [
        f"bert.encoder.layer.{i}.attention.self#0.{product}"
        for i in (0, 1)
        for product in ("scores", "values")
    ]


@pytest.mark.filterwarnings("ignore:`gradient_checkpointing_enable` is deprecated")
def test_gradient_checkpointing_repeats_the_same_bits() -> None:
    gradients = []
    for checkpointing in (False, True):
        model = lb.convert(build("bert").train(), RULES, seed=2)
        if checkpointing:
            model.gradient_checkpointing_enable()
        loss_of(model).backward()
        gradients.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    assert all(torch.equal(g, gradients[1][name]) for name, g in gradients[0].items())


def test_generation_runs_on_emulated_layers() -> None:
    model = lb.convert(build("gpt2"), RULES).eval()
    tokens = model.generate(TOKENS[:1, :2], max_new_tokens=3, do_sample=False, pad_token_id=0)
    assert tokens.shape[1] <= 5
    with torch.no_grad(), lb.record() as trace:
        model(input_ids=TOKENS)
    assert trace.gemms
    assert all(e.backend != "native" for e in trace.gemms)


def test_the_documentation_s_example() -> None:
    page = (Path(__file__).parents[2] / "docs/transformers.md").read_text(encoding="utf-8")
    names: dict[str, Any] = {}
    exec(page.split("```python\n")[1].split("```")[0], names)
    with lb.record() as trace:
        names["model"](input_ids=TOKENS)
    assert all(e.backend != "native" for e in trace.gemms)
    assert sum("#" in e.layer for e in trace.gemms) == 4
