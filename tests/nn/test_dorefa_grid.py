import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lowbit_sim.nn.dorefa_grid import FULL, Precision, input_quantizer, on_grid, weight_quantizer
from lowbit_sim.nn.weight_preprocessing import DoReFaWeight
from lowbit_sim.trace import record

BITS = (1, 2, 3, 4, 8)


@pytest.mark.parametrize("bits", BITS)
def test_inputs_are_the_formulas_levels_over_their_number(bits):
    x = torch.linspace(-0.5, 1.5, 201)
    top = (1 << bits) - 1
    levels = [round(top * min(max(float(v), 0.0), 1.0)) for v in x]
    # The float32 product may lie on the other side of a tie from the real one's.
    expected = torch.tensor(levels, dtype=torch.float32) / top
    off = (on_grid(x, bits) - expected).abs() > 0
    ties = ((x.clamp(0, 1) * top) % 1 - 0.5).abs() < 1e-4
    assert not bool((off & ~ties).any())
    assert torch.equal(on_grid(x, bits), (x.clamp(0, 1) * top).round() / top)


@given(bits=st.sampled_from(BITS), values=st.lists(st.floats(-2, 2, width=32), min_size=1, max_size=30))
def test_a_grid_is_idempotent_and_its_codes_are_found_again(bits, values):
    x = torch.tensor(values, dtype=torch.float32)
    once = on_grid(x, bits)
    assert torch.equal(on_grid(once, bits), once)
    quantizer = input_quantizer(bits)
    assert quantizer is not None
    codes = quantizer(once).values()
    assert torch.equal(codes, (x.clamp(0, 1) * ((1 << bits) - 1)).round())


@pytest.mark.parametrize("bits", BITS)
def test_a_grid_has_two_to_the_k_levels(bits):
    x, w = torch.rand(20000), torch.randn(20000)
    assert len(on_grid(x, bits).unique()) == 1 << bits
    levels = DoReFaWeight(bits)(w).unique()
    assert len(levels) == 1 << bits
    assert float(levels[0]) == -1.0
    assert float(levels[-1]) == 1.0


@pytest.mark.parametrize("bits", BITS)
def test_the_codes_of_weights_are_those_of_the_formula(bits):
    w = torch.randn(40, 30)
    quantizer = weight_quantizer(bits)
    assert quantizer is not None
    assert quantizer.element_format.bits == bits
    top = (1 << bits) - 1
    unit = torch.tanh(w) / (2 * torch.tanh(w).abs().max()) + 0.5
    # tanh(w) / m / 2 and tanh(w) / (2 m) are the same float32: halving is exact.
    assert torch.equal(quantizer(DoReFaWeight(bits)(w)).values(), 2 * (unit * top).round() - top)


@pytest.mark.parametrize("clip", [0.5, 2.0, 6.0])
def test_another_range_scales_the_levels(clip):
    x = torch.linspace(-1, 2 * clip, 97)
    quantizer = input_quantizer(4, clip)
    assert quantizer is not None
    values = on_grid(x, 4, clip)
    assert float(values.max()) == clip
    assert torch.equal(quantizer(values).values(), (x.clamp(0, clip) / clip * 15).round())


def test_the_gradient_passes_inside_the_range_alone():
    x = torch.tensor([-0.1, 0.0, 0.3, 1.0, 1.1], requires_grad=True)
    on_grid(x, 2).backward(torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0]))
    assert x.grad is not None
    assert x.grad.tolist() == [0.0, 2.0, 3.0, 4.0, 0.0]


def test_the_gradient_of_a_weight_takes_the_maximum_for_a_constant():
    w = torch.randn(50, requires_grad=True)
    g = torch.randn(50)
    DoReFaWeight(2)(w).backward(g)
    assert w.grad is not None
    tanh = torch.tanh(w.detach())
    # At the largest weight too, where a maximum that is differentiated would leave nothing of its own gradient.
    assert torch.allclose(w.grad, g * (1 - tanh**2) / tanh.abs().max(), rtol=1e-6)


def test_full_precision_is_the_tensor_itself():
    x = torch.tensor([-3.0, 7.0])
    assert on_grid(x, FULL) is x
    assert input_quantizer(FULL) is None
    assert weight_quantizer(16) is None
    assert Precision().is_full
    assert str(Precision(weight_bits=2)) == "W2A32"


def test_sixteen_bits_are_within_a_level_of_full_precision():
    x = torch.rand(1000)
    assert float((on_grid(x, 16) - x).abs().max()) <= 0.5 / 65535 + 1e-7


@pytest.mark.parametrize("bits", [0, 17, 31, 33, -2, 2.0, True])
def test_bits_that_no_grid_has_are_refused(bits):
    with pytest.raises(
        ValueError, match="activation_bits must be from 1 to 16, or 32 for full precision, got"
    ):
        Precision(activation_bits=bits)


def test_a_pass_goes_on_record_only_where_no_gemm_makes_codes():
    x = torch.rand(64, requires_grad=True)
    with record() as trace:
        on_grid(x, 2, layer="a", as_codes=False).sum().backward()
    with record() as free:
        on_grid(x, 2, layer="a").sum().backward()
    forward, backward = trace.vectors
    assert (forward.read_bytes, forward.write_bytes, forward.kept_bytes) == (256, 256 + 8, 8)
    assert (backward.read_bytes, backward.write_bytes) == (256 + 8, 256)
    assert [(e.read_bytes, e.write_bytes) for e in free.vectors] == [(0, 8), (264, 256)]
    assert math.isclose(sum(e.kept_bytes for e in free.vectors), 8)
