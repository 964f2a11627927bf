"""The floating-point kernels for a GPU, in Triton's interpreter: the reference's bits and counts."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings

from lowbit_sim.arith.float_gemm import run_float_gemm
from lowbit_sim.arith.float_mac import FloatMacUnit
from lowbit_sim.arith.float_triton import extents, run, why_not
from lowbit_sim.numerics.catalog import BF16, FP4_E2M1, FP16, FP32
from lowbit_sim.numerics.rounding import Rounding
from tests.arith.float_strategies import float_mac_units, float_operands, same_bits
from tests.contract.test_float_gemm import UNITS, check, normals

pytestmark = [
    pytest.mark.skipif(torch.cuda.is_available(), reason="the interpreter stands in for a missing GPU"),
    # The interpreter computes with numpy, which tells of infinities and NaN.
    pytest.mark.filterwarnings("ignore:.*encountered in:RuntimeWarning"),
]


@given(matrices=float_operands(most_k=4), mac=float_mac_units())
@settings(max_examples=30)
def test_equals_the_reference(matrices, mac):
    check(*matrices, mac, "triton_gpu")


@pytest.mark.parametrize("mac", UNITS, ids=str)
def test_every_kind_of_unit(mac):
    assert check(*normals(2, 7, 3), mac, "triton_gpu") == (mac.order == "sequential")
    assert check(*normals(3, 4, 1, torch.float32), mac, "triton_gpu") == (mac.order == "sequential")


@pytest.mark.parametrize("random_bits", [1, 8, 9, 16, 17, 27])
def test_every_width_of_a_draw(random_bits):
    rounding = Rounding("stochastic", random_bits=random_bits)
    mac = FloatMacUnit(accumulator=FP16, rounding=rounding, chunk=4, outer=FP32 if random_bits < 20 else None)
    assert check(*normals(3, 6, 2), mac, "triton_gpu")


@pytest.mark.parametrize("mode", ["nearest_even", "down", "up"])
@pytest.mark.parametrize("kahan", [False, True])
def test_signs_of_zeros(mode, kahan):
    mac = FloatMacUnit(accumulator=FP4_E2M1, rounding=Rounding(mode), kahan=kahan, chunk=2)
    a = torch.tensor([[x, y, z] for x in (0.0, -0.0, 0.25) for y in (0.0, -0.25) for z in (-0.0, 0.5)])
    for b in (torch.ones(3, 1), -torch.ones(3, 2)):
        assert check(a, b, mac, "triton_gpu")


@pytest.mark.parametrize(("m", "n"), [(1, 1025), (33, 33), (0, 3), (3, 0)])
def test_sizes_around_a_program(m, n):
    assert check(*normals(m, 2, n), FloatMacUnit(accumulator=BF16), "triton_gpu")
    assert check(*normals(m, 2, n), FloatMacUnit(), "triton_gpu")


def test_float32_arithmetic_is_taken_where_products_are_exact():
    a, b = normals(3, 5, 4)
    assert "float32 arithmetic" in run_float_gemm(a, b, FloatMacUnit(), backend="triton_gpu").why
    a, b = normals(3, 5, 4, torch.float32)
    assert "a rounding for each" in run_float_gemm(a, b, FloatMacUnit(), backend="triton_gpu").why


def test_refusals():
    a, b = normals(2, 3, 2)
    assert "not in a tree" in str(why_not(FloatMacUnit(order="tree"), a, b))
    assert "longer than 2^28" in str(why_not(FloatMacUnit(), torch.empty(1, 1 << 28, device="cpu"), b))


@given(matrices=float_operands())
def test_extents(matrices):
    """Against the significands as Python integers."""
    for x in matrices:
        finite = x[torch.isfinite(x)]
        if not finite.numel() or finite.numel() < x.numel():
            continue
        ((significant, last, largest),) = extents(x)
        assert largest == float(x.abs().amax())
        numbers = [abs(v) for v in x.flatten().tolist() if v]
        for v in numbers:
            # Every element is a whole multiple of 2^last and has at most so many bits.
            assert (v / 2.0**last).is_integer()
            n, d = v.as_integer_ratio()
            assert (n // (n & -n)).bit_length() <= significant
            assert d >= 1
        if numbers:
            assert 1 <= significant <= 24
            assert last >= np.finfo(np.float32).minexp - 23


@pytest.mark.parametrize("mac", [FloatMacUnit(), FloatMacUnit(accumulator=BF16, chunk=2)], ids=str)
def test_uncounted_additions_are_unknown(mac):
    a, b = normals(3, 5, 2)
    counted, uncounted = run(mac, a, b, None), run(mac, a, b, None, counting=False)
    assert (uncounted.overflows, uncounted.swamped) == (None, None)
    assert same_bits(uncounted.values, counted.values)
