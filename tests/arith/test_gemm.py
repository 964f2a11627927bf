import inspect

import numpy as np
import pytest
import torch

from lowbit_sim.arith.backends import numba_cpu
from lowbit_sim.arith.backends.tile_kernel import tiled
from lowbit_sim.arith.gemm import gemm, run_gemm
from lowbit_sim.arith.mac import MacUnit


def ints(rows, columns, value, dtype=torch.int8):
    return torch.full((rows, columns), value, dtype=dtype)


@pytest.mark.parametrize(
    ("a", "b", "error", "message"),
    [
        (torch.zeros(2, 3), ints(3, 2, 1), TypeError, r"torch.float32 for operand a"),
        (ints(2, 3, 1), ints(3, 2, 1).bool(), TypeError, r"torch.bool for operand b"),
        ([[1]], ints(1, 1, 1), TypeError, "list for operand a"),
        (ints(2, 3, 1), ints(4, 2, 1), ValueError, r"\[2, 3\] and \[4, 2\]"),
        (ints(2, 3, 1)[0], ints(3, 2, 1), ValueError, r"\[3\] and \[3, 2\]"),
        (ints(1, 1, 70000, torch.int32), ints(1, 1, 1), ValueError, "operand a holds 70000"),
        (ints(1, 1, 1), ints(1, 1, -70000, torch.int64), ValueError, "operand b holds 70000"),
    ],
)
def test_bad_operands_are_named(a, b, error, message):
    with pytest.raises(error, match=message):
        gemm(a, b)


def test_an_unknown_backend_names_the_nearest():
    with pytest.raises(ValueError, match=r"unknown backend 'numba'.*did you mean 'numba_cpu'"):
        gemm(ints(1, 1, 1), ints(1, 1, 1), backend="numba")


def test_a_backend_that_cannot_run_says_why():
    a = ints(2, 300, 127)
    with pytest.raises(ValueError, match="'torch_exact' can't run this GEMM: no bound covers 2 of 2 rows"):
        gemm(a, a.t(), MacUnit(accumulator_bits=16, overflow="saturate"), backend="torch_exact")


def test_explain_tells_path_proof_and_counts():
    a = ints(2, 300, 100)
    proven, why = gemm(a, a.t(), MacUnit(), explain=True)
    assert (why.backend, why.overflows, why.additions) == ("torch_exact", 0, 4 * 300)
    assert why.why == "range: 300 x 128 x 128 <= 2147483647"
    assert proven.tolist() == [[3000000] * 2] * 2
    sequential, why = gemm(a, a.t(), MacUnit(accumulator_bits=16, overflow="saturate"), explain=True)
    # 10000 fits three times into 32767; each of the other 297 additions saturates.
    assert (why.backend, why.overflows) == ("numba_cpu", 4 * 297)
    assert sequential.tolist() == [[32767] * 2] * 2
    assert "overflows: 1188 of 1200 additions" in str(why)


def test_only_unproven_rows_and_columns_run_sequentially():
    a, b = torch.ones(64, 40, dtype=torch.int8), torch.ones(40, 64, dtype=torch.int8)
    a[3], b[:, 5] = 127, 127
    mac = MacUnit(accumulator_bits=16, overflow="saturate")
    got, why = gemm(a, b, mac, explain=True)
    assert why.backend == "torch_exact+numba_cpu"
    assert why.why == "no bound covers 1 of 64 rows x 1 of 64 columns"
    assert torch.equal(got, gemm(a, b, mac, backend="reference"))
    assert got[3, 5] == 32767
    assert why.overflows == run_gemm(a, b, mac, backend="reference").overflows > 0


@pytest.mark.parametrize("bits", [16, 32])
def test_wrapping_sums_need_no_proof_unless_overflows_are_counted(bits):
    a = ints(2, 300, 127)
    mac = MacUnit(accumulator_bits=16, outer_bits=bits, chunk=50)
    uncounted = run_gemm(a, a.t(), mac, count_overflows=False)
    counted = run_gemm(a, a.t(), mac)
    assert uncounted.backend == "torch_exact"
    assert uncounted.overflows is None
    assert "not counted" in str(uncounted)
    assert counted.backend == "numba_cpu"
    assert counted.overflows
    assert torch.equal(uncounted.values, counted.values)


def test_results_wider_than_32_bits_are_int64():
    a = ints(1, 4, 65535, torch.int32)
    assert gemm(a, a.t()).dtype == torch.int32
    wide = gemm(a, a.t(), MacUnit(accumulator_bits=40))
    assert wide.dtype == torch.int64
    assert wide.item() == 4 * 65535**2


def test_operands_of_any_layout():
    generator = torch.Generator().manual_seed(0)
    whole = torch.randint(-128, 128, (20, 30), dtype=torch.int8, generator=generator)
    a, b = whole.t()[::3], whole[:, ::2]
    mac = MacUnit(accumulator_bits=16, overflow="saturate")
    for backend in ("numba_cpu", None):
        assert torch.equal(gemm(a, b, mac, backend=backend), gemm(a.contiguous(), b.contiguous(), mac))


def test_sums_that_may_leave_the_lanes_are_refused(monkeypatch):
    monkeypatch.setattr(numba_cpu, "WIDEST", 20)
    a = ints(1, 64, 127)
    mac = MacUnit(accumulator_bits=16, overflow="saturate")
    with pytest.raises(ValueError, match="no backend can run this GEMM: .* may leave an int64 lane"):
        gemm(a, a.t(), mac)


def test_lanes_are_as_wide_as_the_sums():
    a, b = ints(1, 1, 1), ints(1, 1, 1, torch.int32)
    assert numba_cpu._lane(MacUnit(accumulator_bits=30), a, a).__name__ == "int32"
    # Two full 31-bit accumulators added together reach 2^31.
    assert numba_cpu._lane(MacUnit(accumulator_bits=31), a, a).__name__ == "int64"
    assert numba_cpu._lane(MacUnit(accumulator_bits=30), b, b).__name__ == "int64"


def test_lanes_hold_what_a_chunk_moves_on():
    # 80000 x 128 x 128 fits 32 bits; added to a full 31-bit accumulator it does not.
    a = ints(1, 160_000, -128)
    mac = MacUnit(accumulator_bits=8, overflow="saturate", overflow_at="outer", chunk=80_000, outer_bits=31)
    assert numba_cpu._lane(mac, a, a.t()).__name__ == "int64"
    assert gemm(a, a.t(), mac, backend="numba_cpu").item() == 2**30 - 1
    narrow = MacUnit(accumulator_bits=8, overflow="saturate", overflow_at="outer", chunk=100, outer_bits=30)
    assert numba_cpu._lane(narrow, a, a.t()).__name__ == "int32"
    # Exact inner sums need a lane of their own, however narrow the accumulators.
    assert numba_cpu._lane(MacUnit(accumulator_bits=8, overflow_at="chunk"), a, a.t()).__name__ == "int64"


def test_long_chunks_take_a_library_product_each():
    a = ints(4, 256, 127)
    for chunk, backend in ((64, "torch_exact"), (32, "numba_cpu"), (0, "torch_exact")):
        mac = MacUnit(accumulator_bits=16, overflow="saturate", overflow_at="chunk", chunk=chunk)
        got, why = gemm(a, a.t(), mac, explain=True)
        assert why.backend == backend
        assert torch.equal(got, gemm(a, a.t(), mac, backend="reference"))
        assert why.overflows == run_gemm(a, a.t(), mac, backend="reference").overflows > 0


def test_what_truncates_is_no_single_product():
    a = ints(4, 256, 3)
    for chunk, backend in ((64, "torch_exact"), (32, "numba_cpu")):
        mac = MacUnit(chunk=chunk, truncated_bits=4, truncation="up")
        got, why = gemm(a, a.t(), mac, explain=True)
        assert (why.backend, why.overflows) == (backend, 0)
        assert got.unique().tolist() == [-(-9 * chunk // 16) * 16 * (256 // chunk)]


def test_the_kernel_closes_over_plain_values_only():
    """Else numba's cache on disk would never be hit: it finds a closure by its contents."""
    kernel = tiled(16, 32, "int8")
    cells = inspect.getclosurevars(kernel.py_func).nonlocals  # pyright: ignore
    assert {
        name: type(value) for name, value in cells.items() if not isinstance(value, (int, str, bool))
    } == {
        name: np.dtypes.Int16DType if name == "lane_type" else np.dtypes.Int32DType
        for name in ("code_type", "lane_type", "outer_type")
    }
