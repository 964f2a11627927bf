"""A learned clip as a module, in front of layers and in front of emulated ones."""

import copy

import pytest
import torch
from torch import Tensor, nn

import lowbit_sim as lb
from lowbit_sim.nn.learned_clip import LearnedClip, attach_clip, attached_clip, learned_clips
from lowbit_sim.ops.capture import capture
from lowbit_sim.quant.pact import ClipGrid, clip_step, pact
from lowbit_sim.quant.pact_reference import clip_element
from tests.ops.captured import assert_definition
from tests.ops.cases import reals

INT8 = lb.OpSpec.uniform(lb.INT8)
FORWARD = lb.OpSpec(output=INT8.output, grad_input=None, grad_weight=None)
LEARNED = lb.GemmSpec(lb.Quantizer(lb.INT4, scale=lb.LearnedScale()), lb.Quantizer(lb.INT4))
LAYERS = {
    "linear": (lambda: nn.Linear(6, 5), (4, 6)),
    "linear on three axes": (lambda: nn.Linear(6, 5), (2, 3, 6)),
    "conv": (lambda: nn.Conv2d(3, 4, 3), (2, 3, 6, 6)),
    "conv without a batch": (lambda: nn.Conv1d(3, 4, 3), (3, 6)),
}


def layer(
    kind: str = "linear",
    spec: lb.OpSpec | None = None,
    *,
    bits: int = 4,
    two_sided: bool = False,
    alpha: float = 1.5,
) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    build, shape = LAYERS[kind]
    made = lb.convert(build(), [lb.Rule("*", spec)] if spec else [])
    attach_clip(made, LearnedClip(ClipGrid(bits=bits, two_sided=two_sided), alpha=alpha, layer="fc"))
    x = reals(1, *shape)
    return made, (x if two_sided else x.abs()).requires_grad_()


def test_alone_it_is_the_function():
    clip, x = LearnedClip(ClipGrid(bits=3), alpha=2.0), reals(0, 50)
    assert torch.equal(clip(x), pact(x, torch.tensor([2.0]), ClipGrid(bits=3)))
    assert str(clip) == "LearnedClip(3 bits, one-sided, cg_pact)"
    half = clip(x.half())
    assert half.dtype == torch.float16


@pytest.mark.parametrize("two_sided", [False, True], ids=["one-sided", "two-sided"])
@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("kind", LAYERS)
def test_the_gemms_multiply_the_clips_codes(kind, bits, two_sided):
    made, x = layer(kind, INT8, bits=bits, two_sided=two_sided)
    grid = ClipGrid(bits=bits, two_sided=two_sided)
    with capture() as kept:
        made(x).square().sum().backward()
    output, _, grad_weight = kept.gemms
    elements = [clip_element(float(v), 1.5, grid).code for v in x.detach().flatten()]
    codes = torch.tensor(elements, dtype=torch.float32).reshape(x.shape)
    if kind.startswith("linear"):
        assert torch.equal(output.lhs[0].float(), codes.reshape(-1, 6))
        assert torch.equal(grad_weight.rhs[0].float(), codes.reshape(-1, 6))
    else:
        assert set(output.lhs[0].unique().tolist()) <= set(codes.unique().int().tolist())
        assert int(output.lhs[0].abs().max()) == int(codes.abs().max())
    [scale] = output.lhs_scale
    assert torch.equal(scale.reshape(1), clip_step(torch.tensor([1.5]), grid))
    assert assert_definition(kept) == 3


@pytest.mark.parametrize("kind", LAYERS)
def test_gradients_are_those_of_the_function_before_a_native_layer(kind):
    emulated, x = layer(kind, FORWARD, bits=3)
    native, _ = layer(kind, bits=3)
    weight, bias = native.weight.detach(), native.bias.detach()
    alpha, other = torch.tensor([1.5], requires_grad=True), x.detach().clone().requires_grad_()
    plain = LAYERS[kind][0]()
    expected = torch.func.functional_call(
        plain, {"weight": weight, "bias": bias}, (pact(other, alpha, ClipGrid(bits=3)),)
    )
    expected.square().sum().backward()
    y = native(x)
    y.square().sum().backward()
    assert torch.equal(y, expected)
    assert torch.equal(x.grad, other.grad)
    assert torch.equal(attached_clip(native).alpha.grad, alpha.grad)
    z = emulated(x.detach())
    z.square().sum().backward()
    # The weight is rounded to INT8 there.
    torch.testing.assert_close(attached_clip(emulated).alpha.grad, alpha.grad, rtol=0.1, atol=0.1)


def test_training_moves_the_level_from_either_side():
    """Few bits and a level far beyond the inputs: CG-PACT brings it down, PACT has no gradient there."""
    levels = {}
    for gradient in ("pact", "cg_pact"):
        torch.manual_seed(0)
        made = nn.Linear(8, 1)
        attach_clip(made, LearnedClip(ClipGrid(bits=2), alpha=8.0, gradient=gradient))
        x = reals(3, 64, 8).abs()
        target = x.sum(1, keepdim=True)
        optimizer = torch.optim.SGD(made.parameters(), lr=0.01)
        for _ in range(100):
            optimizer.zero_grad()
            (made(x) - target).square().mean().backward()
            optimizer.step()
        levels[gradient] = float(attached_clip(made).alpha.detach())
    assert levels["pact"] == 8.0
    assert levels["cg_pact"] < 7.5


def test_a_negative_input_of_a_one_sided_clip_is_named():
    made, _ = layer()
    with pytest.raises(ValueError, match=r"layer 'fc' has negative inputs.*two_sided = \[\"fc\"\]"):
        made(reals(1, 4, 6))
    made, x = layer()
    made(x)
    made(reals(1, 4, 6))  # asked at the first pass alone


def test_inputs_by_name_are_clipped_too():
    made, x = layer()
    assert torch.equal(made(input=x), made(x))


def test_copies_and_state_dicts_are_independent():
    made, x = layer("linear", INT8)
    twin = copy.deepcopy(made)
    with torch.no_grad():
        attached_clip(twin).alpha.fill_(0.5)
    before = made(x)
    assert not torch.equal(twin(x), before)
    assert torch.equal(made(x), before)
    twin.load_state_dict(made.state_dict())
    assert torch.equal(twin(x), before)
    assert list(learned_clips(twin)) == ["input_clip"]
    assert "input_clip.alpha" in made.state_dict()


def test_a_restored_layer_goes_on_with_the_values():
    made, x = layer("linear", FORWARD)
    y = made(x).detach()
    native = lb.restore(made)
    assert type(native) is nn.Linear
    torch.testing.assert_close(native(x).detach(), y, rtol=0, atol=0.05)
    assert not torch.allclose(native(x), torch.nn.functional.linear(x, native.weight, native.bias))


@pytest.mark.parametrize("spec", [INT8, None], ids=["emulated", "native"])
def test_the_work_is_on_record_and_a_quantiser_behind_bills_the_conversion(spec):
    made, x = layer("linear", spec)
    with lb.record() as trace:
        made(x).sum().backward()
    forward, backward = [e for e in trace.vectors if e.layer == "fc"]
    size = 24 * 4
    assert (forward.kept_bytes, forward.keeps) == (size, "operand")
    assert (forward.elements, forward.read_bytes) == ((24, size) if spec is None else (0, 0))
    assert (backward.elements, backward.read_bytes, backward.write_bytes) == (24, 2 * size, size + 4)
    codes = [e for e in trace.vectors if e.kind == "quantize" and e.write_bytes == 24 * 4 // 8]
    assert len(codes) == (0 if spec is None else 1)


def test_plain_pact_keeps_two_bits_an_element():
    clip = LearnedClip(ClipGrid(bits=4), gradient="pact")
    with lb.record() as trace:
        clip(reals(0, 30).requires_grad_()).sum().backward()
    forward, backward = trace.vectors
    assert (forward.kept_bytes, forward.keeps) == (8, "marks")
    assert backward.read_bytes == 30 * 4 + 8


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: LearnedClip(ClipGrid(bits=4), alpha=0.0), "positive finite number, got 0.0"),
        (lambda: LearnedClip(ClipGrid(bits=4), alpha=float("inf")), "positive finite number, got inf"),
        (lambda: LearnedClip(ClipGrid(bits=4), gradient="lsq"), "unknown gradient of alpha 'lsq'"),
        (
            lambda: attach_clip(layer()[0], LearnedClip(ClipGrid(bits=4), layer="fc")),
            "layer 'fc' is clipped already",
        ),
        (
            lambda: layer("linear", lb.OpSpec(output=LEARNED, grad_input=None, grad_weight=None)),
            "scale of its input is learned already",
        ),
    ],
)
def test_what_can_not_be_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_autocast_and_activation_checkpointing():
    from torch.utils.checkpoint import checkpoint

    made, x = layer()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert made(x).dtype == torch.bfloat16
    plain = made(x)
    assert torch.equal(checkpoint(made, x, use_reentrant=False), plain)
