"""The integer product on a CUDA device, exact by the machine's own units.

Which one runs, for codes a and b and every |partial sum| <= bound:

| operands              | bound  | product                                                         |
|-----------------------|--------|-----------------------------------------------------------------|
| int8                  | < 2^31 | `torch._int_mm` (tensor cores, int32 accumulation)              |
| magnitudes up to 2048 | < 2^24 | float16 matmul with float32 accumulation and result             |
| any                   | < 2^24 | float32 matmul, TF32 off                                        |
| any                   | < 2^53 | float64 matmul                                                  |
| any                   | above  | float64 matmuls of slices of k that stay below, added in int64  |

Every integer below 2^24 is a float32, and float16 holds integers up to 2048, so that no sum rounds in whatever order
the units add. The first two are checked against int64 once for each device before they are trusted.

`_int_mm` hands the product to cuBLASLt, which wants more than 16 rows, other sizes in multiples of 8 and, on some
devices, row-major a with column-major b (pytorch issue 169956): operands are padded with zeros and laid out so.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from lowbit_sim.arith.bounds import dtype_magnitude, magnitudes

#: Rows below which cuBLASLt refuses an int8 product, and what its other sizes are padded to a multiple of.
_FEWEST_ROWS = 17
_MULTIPLE = 16

#: Integers up to this are float16 values.
_FLOAT16_EXACT = 2048


def cuda_product(a: Tensor, b: Tensor) -> Tensor:
    """a [M, K] times b [K, N], neither empty: int32 or int64, exact (modulo 2^64)."""
    reduction = a.shape[1]
    if a.dtype == b.dtype == torch.int8 and reduction << 14 < 1 << 31 and is_sound("int8", str(a.device)):
        return int8_product(a, b)
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
        return (a.to(torch.float64) @ b.to(torch.float64)).to(torch.int64)
    return _sliced_product(a, b, (1 << 52) // (largest_a * largest_b))


def int8_product(a: Tensor, b: Tensor) -> Tensor:
    """`torch._int_mm` of padded operands: a row-major, b column-major."""
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


def _sliced_product(a: Tensor, b: Tensor, length: int) -> Tensor:
    """The sum of float64 products of at most `length` products each."""
    total = torch.zeros(a.shape[0], b.shape[1], dtype=torch.int64, device=a.device)
    for start in range(0, a.shape[1], length):
        part = slice(start, start + length)
        total += (a[:, part].to(torch.float64) @ b[part].to(torch.float64)).to(torch.int64)
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
