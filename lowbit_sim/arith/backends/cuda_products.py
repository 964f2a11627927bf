"""The integer product on a CUDA device, exact by the machine's own units.

Which one runs, for codes a and b and every |partial sum| <= bound:

| operands              | bound  | product                                                         |
|-----------------------|--------|-----------------------------------------------------------------|
| int8                  | < 2^31 | `torch._int_mm` (tensor cores, int32 accumulation)              |
| int8                  | above  | the same of slices of k that stay below, added in int64         |
| magnitudes up to 2048 | < 2^24 | float16 matmul with float32 accumulation and result             |
| any                   | < 2^24 | float32 matmul, TF32 off                                        |
| any                   | < 2^53 | float64 matmul                                                  |
| any                   | above  | float64 matmuls of slices of k that stay below, added in int64  |

Every integer below 2^24 is a float32, and float16 holds integers up to 2048, so that no sum rounds in whatever order
the units add. `_int_mm` and float16 are checked against int64 once for each device before they are trusted.

`_int_mm` hands the product to cuBLASLt, which wants more than 16 rows, other sizes in multiples of 8 and, on some
devices, row-major a with column-major b (pytorch issue 169956). With 17 rows it has returned wrong sums (pytorch
issue 107671). So operands are padded with zeros, to at least 32 rows and multiples of 16, and laid out so.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from lowbit_sim.arith.bounds import dtype_magnitude, magnitudes

#: Rows that an int8 product has at least, and what its other sizes are padded to a multiple of.
_FEWEST_ROWS = 32
_MULTIPLE = 16

#: The longest reduction of any int8 codes whose sum fits int32.
LONGEST_INT8 = (1 << 31) // (1 << 14) - 1

#: The longest that needs no padding either.
_INT8_SLICE = LONGEST_INT8 // _MULTIPLE * _MULTIPLE

#: Integers up to this are float16 values.
_FLOAT16_EXACT = 2048


def cuda_product(a: Tensor, b: Tensor) -> Tensor:
    """a [M, K] times b [K, N], neither empty: int32 or int64, exact (modulo 2^64)."""
    reduction = a.shape[1]
    if a.dtype == b.dtype == torch.int8 and is_sound("int8", str(a.device)):
        if reduction <= LONGEST_INT8:
            return int8_product(a, b)
        return _sliced_product(int8_product, a, b, _INT8_SLICE)
    largest_a, largest_b = dtype_magnitude(a), dtype_magnitude(b)
    if reduction * largest_a * largest_b >= 1 << 24:
        largest_a, largest_b = magnitudes(a, b)
    bound = reduction * largest_a * largest_b
    if bound < 1 << 24:
        narrow = max(largest_a, largest_b) <= _FLOAT16_EXACT
        if narrow and is_sound("float16", str(a.device)):
            return float16_product(a, b).to(torch.int32)
        return _float32_product(a, b).to(torch.int32)
    if bound < 1 << 53:
        return _float64_product(a, b)
    return _sliced_product(_float64_product, a, b, (1 << 52) // (largest_a * largest_b))


def int8_product(a: Tensor, b: Tensor) -> Tensor:
    """`torch._int_mm` of padded operands, int32: a row-major, b column-major."""
    rows, columns = a.shape[0], b.shape[1]
    left, right = _padded(a, _FEWEST_ROWS), _padded(b.t(), _MULTIPLE, _MULTIPLE)
    product = torch._int_mm(left, right.t())  # pyright: ignore[reportPrivateImportUsage]
    return product[:rows, :columns].contiguous()


def _padded(x: Tensor, fewest_rows: int, multiple: int = 1) -> Tensor:
    """x [n, K] row-major, with zeros to a multiple of rows, at least so many, and to a multiple of 16 columns."""
    rows = max(-(-x.shape[0] // multiple) * multiple, fewest_rows)
    columns = -(-x.shape[1] // _MULTIPLE) * _MULTIPLE
    if (rows, columns) == tuple(x.shape):
        return x.contiguous()
    padded = x.new_zeros(rows, columns)
    padded[: x.shape[0], : x.shape[1]] = x
    return padded


def float16_product(a: Tensor, b: Tensor) -> Tensor:
    """The tensor cores' product of integers up to 2048, float32."""
    with full_precision():
        return torch.mm(a.to(torch.float16), b.to(torch.float16), out_dtype=torch.float32)


def _float32_product(a: Tensor, b: Tensor) -> Tensor:
    with full_precision():
        return a.to(torch.float32) @ b.to(torch.float32)


@contextmanager
def full_precision() -> Iterator[None]:
    """On a CUDA device float32 products without TF32, and no sums of a float16 product in float16."""
    matmul = torch.backends.cuda.matmul
    # Since torch 2.9 a backend has a precision of its own, and reading the older switch may raise.
    switch, off = ("fp32_precision", "ieee") if hasattr(matmul, "fp32_precision") else ("allow_tf32", False)
    tf32, half = getattr(matmul, switch), matmul.allow_fp16_reduced_precision_reduction
    setattr(matmul, switch, off)
    matmul.allow_fp16_reduced_precision_reduction = False
    try:
        yield
    finally:
        setattr(matmul, switch, tf32)
        matmul.allow_fp16_reduced_precision_reduction = half


def _float64_product(a: Tensor, b: Tensor) -> Tensor:
    return (a.to(torch.float64) @ b.to(torch.float64)).to(torch.int64)


def _sliced_product(product: Callable[[Tensor, Tensor], Tensor], a: Tensor, b: Tensor, length: int) -> Tensor:
    """The sum, int64, of the products of slices of at most `length` of k."""
    total = torch.zeros(a.shape[0], b.shape[1], dtype=torch.int64, device=a.device)
    for start in range(0, a.shape[1], length):
        part = slice(start, start + length)
        total += product(a[:, part], b[part])
    return total


_CHECKED: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], int]] = {
    "int8": (int8_product, 128),
    "float16": (float16_product, 127),
}


@functools.cache
def is_sound(name: str, device: str) -> bool:
    """Whether a unit's products are exact on a device, checked once: extreme and random codes, sums to its bound."""
    product, largest = _CHECKED[name]
    generator = torch.Generator().manual_seed(0)
    try:
        for rows, reduction, columns in ((2, 1, 3), (17, 64, 33), (130, 1000, 72)):
            a = torch.randint(-largest, 128, (rows, reduction), dtype=torch.int8, generator=generator)
            b = torch.randint(-largest, 128, (reduction, columns), dtype=torch.int8, generator=generator)
            a[0], b[:, 0], a[1], b[:, 1] = 127, 127, -largest, -largest
            expected = a.to(torch.int64) @ b.to(torch.int64)
            if not torch.equal(product(a.to(device), b.to(device)).to(torch.int64).cpu(), expected):
                return False
    except (
        RuntimeError
    ):  # an operand layout, or a result in float32, that this device or version does not have
        return False
    return True
