"""Two-phase radix-4 FP4: the two grids, their thresholds, and their common scale."""

import numpy as np
import pytest
import torch

import lowbit_sim as lb
from lowbit_sim.quant.gradient.two_phase import two_phase_fp4
from tests.quant.cases import normal


def levels(quantizer: lb.Quantizer, x: torch.Tensor) -> list[float]:
    q = quantizer(x)
    return sorted(set((q.dequantize().abs() / q.scale).tolist()))


def test_the_grids_interleave() -> None:
    pair = two_phase_fp4()
    x = torch.from_numpy(np.ldexp(np.float32(1), np.arange(0, -30, -1)))
    even, odd = (levels(quantizer, x) for quantizer in (pair.grad_input, pair.grad_weight))
    top = lb.LOG4_RADIX4_ODD.max_value
    assert odd == [0.0, *(top * 4.0**-k for k in range(6, -1, -1))]
    assert even == [0.0, *(top / 2 * 4.0**-k for k in range(6, -1, -1))]


def test_both_phases_share_a_scale() -> None:
    pair, x = two_phase_fp4(granularity=lb.PerAxis(0)), normal((5, 30), seed=1, spread=2.0)
    even, odd = pair.grad_input(x), pair.grad_weight(x)
    assert torch.equal(even.scale, odd.scale)
    assert odd.dequantize().abs().amax(1).tolist() == pytest.approx(x.abs().amax(1).tolist(), rel=1e-6)
    assert (even.dequantize().abs().amax(1) * 2).tolist() == odd.dequantize().abs().amax(1).tolist()


@pytest.mark.parametrize("phase", ["grad_input", "grad_weight"])
@pytest.mark.parametrize("n", range(-6, 0))
def test_the_threshold_is_the_arithmetic_midpoint(phase: str, n: int) -> None:
    # The maximum is the top level of the odd grid, 1; that of the even grid is 1/2. 4^(n+1) / 1.6 = 2.5 * 4^n.
    quantizer, top = getattr(two_phase_fp4(), phase), 1.0 if phase == "grad_weight" else 0.5
    threshold = np.float32(top * 2.5 * 4.0**n)
    below, above = (np.nextafter(threshold, np.float32(limit)) for limit in (0.0, 1.0))
    values = quantizer(torch.tensor([1.0, below, above, -below, -above])).dequantize().tolist()
    low, high = top * 4.0**n, top * 4.0 ** (n + 1)
    assert values[1:] == [low, high, -low, -high]


def test_the_mean_of_the_phases_is_nearer_than_either() -> None:
    # What two phases are for: the two GEMMs see errors that partly cancel.
    pair, x = two_phase_fp4(), normal((5000,), seed=2, spread=1.0)
    even, odd = (quantizer(x).dequantize() - x for quantizer in (pair.grad_input, pair.grad_weight))
    both = ((even + odd) / 2).square().sum()
    assert both < even.square().sum()
    assert both < odd.square().sum()


def test_rounding_is_deterministic() -> None:
    pair = two_phase_fp4()
    assert not pair.grad_input.rounding.is_stochastic
    assert not pair.grad_weight.rounding.is_stochastic
    assert (pair.grad_input.format, pair.grad_weight.format) == (lb.LOG4_RADIX4, lb.LOG4_RADIX4_ODD)
