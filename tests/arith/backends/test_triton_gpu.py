"""The integer kernel for a GPU, in Triton's interpreter: the reference's bits and overflows.

The interpreter takes milliseconds for every operation on a block, so sizes are small.
"""

import dataclasses

import pytest
import torch
from hypothesis import given, settings

from lowbit_sim.arith.backends import numba_cpu, torch_tree, triton_gpu
from lowbit_sim.arith.gemm import BACKENDS, _in_order, gemm, run_gemm
from lowbit_sim.arith.mac import MacUnit
from tests.arith.strategies import mac_units, operands, random_table, table_gemms
from tests.contract.test_gemm_backends import KINDS, check

pytestmark = pytest.mark.skipif(
    torch.cuda.is_available(), reason="the interpreter stands in for a missing GPU"
)

NARROW = MacUnit(accumulator_bits=12, overflow="saturate")


def codes(shape, low, high, seed, dtype=torch.int8):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(low, high + 1, shape, generator=generator).to(dtype)


@given(matrices=operands(5), mac=mac_units())
@settings(max_examples=25)
def test_equals_the_reference(matrices, mac):
    check(*matrices, mac, "triton_gpu")


@given(case=table_gemms(4))
@settings(max_examples=15)
def test_products_from_a_table_equal_the_reference(case):
    check(*case, "triton_gpu")


@pytest.mark.parametrize("mac", KINDS, ids=str)
def test_every_kind_of_unit(mac):
    a, b = codes((3, 13), -128, 127, 8), codes((13, 5), -128, 127, 9)
    a[0], b[:, 0], a[1], b[:, 1] = 127, 127, 127, -128
    ran = check(a, b, mac, "triton_gpu")
    assert ran == (mac.order == "sequential" or mac.overflow_at != "addition")


@pytest.mark.parametrize(("m", "n"), [(1, 1), (15, 17), (65, 2), (2, 65)])
def test_sizes_around_a_program(m, n):
    a, b = codes((m, 3), -128, 127, 0), codes((3, n), -128, 127, 1)
    assert check(a, b, NARROW, "triton_gpu")


@pytest.mark.parametrize("k", [1, 3, 4, 5, 8, 9])
@pytest.mark.parametrize("chunk", [0, 1, 3, 4])
def test_chunks_and_words(k, chunk):
    mac = MacUnit(accumulator_bits=12, overflow="saturate", chunk=chunk, outer_bits=14)
    assert check(codes((2, k), -128, 127, 2), codes((k, 3), -128, 127, 3), mac, "triton_gpu")


@pytest.mark.parametrize(
    ("dtypes", "parts"),
    [
        ((torch.int8, torch.int8), torch.int8),
        ((torch.int8, torch.uint8), torch.int16),
        ((torch.int16, torch.int8), torch.int16),
        ((torch.int8, torch.int64), torch.int32),
    ],
)
def test_words_hold_both_operands_codes(dtypes, parts):
    low = [0 if dtype == torch.uint8 else -100 for dtype in dtypes]
    a = codes((2, 5), low[0], 100, 4, dtypes[0])
    b = codes((5, 3), low[1], 100, 5, dtypes[1])
    assert triton_gpu._word_parts(a, b) == parts
    assert check(a, b, NARROW, "triton_gpu")


def test_packing_puts_the_first_code_lowest():
    x = torch.tensor([[1], [-2], [3], [4], [5]], dtype=torch.int8)
    words = triton_gpu.pack(x, chunk=3, block=2, dtype=torch.int8)
    assert words.shape == (2, 1, 2)
    assert words[:, 0, 0].tolist() == [0x0003FE01, 0x0504]
    assert not words[:, :, 1].any()


def test_uncounted_overflows_are_unknown():
    a = codes((2, 9), 100, 127, 6)
    counted, uncounted = (
        run_gemm(a, a.t(), NARROW, backend="triton_gpu"),
        triton_gpu.run(NARROW, a, a.t(), count_overflows=False),
    )
    assert counted.overflows
    assert uncounted.overflows is None
    assert torch.equal(counted.values, uncounted.values)


def test_a_reason_for_every_refusal(monkeypatch):
    a = codes((2, 9), -128, 127, 7)
    tree = dataclasses.replace(NARROW, order="tree")
    assert "not in a tree" in str(triton_gpu.why_not(tree, a, a.t(), True))
    wide = dataclasses.replace(NARROW, products=random_table(5, True, 2**31 - 1, 0))
    monkeypatch.setattr(triton_gpu, "_WIDEST", 30)
    assert "may leave an int64 lane" in str(triton_gpu.why_not(wide, a, a.t(), True))
    monkeypatch.setenv("TRITON_INTERPRET", "0")
    with pytest.raises(
        ValueError, match="'triton_gpu' can't run this GEMM: runs on a CUDA device, the operands are on"
    ):
        gemm(a, a.t(), NARROW, backend="triton_gpu")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "Triton is not installed" in str(triton_gpu.why_not(NARROW, a, a.t(), True))


def test_each_device_has_its_backend():
    tree = dataclasses.replace(NARROW, order="tree")
    assert _in_order(torch.device("cuda", 0), NARROW) is triton_gpu
    assert _in_order(torch.device("cuda", 0), tree) is torch_tree
    assert _in_order(torch.device("cuda", 0), dataclasses.replace(tree, overflow_at="chunk")) is triton_gpu
    assert _in_order(torch.device("cpu"), tree) is numba_cpu
    assert BACKENDS["triton_gpu"] is triton_gpu
    # The interpreter is never chosen by itself.
    a = codes((2, 9), 100, 127, 6)
    assert run_gemm(a, a.t(), NARROW).backend == "numba_cpu"
