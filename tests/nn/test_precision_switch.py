import copy

import pytest
import torch
from torch import nn

import lowbit_sim as lb
from lowbit_sim.arith.spec import OpSpec
from lowbit_sim.nn.dorefa_grid import Precision, on_grid
from lowbit_sim.nn.precision_switch import (
    SwitchedWeight,
    add_switches,
    block_of,
    chosen_layers,
    inner_layers,
    is_prepared,
    set_precision,
    switches,
)
from lowbit_sim.nn.weight_preprocessing import DoReFaWeight
from lowbit_sim.ops.capture import capture

W2A2 = Precision(weight_bits=2, activation_bits=2)
LEARNED = lb.Quantizer(lb.INT8, scale=lb.LearnedScale())
FORWARD = OpSpec(output=OpSpec.uniform(lb.INT8).output, grad_input=None, grad_weight=None)


def net(seed: int = 0) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(4, 6, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(6, 4, 1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(64, 3),
        )


def images(seed: int = 0) -> torch.Tensor:
    return torch.randn(5, 1, 4, 4, generator=torch.Generator().manual_seed(seed))


def emulated(spec: OpSpec = FORWARD) -> nn.Module:
    return lb.convert(net(), [lb.Rule("*", spec)])


def codes(model: nn.Module, layer: str) -> tuple[torch.Tensor, torch.Tensor]:
    """The integers that a layer's forward GEMM multiplies."""
    with capture() as kept:
        model(images())
    [gemm] = [g for g in kept.gemms if g.layer == layer and g.role == "output"]
    return gemm.lhs[0], gemm.rhs[0]


def test_the_first_and_the_last_layer_stay_unless_named():
    assert inner_layers(net()) == ["2", "4"]
    assert chosen_layers(net(), ["7", "2"]) == ["2", "7"]
    assert add_switches(net()) == ["2", "4"]
    with pytest.raises(ValueError, match="first and last layer stay in full precision, and it has only 0, 2"):
        inner_layers(nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2)))
    with pytest.raises(ValueError, match="unknown layer to quantise 'conv': known are 0, 2, 4, 7"):
        add_switches(net(), ["conv"])


def test_blocks_end_at_the_first_number():
    assert block_of("features.3.conv1.conv") == "features.3"
    assert block_of("7") == "7"
    assert block_of("features.conv1") == "features.conv1"


def inner_emulated() -> nn.Module:
    return lb.convert(net(), [lb.Rule("0", None), lb.Rule("7", None), lb.Rule("*", FORWARD)])


@pytest.mark.parametrize("make", [net, inner_emulated])
def test_full_precision_is_the_model_without_switches_bit_for_bit(make):
    plain, switched = net(), make()
    add_switches(switched)
    x, y = images().requires_grad_(), images().requires_grad_()
    plain(x).square().sum().backward()
    switched(y).square().sum().backward()
    assert torch.equal(plain(x), switched(x))
    assert x.grad is not None
    assert y.grad is not None
    assert torch.equal(x.grad, y.grad)


def test_the_gemm_multiplies_the_codes_of_the_formula():
    model = emulated()
    add_switches(model)
    set_precision(model, W2A2)
    lhs, rhs = codes(model, "2")
    weight = model.get_submodule("2").parametrizations.weight.original  # type: ignore[union-attr]
    tanh = torch.tanh(weight.detach())
    expected = 2 * ((tanh / tanh.abs().max() / 2 + 0.5) * 3).round() - 3
    assert sorted(set(rhs.flatten().tolist())) == sorted(set(expected.flatten().tolist()))
    assert torch.equal(rhs.float().sort().values.flatten().sort().values, expected.flatten().sort().values)
    assert set(lhs.flatten().tolist()) <= {0, 1, 2, 3}


def test_the_emulated_layer_is_the_fake_quantised_one():
    """A layer on its grids gives what float64 gives for the same values, to float32's rounding of the result."""
    model = emulated()
    add_switches(model)
    set_precision(model, W2A2)
    layer = model.get_submodule("2")
    x = torch.rand(3, 4, 4, 4) * 1.5 - 0.2
    weight = DoReFaWeight(2)(layer.parametrizations.weight.original.detach())  # type: ignore[union-attr]
    exact = nn.functional.conv2d(on_grid(x, 2).double(), weight.double(), padding=1)
    bias = layer.bias.detach()  # type: ignore[union-attr]
    expected = exact + bias.double()[:, None, None]  # type: ignore[index]
    assert torch.allclose(layer(x).double(), expected, rtol=0, atol=2e-6)


def test_weights_alone_on_a_grid_leave_the_inputs_as_they_are():
    model = emulated()
    add_switches(model)
    set_precision(model, Precision(weight_bits=2))
    seen = []
    layer = model.get_submodule("2")
    handle = layer.register_forward_hook(lambda module, args, output: seen.append((args[0], output)))
    x = torch.randn(3, 4, 4, 4)
    layer(x)
    handle.remove()
    weight = SwitchedWeight(2)(layer.parametrizations.weight.original)  # type: ignore[union-attr]
    native = nn.functional.conv2d(x, weight, layer.bias, padding=1)  # type: ignore[arg-type]
    assert seen[0][0] is x
    assert torch.allclose(seen[0][1], native, rtol=1e-6, atol=1e-6)


def test_the_two_modes_have_precisions_of_their_own():
    model = emulated()
    add_switches(model)
    set_precision(model, Precision(), W2A2)
    model.train()
    in_training = model(images())
    model.eval()
    in_evaluation = model(images())
    set_precision(model, W2A2)
    model.train()
    assert torch.equal(in_evaluation, model(images()))
    assert not torch.equal(in_training, in_evaluation)


def test_single_layers_are_switched_by_their_paths():
    model = net()
    add_switches(model)
    set_precision(model, W2A2, layers=["4"])
    found = switches(model)
    assert {path: str(switch.training) for path, switch in found.items()} == {"2": "W32A32", "4": "W2A2"}


def test_backward_gemms_stay_the_layers_own_and_read_the_codes():
    gradient = lb.Rounding("stochastic", random_bits=8)
    model = emulated(OpSpec.uniform(lb.INT8, mac=lb.MacUnit(accumulator_bits=20), gradient_rounding=gradient))
    add_switches(model)
    set_precision(model, W2A2)
    with capture() as kept:
        model(images()).sum().backward()
    by_role = {g.role: g for g in kept.gemms if g.layer == "2"}
    assert {role: str(g.spec and g.spec.rhs.format) for role, g in by_role.items()} == {
        "output": "int2_odd",
        "grad_input": "int2_odd",
        "grad_weight": "uint2",
    }
    assert str(by_role["grad_input"].spec and by_role["grad_input"].spec.lhs) == "int8 stochastic"
    assert all(g.spec is not None and g.spec.mac.accumulator_bits == 20 for g in by_role.values())  # type: ignore[union-attr]
    set_precision(model, Precision(weight_bits=2))
    with capture() as kept:
        model(images()).sum().backward()
    by_role = {g.role: g for g in kept.gemms if g.layer == "2"}
    assert by_role["output"].spec is None
    assert str(by_role["grad_weight"].spec and by_role["grad_weight"].spec.rhs.format) == "int8"


def test_native_backward_gemms_read_the_values():
    model = emulated()
    add_switches(model)
    set_precision(model, W2A2)
    with capture() as kept:
        model(images()).sum().backward()
    [gemm] = [g for g in kept.gemms if g.layer == "2" and g.role == "grad_weight"]
    assert set(gemm.rhs[0].unique().tolist()) <= set((torch.arange(4) / 3).tolist())


def test_a_copy_switches_by_itself():
    model = emulated()
    add_switches(model)
    twin = copy.deepcopy(model)
    set_precision(twin, W2A2)
    assert {str(s.training) for s in switches(model).values()} == {"W32A32"}
    assert {str(s.training) for s in switches(twin).values()} == {"W2A2"}
    assert not torch.equal(model(images()), twin(images()))


def test_parameters_stay_the_same_objects():
    model = net()
    before = [id(p) for p in model.parameters()]
    add_switches(model)
    assert sorted(id(p) for p in model.parameters()) == sorted(before)
    assert "2.parametrizations.weight.original" in model.state_dict()
    assert is_prepared(model)
    assert not is_prepared(net())


def test_metagrads_readings_of_a_weight_in_full_precision_are_the_weight():
    weight, switch = torch.randn(4, 3), SwitchedWeight(None)
    for reading in (switch.preprocessed, switch.signed, switch.quantized, switch.forward):
        assert reading(weight) is weight
    assert torch.equal(switch.calibration(weight), torch.ones_like(weight))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            OpSpec(
                output=lb.GemmSpec(LEARNED, lb.Quantizer(lb.INT8)),
                grad_input=None,
                grad_weight=None,
            ),
            "layer '2' can't switch its precision: its numerics learn scales",
        ),
        (
            OpSpec(
                output=lb.GemmSpec(
                    lb.Quantizer(lb.INT8), lb.Quantizer(lb.INT8), transform=lb.HadamardTransform(2)
                ),
                grad_input=None,
                grad_weight=None,
            ),
            "layer '2' can't switch its precision: its forward GEMM multiplies operands after",
        ),
    ],
    ids=["learned", "transform"],
)
def test_layers_that_can_not_be_switched_are_refused(spec, message):
    with pytest.raises(ValueError, match=message):
        add_switches(emulated(spec), ["2"])


def test_weights_that_are_pre_processed_are_refused():
    model = emulated()
    lb.preprocess_weights(model, "dorefa", bits=2)
    with pytest.raises(
        ValueError, match="layer '2' can't switch its precision: its weight is pre-processed already"
    ):
        add_switches(model)


def test_a_forward_pass_of_its_own_is_refused():
    class Own(nn.Linear):
        def forward(self, input: torch.Tensor) -> torch.Tensor:
            return super().forward(input) * 2

    model = nn.Sequential(nn.Linear(2, 2), Own(2, 2), nn.Linear(2, 2))
    with pytest.raises(ValueError, match="it is a Own with a forward pass of its own"):
        add_switches(model)


def test_a_mac_unit_that_can_not_multiply_a_grid_is_named():
    codes = torch.tensor([*range(8), *range(-8, 0)])
    products = lb.ProductTable(bits=4, signed=True, table=(codes[:, None] * codes).numpy())
    spec = OpSpec(
        output=lb.GemmSpec(lb.Quantizer(lb.INT4), lb.Quantizer(lb.INT4), lb.MacUnit(products=products)),
        grad_input=None,
        grad_weight=None,
    )
    model = emulated(spec)
    add_switches(model)
    switches(model)["2"].check(W2A2)
    with pytest.raises(ValueError, match=r"layer '2' can't run in W4A4: lhs has codes from 0 to 15"):
        switches(model)["2"].check(Precision(weight_bits=4, activation_bits=4))
