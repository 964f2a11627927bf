"""Many GEMMs at once have the bits, the counts and the refusals of each alone."""

import pytest
import torch

from lowbit_sim.arith.batched import run_gemms
from lowbit_sim.arith.gemm import run_gemm
from lowbit_sim.arith.mac import MacUnit

MACS = [
    MacUnit(),
    MacUnit(accumulator_bits=12, overflow="saturate"),
    MacUnit(accumulator_bits=12, overflow="wrap"),
    MacUnit(accumulator_bits=20, chunk=4, outer_bits=24),
    MacUnit(accumulator_bits=24, chunk=4, truncated_bits=3, truncation="nearest_even"),
]


def codes(seed: int, *shape: int, dtype: torch.dtype = torch.int8) -> torch.Tensor:
    low, high = (0, 256) if dtype == torch.uint8 else (-128, 128)
    return torch.randint(low, high, shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


@pytest.mark.parametrize("mac", MACS, ids=str)
@pytest.mark.parametrize("reduction", [1, 9, 1023, 1025])
@pytest.mark.parametrize(
    "dtypes", [(torch.int8, torch.int8), (torch.uint8, torch.int8), (torch.int8, torch.int32)]
)
@pytest.mark.parametrize("counting", [True, False])
def test_each_gemm_s_own_result(mac, reduction, dtypes, counting) -> None:
    lhs, rhs = codes(0, 3, 4, reduction, dtype=dtypes[0]), codes(1, 3, reduction, 5, dtype=dtypes[1])
    lhs[:, 0], rhs[..., 0] = lhs.max(), rhs.max()  # the largest sums that there are
    found = run_gemms(list(lhs), list(rhs), mac, count_overflows=counting)
    for mine, a, b in zip(found, lhs, rhs, strict=True):
        alone = run_gemm(a, b, mac, count_overflows=counting)
        assert torch.equal(mine.values, alone.values)
        assert mine.values.dtype == alone.values.dtype
        assert mine.additions == alone.additions
        if counting:
            assert mine.overflows == alone.overflows
        else:
            assert mine.overflows in (None, run_gemm(a, b, mac).overflows)


def test_one_product_serves_proven_gemms() -> None:
    why = {r.why for r in run_gemms(list(codes(0, 3, 4, 9)), list(codes(1, 3, 9, 5)), MacUnit())}
    assert why == {f"range: 9 x 128 x 128 <= {2**31 - 1}"}


@pytest.mark.parametrize("count", [2, 5])
def test_small_unproven_gemms_share_a_parallel_region(count) -> None:
    lhs, rhs = codes(0, count, 33, 70), codes(1, count, 70, 9)
    mac = MacUnit(accumulator_bits=16, overflow="saturate", chunk=16, outer_bits=18)
    for mine, a, b in zip(run_gemms(list(lhs), list(rhs), mac), lhs, rhs, strict=True):
        expected = run_gemm(a, b, mac, backend="reference")
        assert torch.equal(mine.values, expected.values)
        assert mine.overflows == expected.overflows > 0
        assert mine.backend == "numba_cpu"


def test_transposed_operands() -> None:
    lhs, rhs = codes(0, 3, 9, 4).mT, codes(1, 3, 5, 9).mT
    for mine, a, b in zip(run_gemms(list(lhs), list(rhs), MacUnit()), lhs, rhs, strict=True):
        assert torch.equal(mine.values, run_gemm(a, b, MacUnit(), backend="reference").values)


@pytest.mark.parametrize("shapes", [(0, 4, 5), (3, 0, 5), (3, 4, 0)], ids=str)
def test_empty(shapes) -> None:
    rows, reduction, columns = shapes
    found = run_gemms(list(codes(0, 2, rows, reduction)), list(codes(1, 2, reduction, columns)), MacUnit())
    assert [r.values.shape for r in found] == [(rows, columns)] * 2
    assert not any(r.values.any() for r in found)
    assert run_gemms([], [], MacUnit()) == []


def test_a_forced_backend_runs_each() -> None:
    results = run_gemms(list(codes(0, 2, 3, 4)), list(codes(1, 2, 4, 3)), MacUnit(), backend="reference")
    assert [r.backend for r in results] == ["reference"] * 2


def test_refusals_are_those_of_one() -> None:
    with pytest.raises(TypeError, match="integer codes"):
        run_gemms([torch.ones(2, 2)] * 2, [torch.ones(2, 2)] * 2, MacUnit())
    with pytest.raises(ValueError, match=r"takes \[M, K\] and \[K, N\]"):
        run_gemms([codes(0, 2, 3)] * 2, [codes(0, 2, 3)] * 2, MacUnit())
