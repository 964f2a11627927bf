"""Exact library products: which one runs, and that the self-check would notice a wrong one."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lowbit_sim.arith.backends import torch_exact
from lowbit_sim.arith.backends.torch_exact import exact_product, int_mm_is_sound, uncounted, wraps
from lowbit_sim.arith.mac import MacUnit


@pytest.fixture
def fresh_self_check():
    for check in (int_mm_is_sound, wraps):
        check.cache_clear()
    yield
    for check in (int_mm_is_sound, wraps):
        check.cache_clear()


@pytest.mark.parametrize(
    ("dtype", "low", "high", "k"),
    [
        (torch.int8, -128, 127, 600),
        (torch.uint8, 0, 255, 600),
        (torch.int16, -(2**15), 2**15 - 1, 600),
        (torch.int16, -3, 3, 600),
        (torch.int32, -65535, 65535, 600),
    ],
)
def test_products_are_exact(dtype, low, high, k):
    generator = torch.Generator().manual_seed(0)
    a = torch.randint(low, high + 1, (9, k), generator=generator).to(dtype)
    b = torch.randint(low, high + 1, (k, 8), generator=generator).to(dtype)
    a[0], b[:, 0] = high, high
    assert torch.equal(exact_product(a, b).to(torch.int64), a.to(torch.int64) @ b.to(torch.int64))


def layouts(rows, columns):
    """One matrix's worth of random codes in every layout a view can have."""

    def codes(r, c):
        return torch.randint(-128, 128, (r, c), dtype=torch.int8)

    return [
        codes(rows, columns),
        codes(columns, rows).t(),
        codes(2 * rows, 2 * columns)[::2, ::2],
        codes(rows, columns + 3)[:, 2:-1],
        codes(rows, columns).as_strided((rows, columns), (0 if rows == 1 else columns, 1)),
        codes(rows, 1).expand(rows, columns),
    ]


@pytest.mark.parametrize("m", [1, 2, 17])
@pytest.mark.parametrize("k", [1, 2, 8])
@pytest.mark.parametrize("n", [1, 2, 17])
def test_products_of_views(m, k, n):
    """Sizes of 1 have arbitrary strides, which the library must not be shown."""
    torch.manual_seed(0)
    for a in layouts(m, k):
        for b in layouts(k, n):
            assert torch.equal(exact_product(a, b).to(torch.int64), a.to(torch.int64) @ b.to(torch.int64))


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.int16, torch.int32])
def test_autocast_does_not_reach_the_products(dtype):
    generator = torch.Generator().manual_seed(0)
    a = torch.randint(0, 120, (20, 300), generator=generator).to(dtype)
    expected = a.to(torch.int64) @ a.t().to(torch.int64)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(exact_product(a, a.t()).to(torch.int64), expected)


@pytest.mark.parametrize("shape", [(0, 3, 2), (2, 0, 3), (2, 3, 0), (1, 1, 1)])
def test_empty_and_single_products(shape):
    m, k, n = shape
    a, b = torch.ones(m, k, dtype=torch.int8), torch.ones(k, n, dtype=torch.int8)
    assert torch.equal(exact_product(a, b).to(torch.int64), torch.full((m, n), k))


def test_the_float32_product_is_not_used_beyond_its_bound():
    # 2^24 + 1 is not a float32: an int16 operand whose range bound only the data's maximum brings down.
    a = torch.tensor([[4096, 1]], dtype=torch.int16)
    b = torch.tensor([[4096], [1]], dtype=torch.int16)
    assert exact_product(a, b).item() == 2**24 + 1


@pytest.mark.parametrize(("low", "high"), [(0, 255), (-255, 255), (-32639, 32639)])
@pytest.mark.parametrize("both", [False, True])
def test_wide_codes_by_int8_digits(low, high, both):
    generator = torch.Generator().manual_seed(0)
    a = torch.randint(low, high + 1, (5, 700), generator=generator).to(torch.int16)
    b = torch.randint(-128, 128, (700, 4), generator=generator).to(torch.int8)
    a[0], a[1] = low, high
    other = a.t() if both else b
    assert torch.equal(exact_product(a, other).to(torch.int64), a.to(torch.int64) @ other.to(torch.int64))
    left = a.t().contiguous()
    assert torch.equal(
        exact_product(b.t(), left).to(torch.int64), b.t().to(torch.int64) @ left.to(torch.int64)
    )


@pytest.mark.parametrize("k", [131_071, 131_072, 262_145])
def test_int8_reductions_beyond_one_library_product(k):
    a = torch.full((2, k), -128, dtype=torch.int8)
    a[1] = 127
    assert exact_product(a, a.t()).tolist() == [[k << 14, -k * 128 * 127], [-k * 128 * 127, k * 127 * 127]]


def test_a_library_that_saturates_pairs_is_noticed(monkeypatch, fresh_self_check):
    """What pmaddubsw-based kernels do: add pairs of products in 16 bits, saturating."""

    def broken(a, b):
        products = a.to(torch.int64)[:, :, None] * b.to(torch.int64)[None]
        even, odd = products[:, ::2], products[:, 1::2]
        pairs = even.clone()
        pairs[:, : odd.shape[1]] += odd
        return pairs.clamp(-(2**15), 2**15 - 1).sum(1).to(torch.int32)

    monkeypatch.setattr(torch, "_int_mm", broken)
    assert not int_mm_is_sound()
    a = torch.full((2, 4), 127, dtype=torch.int8)
    assert exact_product(a, a.t()).tolist() == [[4 * 127 * 127] * 2] * 2


def test_a_sound_library_passes(fresh_self_check):
    assert int_mm_is_sound()


@pytest.mark.parametrize("bits", [8, 16, 32, 63, 64])
def test_wrap_keeps_the_low_bits(bits):
    values = torch.tensor([0, 1, -1, 127, 128, -128, -129, 2**31, -(2**31) - 1, 2**62, -(2**62)])
    wrapped = torch_exact._wrap(values, bits)
    for value, got in zip(values.tolist(), wrapped.tolist(), strict=True):
        assert (got - value) % (1 << bits) == 0
        assert -(1 << (bits - 1)) <= got < 1 << (bits - 1)


def wrapped(sums, bits):
    """Python's integers as two's complement."""
    return [[(s + (1 << (bits - 1))) % (1 << bits) - (1 << (bits - 1)) for s in row] for row in sums]


@given(
    bits=st.integers(2, 40),
    sizes=st.tuples(st.integers(1, 4), st.integers(1, 40), st.integers(1, 4)),
    seed=st.integers(0, 99),
)
def test_products_modulo_a_power_of_two(bits, sizes, seed):
    m, k, n = sizes
    generator = torch.Generator().manual_seed(seed)
    a = torch.randint(-128, 128, (m, k), dtype=torch.int8, generator=generator)
    b = torch.randint(-128, 128, (k, n), dtype=torch.int8, generator=generator)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch_exact, "LONGEST_INT8", 0)
        got = torch_exact._modulo_product(a, b, bits)
    assert got.tolist() == wrapped((a.to(torch.int64) @ b.to(torch.int64)).tolist(), bits)


@pytest.mark.parametrize(("bits", "products"), [(16, 1), (31, 1), (32, 1), (33, 3)])
@pytest.mark.parametrize("library_wraps", [True, False])
def test_wrapping_sums_of_any_length_take_one_library_product(monkeypatch, bits, products, library_wraps):
    k, lengths, library = 300_000, [], torch_exact._int_mm
    assert wraps("cpu")
    monkeypatch.setattr(torch_exact, "wraps", lambda device: library_wraps)
    monkeypatch.setattr(torch_exact, "_int_mm", lambda a, b: (lengths.append(a.shape[1]), library(a, b))[1])
    a = torch.full((2, k), -128, dtype=torch.int8)
    a[1] = 127
    result = uncounted(MacUnit(accumulator_bits=bits, overflow="wrap"), a, a.t())
    sums = [[k << 14, -k * 128 * 127], [-k * 128 * 127, k * 127 * 127]]
    assert result.values.tolist() == wrapped(sums, bits)
    assert result.overflows is None
    assert len(lengths) == (products if library_wraps else 3)


@pytest.mark.parametrize("shape", [(0, 3), (3, 0)])
def test_empty_products_of_long_reductions(shape):
    a, b = (torch.ones(n, 200_000, dtype=torch.int8) for n in shape)
    assert uncounted(MacUnit(accumulator_bits=16, overflow="wrap"), a, b.t()).values.shape == shape


def test_a_library_that_saturates_32_bits_is_noticed(monkeypatch, fresh_self_check):
    def saturating(a, b):
        return (a.to(torch.int64) @ b.to(torch.int64)).clamp(-(2**31), 2**31 - 1).to(torch.int32)

    monkeypatch.setattr(torch, "_int_mm", saturating)
    assert int_mm_is_sound()
    assert not wraps("cpu")


def test_an_unsound_library_is_not_asked_whether_it_wraps(monkeypatch, fresh_self_check):
    monkeypatch.setattr(torch_exact, "int_mm_is_sound", lambda: False)
    assert not wraps("cpu")
