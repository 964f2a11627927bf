"""A GPU's exact products, on the CPU's tensors: which one runs, its padding, and that a wrong one is noticed."""

import pytest
import torch

from lowbit_sim.arith.backends import cuda_products
from lowbit_sim.arith.backends.cuda_products import cuda_product, full_precision, int8_product, is_sound
from tests.arith.test_torch_exact import layouts


@pytest.fixture
def fresh_checks():
    is_sound.cache_clear()
    yield
    is_sound.cache_clear()


def exact(a, b):
    return a.to(torch.int64) @ b.to(torch.int64)


def random_pair(m, k, n, low, high, dtype):
    generator = torch.Generator().manual_seed(0)
    a = torch.randint(low, high + 1, (m, k), generator=generator).to(dtype)
    b = torch.randint(low, high + 1, (k, n), generator=generator).to(dtype)
    a[0], b[:, 0] = high, high
    return a, b


@pytest.mark.parametrize(
    ("m", "k", "n"), [(1, 1, 1), (16, 16, 16), (17, 8, 24), (31, 33, 15), (32, 16, 16), (33, 64, 32)]
)
def test_padding_changes_no_int8_product(m, k, n):
    a, b = random_pair(m, k, n, -128, 127, torch.int8)
    product = int8_product(a, b)
    assert product.dtype == torch.int32
    assert product.is_contiguous()
    assert torch.equal(product.to(torch.int64), exact(a, b))


def test_int8_products_of_views():
    torch.manual_seed(0)
    for a in layouts(2, 8):
        for b in layouts(8, 17):
            assert torch.equal(int8_product(a, b).to(torch.int64), exact(a, b))


def test_the_library_sees_the_layout_that_every_device_takes(monkeypatch):
    seen = []
    library = torch._int_mm  # pyright: ignore[reportPrivateImportUsage]

    def int_mm(a, b):
        seen.append((tuple(a.shape), a.is_contiguous(), tuple(b.shape), b.t().is_contiguous()))
        return library(a, b)

    monkeypatch.setattr(torch, "_int_mm", int_mm)
    int8_product(*random_pair(3, 5, 7, -128, 127, torch.int8))
    assert seen == [((32, 16), True, (16, 16), True)]


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
    a, b = random_pair(9, k, 8, low, high, dtype)
    assert torch.equal(cuda_product(a, b).to(torch.int64), exact(a, b))


def test_long_reductions_of_wide_codes_are_sliced():
    a, b = random_pair(2, 1000, 3, -65535, 65535, torch.int32)
    assert torch.equal(cuda_products._sliced_product(exact, a, b, 7), exact(a, b))


@pytest.mark.parametrize(
    ("k", "slices"),
    [(131_071, [131_071]), (131_072, [131_056, 16]), (262_145, [131_056, 131_056, 33])],
)
def test_long_reductions_of_int8_codes_take_the_int8_product_of_slices(monkeypatch, k, slices):
    ran = []

    def product(a, b):
        ran.append(a.shape[1])
        return int8_product(a, b)

    monkeypatch.setattr(cuda_products, "int8_product", product)
    monkeypatch.setattr(cuda_products, "is_sound", lambda name, device: name == "int8")
    a = torch.full((2, k), -128, dtype=torch.int8)
    a[1] = 127
    assert cuda_product(a, a.t()).tolist() == [[k << 14, -k * 128 * 127], [-k * 128 * 127, k * 127 * 127]]
    assert ran == slices


def test_padded_sums_beyond_32_bits_wrap():
    a = torch.full((1, 300_001), 127, dtype=torch.int8)
    assert int8_product(a, a.t()).item() == 300_001 * 127 * 127 - 2**32


@pytest.mark.parametrize("high", [127, 2048, 2049])
def test_float16_holds_codes_up_to_2048(monkeypatch, high):
    ran = []

    def product(a, b):
        ran.append(a.dtype)
        return exact(a, b).to(torch.float32)

    monkeypatch.setattr(cuda_products, "is_sound", lambda name, device: name == "float16")
    monkeypatch.setattr(cuda_products, "float16_product", product)
    a = torch.tensor([[high, 1]], dtype=torch.int16)
    assert cuda_product(a, a.t()).item() == high**2 + 1
    assert ran == ([torch.int16] if high <= 2048 else [])


def test_sums_beyond_float32_are_not_left_to_it():
    a = torch.tensor([[4096, 1]], dtype=torch.int16)
    assert cuda_product(a, a.t()).item() == 2**24 + 1


def test_switches_are_put_back():
    matmul = torch.backends.cuda.matmul
    before = matmul.fp32_precision, matmul.allow_fp16_reduced_precision_reduction
    matmul.fp32_precision = "tf32"
    try:
        with full_precision():
            assert matmul.fp32_precision == "ieee"
            assert not matmul.allow_fp16_reduced_precision_reduction
        assert matmul.fp32_precision == "tf32"
    finally:
        matmul.fp32_precision, matmul.allow_fp16_reduced_precision_reduction = before


def test_a_unit_that_is_wrong_or_missing_is_noticed(monkeypatch, fresh_checks):
    def saturating(a, b):
        return exact(a, b).clamp(-(2**15), 2**15 - 1).to(torch.int32)

    def missing(a, b):
        raise RuntimeError("CUBLAS_STATUS_NOT_SUPPORTED")

    for product in (saturating, missing):
        monkeypatch.setitem(cuda_products._CHECKED, "int8", (product, 128))
        is_sound.cache_clear()
        assert not is_sound("int8", "cpu")
        a, b = random_pair(3, 20, 4, -128, 127, torch.int8)
        assert torch.equal(cuda_product(a, b).to(torch.int64), exact(a, b))


def test_this_machines_int8_product_is_sound(fresh_checks):
    assert is_sound("int8", "cpu")
