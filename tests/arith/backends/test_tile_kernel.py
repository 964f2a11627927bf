"""The tile kernel's accumulators are those of the reference, at ragged sizes, in every lane and by every rule."""

import os
import subprocess
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lowbit_sim.arith.backends import numba_cpu, reference
from lowbit_sim.arith.backends.lanes import DEPTH, ROWS, choose_lanes, columns_of_tile
from lowbit_sim.arith.mac import MacUnit

OVERFLOWS = ("wrap", "saturate", "saturate_symmetric")


def codes(shape, limit, seed, dtype=torch.int8):
    """Mostly the extreme codes, so that narrow accumulators overflow at nearly every step."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(-limit, limit, shape, generator=generator)
    extreme = torch.rand(shape, generator=generator) < 0.7
    signs = torch.where(drawn < 0, -limit, limit - 1)
    return torch.where(extreme, signs, drawn).to(dtype)


def check(mac, a, b):
    expected = reference.run(mac, a, b)
    counted = numba_cpu.run(mac, a, b)
    assert torch.equal(counted.values, expected.values)
    assert counted.overflows == expected.overflows
    assert torch.equal(numba_cpu.run(mac, a, b, count_overflows=False).values, expected.values)
    return expected.overflows


@given(
    bits=st.integers(8, 32),
    overflow=st.sampled_from(OVERFLOWS),
    chunk=st.sampled_from([0, 1, 3, 8]),
    outer_bits=st.none() | st.integers(8, 32),
    limit=st.sampled_from([2, 8, 128]),
    shape=st.tuples(st.integers(1, 18), st.integers(1, 20), st.sampled_from([1, 2, 31, 33, 65])),
    transposed=st.tuples(st.booleans(), st.booleans()),
    seed=st.integers(0, 1000),
)
def test_equals_the_reference(bits, overflow, chunk, outer_bits, limit, shape, transposed, seed):
    mac = MacUnit(accumulator_bits=bits, overflow=overflow, chunk=chunk, outer_bits=outer_bits)
    m, k, n = shape
    a = codes((k, m), limit, seed).t() if transposed[0] else codes((m, k), limit, seed)
    b = codes((n, k), limit, seed + 1).t() if transposed[1] else codes((k, n), limit, seed + 1)
    check(mac, a, b)


@pytest.mark.parametrize("overflow", OVERFLOWS)
@pytest.mark.parametrize(
    ("bits", "limit", "width", "rules"),
    [
        (16, 128, 16, ("wrap", "saturate", "clip")),
        (12, 8, 16, ("wrap", "saturate", "clip")),
        (12, 128, 16, ("fold", "clip", "clip")),
        (24, 128, 32, ("wrap", "clip", "clip")),
        (32, 128, 32, ("wrap", "saturate", None)),
        (20, 60000, 64, ("fold", "clip", "clip")),
    ],
)
def test_every_lane_and_rule_overflows_as_it_should(bits, limit, width, rules, overflow):
    mac = MacUnit(accumulator_bits=bits, overflow=overflow)
    dtype = torch.int8 if limit <= 128 else torch.int32
    a, b = codes((ROWS + 1, 40), limit, 0, dtype), codes((40, 37), limit, 1, dtype)
    a[0], b[:, 0] = -limit, -limit  # 40 products of one sign
    lanes = choose_lanes(mac, 40, limit * limit)
    rule = rules[OVERFLOWS.index(overflow)]
    if rule:
        assert (lanes.width, lanes.rule) == (width, rule)
    assert (check(mac, a, b) > 0) is (bits < 24)


@pytest.mark.parametrize("k", [DEPTH - 1, DEPTH, DEPTH + 1, 2 * DEPTH + 3])
@pytest.mark.parametrize("chunk", [0, 100, DEPTH, DEPTH + 1])
def test_reductions_and_chunks_around_a_panel_s_depth(k, chunk):
    mac = MacUnit(accumulator_bits=16, overflow="saturate", chunk=chunk, outer_bits=18)
    assert check(mac, codes((3, k), 128, 0), codes((k, 5), 128, 1))


def test_sizes_around_a_tile_and_a_task():
    mac, width = MacUnit(accumulator_bits=10, overflow="saturate"), columns_of_tile(16)
    for m in (1, ROWS - 1, ROWS, ROWS + 1, 33):
        for n in (1, width - 1, width, width + 1, 4 * width + 1):
            assert check(mac, codes((m, 5), 128, m), codes((5, n), 128, n))


@pytest.mark.parametrize("threads", [1, 2])
def test_threads_change_nothing(threads, torch_threads):
    torch.set_num_threads(threads)
    mac = MacUnit(accumulator_bits=16, overflow="saturate", chunk=48, outer_bits=17)
    a, b = codes((150, 70), 128, 0), codes((70, 300), 128, 1)
    result = numba_cpu.run(mac, a, b)
    rows = reference.run(mac, a[:2], b)
    assert torch.equal(result.values[:2], rows.values)
    torch.set_num_threads(1)
    assert torch.equal(result.values, numba_cpu.run(mac, a, b).values)
    assert result.overflows == numba_cpu.run(mac, a, b).overflows


def test_products_that_fit_no_lane_are_refused():
    with pytest.raises(ValueError, match="no lane holds a sum of a 16-bit accumulator"):
        choose_lanes(MacUnit(accumulator_bits=16, overflow="saturate"), 4, 1 << 63)


WITHOUT_WIDE_VECTORS = """
import torch
from tests.arith.backends.test_tile_kernel import MacUnit, check, codes
for overflow in ("saturate", "saturate_symmetric", "wrap"):
    mac = MacUnit(accumulator_bits=16, overflow=overflow, chunk=17, outer_bits=18)
    check(mac, codes((9, 40), 128, 0), codes((40, 70), 128, 1))
print("same bits")
"""


@pytest.mark.slow
def test_processors_without_wide_vectors(tmp_path):
    """LLVM splits the vectors for the plainest x86-64."""
    environment = os.environ | {
        "NUMBA_CPU_NAME": "generic",
        "NUMBA_CPU_FEATURES": "",
        "NUMBA_CACHE_DIR": str(tmp_path),
    }
    command = [sys.executable, "-c", WITHOUT_WIDE_VECTORS]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.stdout.strip() == "same bits", done.stderr
