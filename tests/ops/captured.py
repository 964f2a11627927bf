"""Recorded GEMMs against the definition of the arithmetic."""

import torch

from lowbit_sim.arith.gemm import run_gemm
from lowbit_sim.arith.mac import MacUnit
from lowbit_sim.ops.capture import Capture


def assert_definition(kept: Capture) -> int:
    """Every recorded integer GEMM has the reference's sums, and a single one the result that they make; how many."""
    checked = 0
    for gemm in kept.gemms:
        if gemm.spec is None:
            continue
        mac = gemm.spec.mac
        assert isinstance(mac, MacUnit)
        for a, b, sums in zip(gemm.lhs, gemm.rhs, gemm.sums, strict=True):
            expected = run_gemm(a, b, mac, backend="reference").values
            assert torch.equal(sums, expected), (gemm.layer, gemm.role)
            checked += 1
        if len(gemm.sums) == 1 and gemm.result.shape == gemm.sums[0].shape:
            scale = gemm.lhs_scale[0] * gemm.rhs_scale[0]
            assert torch.equal(gemm.result, gemm.sums[0].float() * scale), (gemm.layer, gemm.role)
    return checked
