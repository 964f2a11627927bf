"""What every GEMM backend must do: return the reference's bits or say why it can't run.

A new backend joins `BACKENDS` and is tested here without another line; but for the one that a GPU runs, which has
smaller tests of its own, in Triton's interpreter.
"""

import dataclasses
import itertools

import pytest
import torch
from hypothesis import given

from lowbit_sim.arith.backends import numba_cpu, torch_tree, triton_gpu
from lowbit_sim.arith.gemm import BACKENDS, gemm, run_gemm
from lowbit_sim.arith.mac import MacUnit
from lowbit_sim.arith.result import result_dtype
from tests.arith.strategies import exact_table, mac_units, operands, random_table, table_gemms

FAST = sorted(set(BACKENDS) - {"reference", triton_gpu.NAME})


def check(a, b, mac, backend, count_overflows=True):
    """The backend's result is the reference's, or the backend refuses with a reason; True if it ran."""
    expected = run_gemm(a, b, mac, backend="reference")
    if backend is not None:
        reason = BACKENDS[backend].why_not(mac, a, b, count_overflows)
        if reason:
            with pytest.raises(ValueError, match="can't run"):
                run_gemm(a, b, mac, backend=backend, count_overflows=count_overflows)
            return False
    result = run_gemm(a, b, mac, backend=backend, count_overflows=count_overflows)
    assert result.values.dtype == result_dtype(mac)
    assert torch.equal(result.values, expected.values)
    assert result.additions == expected.additions
    if count_overflows:
        assert result.overflows == expected.overflows
    else:
        assert result.overflows in (None, expected.overflows)
    return True


@pytest.mark.parametrize("backend", [*FAST, None])
@given(matrices=operands(), mac=mac_units())
def test_equals_the_reference(backend, matrices, mac):
    check(*matrices, mac, backend)


@pytest.mark.parametrize("backend", [*FAST, None])
@given(matrices=operands(), mac=mac_units())
def test_equals_the_reference_without_counting(backend, matrices, mac):
    check(*matrices, mac, backend, count_overflows=False)


@pytest.mark.parametrize("count_overflows", [True, False])
@pytest.mark.parametrize("backend", [*FAST, None])
@given(case=table_gemms())
def test_products_from_a_table_equal_the_reference(backend, count_overflows, case):
    check(*case, backend, count_overflows)


def codes(shape, low, high, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(low, high + 1, shape, dtype=torch.int8, generator=generator)


EDGES = [0, 1, numba_cpu.BLOCK - 1, numba_cpu.BLOCK, numba_cpu.BLOCK + 1]


@pytest.mark.parametrize(
    ("m", "n"), [*itertools.product(EDGES, [0, 1, 3]), *itertools.product([0, 1, 3], EDGES)]
)
@pytest.mark.parametrize("k", [0, 1, 4])
def test_sizes_around_the_kernels_block(m, n, k):
    a, b = codes((m, k), -128, 127, 0), codes((k, n), -128, 127, 1)
    for mac in (MacUnit(accumulator_bits=15, overflow="saturate"), MacUnit(accumulator_bits=12, chunk=2)):
        assert check(a, b, mac, "numba_cpu")
        check(a, b, mac, None)


@pytest.mark.parametrize("k", EDGES)
@pytest.mark.parametrize(("m", "n"), [(0, 2), (1, 1), (3, 2)])
@pytest.mark.parametrize("overflow", ["wrap", "saturate"])
def test_reductions_around_the_kernels_block(m, n, k, overflow):
    a, b = codes((m, k), -128, 127, 6), codes((k, n), -128, 127, 7)
    for mac in (
        MacUnit(accumulator_bits=17, overflow=overflow),
        MacUnit(accumulator_bits=15, overflow=overflow, chunk=numba_cpu.BLOCK, outer_bits=20),
    ):
        assert check(a, b, mac, "numba_cpu")
        assert check(a, b, mac, None)
        check(a, b, mac, "torch_exact", count_overflows=False)


@pytest.mark.parametrize("backend", ["numba_cpu", None])
@pytest.mark.parametrize("overflow", ["wrap", "saturate"])
@pytest.mark.parametrize(("chunk", "outer_bits"), [(0, None), (31, None), (32, 24), (33, 12), (64, 8)])
@pytest.mark.parametrize("k", [31, 32, 33, 100])
def test_chunks_and_their_edges(backend, overflow, chunk, outer_bits, k):
    mac = MacUnit(accumulator_bits=16, overflow=overflow, chunk=chunk, outer_bits=outer_bits)
    assert check(codes((5, k), -128, 127, 2), codes((k, 6), -128, 127, 3), mac, backend)


#: Every value of every field at least once, and every pair of the rules.
KINDS = [
    MacUnit(
        accumulator_bits=15,
        overflow=overflow,
        overflow_at=overflow_at,
        order=order,
        chunk=chunk,
        outer_bits=outer_bits,
        truncated_bits=bits,
        truncation=truncation,
    )
    for overflow in ("wrap", "saturate", "saturate_symmetric")
    for overflow_at in ("addition", "chunk", "outer")
    for order in ("sequential", "tree")
    for chunk, outer_bits, bits, truncation in (
        (0, None, 0, "down"),
        (5, None, 0, "down"),
        (8, 17, 0, "down"),
        (21, 12, 0, "down"),
        (5, None, 4, "nearest_even"),
        (8, 17, 1, "nearest_away"),
        (21, 12, 3, "toward_zero"),
        (0, 13, 2, "up"),
        (0, None, 2, "down"),
    )
]


@pytest.mark.parametrize("mac", KINDS, ids=str)
@pytest.mark.parametrize("table", [None, random_table(5, True, 3000, 0), exact_table(5, True)], ids=str)
def test_every_kind_of_unit(mac, table):
    mac = dataclasses.replace(mac, products=table)
    low, high = (-16, 15) if table else (-128, 127)
    for shape in ((3, 61, 7), (7, 61, 3)):
        m, k, n = shape
        a, b = codes((m, k), low, high, 8), codes((k, n), low, high, 9)
        a[0], b[:, 0] = high, high
        a[1], b[:, 1] = high, low
        ran = [check(a, b, mac, backend) for backend in (*FAST, None)]
        assert ran[FAST.index("numba_cpu")]
        assert ran[-1]


def test_the_kinds_of_unit_overflow():
    """Else the test above would say little."""
    a, b = codes((3, 61), -128, 127, 8), codes((61, 7), -128, 127, 9)
    a[0], b[:, 0] = 127, 127
    assert all(run_gemm(a, b, mac, backend="reference").overflows for mac in KINDS)


@pytest.mark.parametrize(("low", "high"), [(-127, 127), (-7, 7), (-128, 127)])
@pytest.mark.parametrize("backend", FAST)
def test_every_product_of_two_codes(low, high, backend):
    """An outer product holds every product of two codes: 65536 of full INT8."""
    column = torch.arange(low, high + 1, dtype=torch.int8)[:, None]
    mac = MacUnit(order="tree" if backend == torch_tree.NAME else "sequential")
    got = gemm(column, column.t().contiguous(), mac, backend=backend)
    wide = column.to(torch.int64)
    assert torch.equal(got.to(torch.int64), wide @ wide.t())


@pytest.mark.parametrize("bits", [8, 9, 16, 20, 31, 32, 33, 40])
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("overflow", ["wrap", "saturate"])
@pytest.mark.parametrize("excess", [-1, 0, 1])
def test_the_accumulators_limit(bits, sign, overflow, excess):
    """Sums that end one below, at and one above the limit."""
    limit = 2 ** (bits - 1) - 1 if sign > 0 else 2 ** (bits - 1)
    target = limit + excess
    step = 65535 * 65535
    factors = [(65535, 65535)] * (target // step)
    rest = target % step
    factors += [(65535, rest // 65535), (1, rest % 65535)]
    a = torch.tensor([[sign * x for x, _ in factors]], dtype=torch.int32)
    b = torch.tensor([[y] for _, y in factors], dtype=torch.int32)
    mac = MacUnit(accumulator_bits=bits, overflow=overflow)
    for backend in ("numba_cpu", None):
        assert check(a, b, mac, backend)
    if bits > 33:  # narrower ones overflow on the way
        assert run_gemm(a, b, mac).overflows == (excess > 0)


@pytest.mark.parametrize("order", ["sequential", "tree"])
@pytest.mark.parametrize("overflow", ["wrap", "saturate"])
def test_threads_change_no_bit(overflow, order):
    a, b = codes((70, 300), -127, 127, 4), codes((300, 1100), -127, 127, 5)
    mac = MacUnit(accumulator_bits=16, overflow=overflow, chunk=64, outer_bits=18, order=order)
    before = torch.get_num_threads()
    try:
        results = []
        for threads in (1, 2):
            torch.set_num_threads(threads)
            results.append(run_gemm(a, b, mac, backend="numba_cpu"))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(results[0].values, results[1].values)
    assert results[0].overflows == results[1].overflows > 0
