import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lowbit_sim.arith import block_gemm
from lowbit_sim.arith.block_gemm import reference_term, run_block_gemm
from lowbit_sim.arith.float_gemm import run_float_gemm
from lowbit_sim.arith.float_mac import FloatMacUnit
from lowbit_sim.arith.gemm import run_gemm
from lowbit_sim.arith.mac import MacUnit
from lowbit_sim.numerics.catalog import BF16, FP16, FP32
from lowbit_sim.numerics.random import Stream
from lowbit_sim.numerics.rounding import Rounding
from tests.arith.float_strategies import float_mac_units, float_operands, same_bits
from tests.arith.strategies import mac_units, operands

STREAM = Stream(seed=9, site=2, offset=11)
STOCHASTIC = Rounding("stochastic", random_bits=8)


def scales(draw, rows, columns):
    """Powers of two, float32 values of every kind, or none."""
    elements = draw(
        st.sampled_from([st.integers(-20, 20).map(lambda e: 2.0**e), st.floats(width=32), st.none()])
    )
    values = draw(st.lists(elements, min_size=rows * columns, max_size=rows * columns))
    if any(v is None for v in values):
        return None
    return torch.tensor(values, dtype=torch.float32).reshape(rows, columns)


@st.composite
def block_operands(draw, matrices):
    a, b = draw(matrices)
    block = draw(st.sampled_from([1, 2, 3, 4, 32]))
    blocks = -(-a.shape[1] // block)
    return a, b, scales(draw, a.shape[0], blocks), scales(draw, blocks, b.shape[1]), block


def check(arguments, mac, across, stream=STREAM):
    try:
        expected = run_block_gemm(*arguments, mac, across, stream=stream, backend="reference")
    except ValueError:
        with pytest.raises(ValueError, match="NaN"):
            run_block_gemm(*arguments, mac, across, stream=stream)
        return None
    result = run_block_gemm(*arguments, mac, across, stream=stream)
    assert same_bits(result.values, expected.values)
    assert (result.overflows, result.swamped) == (expected.overflows, expected.swamped)
    assert result.additions == expected.additions
    uncounted = run_block_gemm(*arguments, mac, across, stream=stream, count_overflows=False)
    assert same_bits(uncounted.values, expected.values)
    return result


@given(arguments=block_operands(operands()), mac=mac_units(), across=float_mac_units())
@settings(max_examples=150)
def test_integers_equal_the_reference(arguments, mac, across):
    check(arguments, mac, across)
    check(arguments, mac, FloatMacUnit())


@given(arguments=block_operands(float_operands()), mac=float_mac_units(), across=float_mac_units())
@settings(max_examples=150)
def test_floats_equal_the_reference(arguments, mac, across):
    check(arguments, mac, across)
    check(arguments, FloatMacUnit(), FloatMacUnit())


def int8(shape, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-127, 128, shape, dtype=torch.int8, generator=generator)


def powers(shape, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.exp2(torch.randint(-4, 5, shape, generator=generator).to(torch.float32))


@pytest.mark.parametrize("k", [1, 31, 32, 33, 64, 100])
def test_mxint8_is_the_formula_in_numpy(k):
    """Exact block sums, then float32 multiplies and adds in order."""
    a, b, blocks = int8((5, k), 0), int8((k, 6), 1), -(-k // 32)
    sa, sb = powers((5, blocks), 2), powers((blocks, 6), 3)
    out = np.zeros((5, 6), dtype=np.float32)
    for c in range(blocks):
        part = slice(32 * c, 32 * (c + 1))
        inner = a.numpy()[:, part].astype(np.int64) @ b.numpy()[part].astype(np.int64)
        out += inner.astype(np.float32) * (sa.numpy()[:, c, None] * sb.numpy()[c])
    result = check((a, b, sa, sb, 32), MacUnit(), FloatMacUnit())
    assert same_bits(result.values, torch.from_numpy(out))
    assert result.additions == 30 * (k + blocks)


def test_powers_of_two_scale_exactly():
    """Where nothing rounds the result is that of the dequantised operands."""
    a, b = int8((4, 64), 0) // 16, int8((64, 3), 1) // 16
    sa, sb = powers((4, 4), 2).clamp(0.25, 4.0), powers((4, 3), 3).clamp(0.25, 4.0)
    wide = (a * sa.repeat_interleave(16, 1)).double() @ (b * sb.repeat_interleave(16, 0)).double()
    assert torch.equal(run_block_gemm(a, b, sa, sb, 16, MacUnit()).values.double(), wide)


def test_a_single_block_without_scales_is_the_plain_product():
    a, b = int8((4, 20), 0), int8((20, 3), 1)
    mac = MacUnit(accumulator_bits=16, overflow="saturate")
    plain = run_gemm(a, b, mac)
    result = run_block_gemm(a, b, None, None, 20, mac)
    assert torch.equal(result.values, plain.values.float())
    assert result.overflows == plain.overflows > 0


def test_one_side_without_scales():
    a, b, sb = int8((4, 20), 0), int8((20, 3), 1), powers((2, 3), 2)
    with_ones = run_block_gemm(a, b, torch.ones(4, 2), sb, 16, MacUnit())
    assert same_bits(run_block_gemm(a, b, None, sb, 16, MacUnit()).values, with_ones.values)
    swapped = run_block_gemm(b.t(), a.t(), sb.t(), None, 16, MacUnit())
    assert same_bits(swapped.values, with_ones.values.t())


def test_the_sum_across_blocks_is_its_own_unit():
    """2048 + 1 + 1 in blocks of one: FP16 loses the ones in order, not in a tree from the other end."""
    a, b = torch.tensor([[1, 1, 2048]], dtype=torch.int32), torch.ones(3, 1, dtype=torch.int32)
    across = FloatMacUnit(accumulator=FP16)
    assert run_block_gemm(a, b, None, None, 1, MacUnit(), across).values.item() == 2050.0
    assert run_block_gemm(a.flip(1), b, None, None, 1, MacUnit(), across).values.item() == 2048.0
    kahan = dataclasses.replace(across, kahan=True)
    assert run_block_gemm(a.flip(1), b, None, None, 1, MacUnit(), kahan).values.item() == 2050.0


@pytest.mark.parametrize(
    ("total", "expected"),
    [
        (2**24 + 1, 2.0**24),
        (2**24 + 3, 2.0**24 + 4),
        (2**54 + 2**30 + 1, 2.0**54 + 2.0**31),  # a float64 on the way would make this a tie
        (-(2**63), -(2.0**63)),
    ],
)
def test_a_blocks_sum_becomes_float32_in_one_rounding(total, expected):
    assert reference_term(total, 1.0, 1.0) == expected
    assert torch.tensor([total], dtype=torch.int64).to(torch.float32).item() == expected
    wide = torch.full((40,), total, dtype=torch.int64)  # long enough for vector instructions
    assert (wide.to(torch.float32) == expected).all()


def test_scales_are_multiplied_first():
    assert reference_term(3, 2.0**100, 2.0**100) == float("inf")
    assert reference_term(3, 2.0**100, 2.0**-100) == 3.0
    assert reference_term(0.0, 2.0**-100, 2.0**-100) == 0.0


@pytest.mark.parametrize(
    "mac", [FloatMacUnit(accumulator=BF16, rounding=STOCHASTIC, chunk=3), FloatMacUnit()]
)
def test_random_bits_of_blocks_and_sum_are_apart(mac):
    """Block c draws from element c M N A on, the sum from C M N A on."""
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(3, 10, generator=generator), torch.randn(10, 2, generator=generator)
    across = FloatMacUnit(accumulator=FP16, rounding=STOCHASTIC)
    draws = 3 * 2 * mac.additions(4) if mac.rounding.is_stochastic else 0
    terms = []
    for c in range(3):
        part = slice(4 * c, 4 * c + 4)
        stream = dataclasses.replace(STREAM, offset=STREAM.offset + c * draws)
        terms.append(run_float_gemm(a[:, part], b[part], mac, stream=stream).values.flatten())
    stream = dataclasses.replace(STREAM, offset=STREAM.offset + 3 * draws)
    total = run_float_gemm(torch.ones(1, 3), torch.stack(terms), across, stream=stream)
    result = run_block_gemm(a, b, None, None, 4, mac, across, stream=STREAM)
    assert same_bits(result.values, total.values.view(3, 2))


@pytest.mark.parametrize(
    ("mac", "across"),
    [
        (
            FloatMacUnit(accumulator=BF16, rounding=STOCHASTIC),
            FloatMacUnit(accumulator=FP16, rounding=STOCHASTIC),
        ),
        (FloatMacUnit(accumulator=BF16, order="tree"), FloatMacUnit(kahan=True)),
    ],
    ids=str,
)
def test_groups_of_rows_change_no_bit(mac, across, monkeypatch):
    generator = torch.Generator().manual_seed(1)
    a, b = torch.randn(7, 40, generator=generator), torch.randn(40, 3, generator=generator)
    arguments = a, b, powers((7, 3), 2), powers((3, 3), 3), 16
    whole = run_block_gemm(*arguments, mac, across, stream=STREAM)
    monkeypatch.setattr(block_gemm, "_TERMS", 2 * 3 * 3)
    grouped = check(arguments, mac, across)
    assert same_bits(grouped.values, whole.values)
    assert grouped.additions == whole.additions


@pytest.mark.parametrize(("m", "k", "n"), [(0, 5, 2), (2, 0, 3), (2, 5, 0)])
@pytest.mark.parametrize("mac", [MacUnit(), FloatMacUnit(outer=FP32)], ids=str)
def test_empty_operands(m, k, n, mac):
    dtype = torch.int8 if isinstance(mac, MacUnit) else torch.float32
    a, b, blocks = torch.ones(m, k, dtype=dtype), torch.ones(k, n, dtype=dtype), -(-k // 2)
    result = check((a, b, torch.ones(m, blocks), torch.ones(blocks, n), 2), mac, FloatMacUnit())
    assert torch.equal(result.values, torch.zeros(m, n))


def test_where_overflows_of_a_block_are_not_counted():
    a, b = int8((4, 64), 0), int8((64, 3), 1)
    mac = MacUnit(accumulator_bits=12)
    assert run_block_gemm(a, b, None, None, 32, mac, count_overflows=False).overflows is None
    assert run_block_gemm(a, b, None, None, 32, mac).overflows > 0


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"block": 0}, ValueError, "block=0"),
        ({"a_scale": torch.ones(2, 3)}, ValueError, r"a_scale takes \[2, 2\] for blocks of 4, got \[2, 3\]"),
        ({"b_scale": torch.ones(3, 2)}, ValueError, r"b_scale takes \[2, 3\] for blocks of 4, got \[3, 2\]"),
        ({"a_scale": torch.ones(2, 2).double()}, TypeError, "a_scale takes float32, got torch.float64"),
        ({"a": torch.ones(2, 6, dtype=torch.int8)}, ValueError, r"got \[2, 6\] and \[5, 3\]"),
        ({"a": torch.ones(2, 5)}, TypeError, "integer codes"),
        ({"mac": FloatMacUnit()}, TypeError, "float32 values"),
        ({"across": FloatMacUnit(rounding=STOCHASTIC)}, ValueError, "needs a stream"),
    ],
    ids=lambda x: next(iter(x)) if isinstance(x, dict) else None,
)
def test_bad_arguments_are_refused(change, error, message):
    arguments = {
        "a": torch.ones(2, 5, dtype=torch.int8),
        "b": torch.ones(5, 3, dtype=torch.int8),
        "a_scale": torch.ones(2, 2),
        "b_scale": None,
        "block": 4,
        "mac": MacUnit(),
    }
    with pytest.raises(error, match=message):
        run_block_gemm(**{**arguments, **change})
