"""The emulated layers: torch's geometry, the traced layer's name, compiled models, and training."""

import pytest
import torch
from torch import nn

import lowbit_sim as lb
from tests.nn.models import INT8, STOCHASTIC, assert_same, converted, convnet, images, labels, train

EXACT = [lb.Rule("*", lb.OpSpec.uniform(lb.INT8, scale=lb.FixedScale(1.0)))]


def integer_layer(layer: nn.Linear | nn.Conv2d) -> nn.Module:
    """A layer with integer parameters, whose emulation with unit scales is exact."""
    generator = torch.Generator().manual_seed(0)
    for parameter in layer.parameters():
        parameter.data = torch.randint(-9, 10, parameter.shape, generator=generator).float()
    return layer


def integer_images(*shape: int) -> torch.Tensor:
    return torch.randint(-9, 10, shape, generator=torch.Generator().manual_seed(1)).float()


def results(layer: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    """Output and all gradients, float64."""
    x = x.clone().requires_grad_()
    y = layer(x)
    parameters = list(layer.parameters())
    g = integer_images(*y.shape).to(y.dtype)
    return [t.detach().double() for t in (y, *torch.autograd.grad(y, (x, *parameters), g))]


CONVOLUTIONS = {
    "plain": {},
    "no bias": {"bias": False},
    "geometry": {"stride": (2, 1), "dilation": (1, 2), "padding": (2, 1), "groups": 2},
    "depthwise": {"groups": 4, "padding": 1},
    "same": {"padding": "same", "dilation": (2, 1)},
    "valid": {"padding": "valid", "stride": 2},
    "reflect": {"padding": (1, 2), "padding_mode": "reflect"},
    "circular": {"padding": (2, 1), "padding_mode": "circular", "stride": 2},
    "replicate": {"padding": 1, "padding_mode": "replicate", "groups": 2},
    "reflect same": {"padding": "same", "padding_mode": "reflect"},
}


@pytest.mark.parametrize("options", CONVOLUTIONS.values(), ids=CONVOLUTIONS)
@pytest.mark.parametrize("kernel", [(3, 3), (2, 4)], ids=str)
@pytest.mark.filterwarnings("ignore:Using padding='same'")
def test_every_option_of_a_convolution(options, kernel) -> None:
    layer, x = integer_layer(nn.Conv2d(4, 8, kernel, **options)), integer_images(2, 4, 7, 8)
    expected = results(layer.double(), x.double())
    for mine, theirs in zip(results(lb.convert(layer.float(), EXACT), x), expected, strict=True):
        assert torch.equal(mine, theirs.round())


@pytest.mark.parametrize("bias", [True, False])
def test_options_of_a_linear_layer(bias) -> None:
    layer, x = integer_layer(nn.Linear(6, 5, bias=bias)), integer_images(2, 3, 6)
    expected = results(layer.double(), x.double())
    for mine, theirs in zip(results(lb.convert(layer.float(), EXACT), x), expected, strict=True):
        assert torch.equal(mine, theirs)


def test_events_carry_the_layer_s_path() -> None:
    model = lb.convert(nn.Sequential(convnet()), [lb.Rule("*", INT8)])
    with lb.record() as trace:
        model(images()).sum().backward()
    # The images need no gradient, so the first layer has no grad_input GEMM.
    assert [(e.layer, e.role) for e in trace.gemms] == [
        ("0.0", "output"),
        ("0.2", "output"),
        ("0.5", "output"),
        ("0.5", "grad_input"),
        ("0.5", "grad_weight"),
        ("0.2", "grad_input"),
        ("0.2", "grad_weight"),
        ("0.0", "grad_weight"),
    ]


def test_errors_carry_the_layer_s_path() -> None:
    model = converted(INT8)
    with pytest.raises(lb.NotANumberError, match="layer '0', input of output"):
        model(torch.full((1, 3, 8, 8), float("nan")))
    model.get_submodule("5").weight.data.fill_(float("nan"))
    with pytest.raises(lb.NotANumberError, match="layer '5', weight of output"):
        model(images())


def test_a_frozen_weight_has_no_gradient_gemm() -> None:
    model = converted(INT8)
    model.get_submodule("2").weight.requires_grad_(False)
    with lb.record() as trace:
        model(images()).sum().backward()
    assert [e.role for e in trace.gemms if e.layer == "2"] == ["output", "grad_input"]


# torch's compiler looks at .grad of every tensor that crosses a break of the graph and hides the warning, but not
# from a filter that turns warnings into errors.
IN_THE_COMPILER = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")


def compiled(model: nn.Module) -> nn.Module:
    torch._dynamo.reset()
    return torch.compile(model, backend="eager")  # type: ignore[return-value]


@IN_THE_COMPILER
def test_a_compiled_model_has_the_same_bits() -> None:
    plain, fast = converted(), converted()
    assert train(compiled(fast), range(3)) == train(plain, range(3))
    assert_same(fast, plain)
    assert lb.random_steps(fast) == lb.random_steps(plain) == {"0": 3, "2": 3, "5": 3}


@IN_THE_COMPILER
def test_a_compiled_model_still_records_and_checks() -> None:
    model = compiled(converted(INT8))
    with lb.record() as trace:
        model(images()).sum().backward()
    assert len(trace.gemms) == 8
    with pytest.raises(lb.NotANumberError, match="layer '0', input of output"):
        model(torch.full((8, 3, 8, 8), float("nan")))


NARROW = lb.Quantizer(lb.INT8)
ASYMMETRIC = lb.Quantizer(lb.UINT8, scale=lb.MinMaxScale())
INT9 = lb.Quantizer(lb.IntFormat(bits=9))
AUTOCAST_SPECS = {
    "int8": INT8,
    "int9": lb.OpSpec(**dict.fromkeys(("output", "grad_input", "grad_weight"), lb.GemmSpec(INT9, INT9))),
    "asymmetric": lb.OpSpec(
        output=lb.GemmSpec(ASYMMETRIC, NARROW),
        grad_input=lb.GemmSpec(NARROW, NARROW),
        grad_weight=lb.GemmSpec(NARROW, ASYMMETRIC),
    ),
    "native output": lb.OpSpec(output=None, grad_input=INT8.grad_input, grad_weight=INT8.grad_weight),
    "native gradients": lb.OpSpec(output=INT8.output, grad_input=None, grad_weight=None),
}


@pytest.mark.parametrize("name", AUTOCAST_SPECS)
def test_autocast_leaves_the_arithmetic_alone(name) -> None:
    """Autocast would turn the float products that proofs rely on into bfloat16 ones."""
    results = []
    for enabled in (False, True):
        model = lb.convert(
            nn.Sequential(nn.Linear(40, 8), nn.ReLU(), nn.Linear(8, 3)), [lb.Rule("*", AUTOCAST_SPECS[name])]
        )
        for p in model.parameters():
            nn.init.uniform_(p, -1, 1, generator=torch.Generator().manual_seed(p.numel()))
        x = torch.randn(6, 40, generator=torch.Generator().manual_seed(0)).requires_grad_()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            y = model(x)
            y.square().sum().backward()
        results.append([y, x.grad, *(p.grad for p in model.parameters())])
    for plain, autocast in zip(*results, strict=True):
        assert torch.equal(plain, autocast)


@pytest.mark.parametrize("spec", [INT8, STOCHASTIC], ids=["int8", "int4 with stochastic gradients"])
def test_training_fits_random_samples(spec) -> None:
    model = converted(spec)
    x, y = images(seed=1, n=32), labels(32)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    losses = []
    for _ in range(30):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] > 1.2
    assert losses[-1] < (0.05 if spec is INT8 else 0.3)
