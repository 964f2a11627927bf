"""Library matrix products that are exact, where a proof makes the order of summation immaterial.

Which product runs on the CPU (`cuda_products` has a GPU's), for codes a and b and every |partial sum| <= bound:

| operands              | bound  | product                              |
|-----------------------|--------|--------------------------------------|
| int8                  | < 2^31 | `torch._int_mm` (int32 accumulation) |
| int8, above           |        | the same by pieces of K, added up    |
| int8 and up to +-32639 | < 2^62 | `_int_mm` of each of two int8 digits |
| up to +-32639         | 2^24 to 2^62 | `_int_mm` of four pairs of digits |
| up to +-256           | < 2^24 | float32 matmul                       |
| any                   | < 2^53 | float64 matmul                       |
| any                   | above  | int64 matmul (modulo 2^64)           |

Integers up to 256 are bfloat16 values: a float32 matmul of them has no other bits where torch or its library was told
to take bfloat16 or TF32 for float32 (`torch.set_float32_matmul_precision`, `torch.backends.mkldnn.matmul`), as sums
stay float32.

A wrapping accumulator of up to 32 bits whose overflows nobody counts takes one `_int_mm` of int8 codes whatever K is,
which adds modulo 2^32.

Where the overflow rule waits for a chunk's sum, or bits of it are cut off, each chunk is one such product and the
outer accumulator adds the chunks' sums in their order.

A library convolution is never used: it may choose Winograd or FFT algorithms, which are not exact.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from lowbit_sim.arith.backends.cuda_products import LONGEST_INT8, cuda_product, int8_product, is_sound
from lowbit_sim.arith.bounds import dtype_magnitude, dtype_proof, find_unproven, magnitude
from lowbit_sim.arith.mac import MacUnit, accumulator_range
from lowbit_sim.arith.result import GemmResult, result_dtype
from lowbit_sim.numerics.rounding import RoundingMode

NAME = "torch_exact"

#: The largest integer with two int8 digits to base 256.
_TWO_DIGITS = 127 * 256 + 127

#: Integers up to this are bfloat16 values.
_BFLOAT16_EXACT = 256


def _int_mm(a: Tensor, b: Tensor) -> Tensor:
    return torch._int_mm(a, b)  # pyright: ignore[reportPrivateImportUsage]


def why_not(mac: MacUnit, a: Tensor, b: Tensor, count_overflows: bool) -> str | None:
    """None if library products give the accumulator's bits, else the reason why they may not."""
    reason = why_not_chunks(mac)
    if reason is None or not mac.exact_products:
        return reason
    if mac.overflow == "wrap" and not count_overflows:
        return None
    unproven = find_unproven(mac, a, b)
    return None if unproven.empty else unproven.why


def why_not_chunks(mac: MacUnit) -> str | None:
    """None if `by_chunks` gives the accumulator's bits and overflows for any operands, else the reason why not."""
    if not mac.exact_products:
        return f"products come from the table {mac.products}"
    return "overflow acts inside a chunk" if mac.overflow_at == "addition" else None


def run(mac: MacUnit, a: Tensor, b: Tensor) -> GemmResult:
    """a [M, K] times b [K, N], given that `why_not` is None."""
    unproven = find_unproven(mac, a, b)
    if unproven.empty:
        return proven(mac, a, b, unproven.why)
    return uncounted(mac, a, b) if why_not_chunks(mac) else by_chunks(mac, a, b)


def proven(mac: MacUnit, a: Tensor, b: Tensor, why: str) -> GemmResult:
    """The product of operands that can't overflow, for the reason given."""
    values = exact_product(a, b) if not mac.truncated_bits else _fold_chunks(mac, a, b)[0]
    return GemmResult(values=values.to(result_dtype(mac)), overflows=0, backend=NAME, why=why)


def uncounted(mac: MacUnit, a: Tensor, b: Tensor) -> GemmResult:
    """The product in a wrapping accumulator, whose values need no proof; its overflows stay unknown.

    Only the proof that reads no data is tried, as it saves work.
    """
    why = dtype_proof(mac, a.shape[1], a.dtype, b.dtype)
    if why:
        return proven(mac, a, b, why)
    why = f"sums modulo 2^{mac.result_bits} do not depend on order"
    if not mac.truncated_bits and (mac.overflow_at == "outer" or mac.result_bits <= mac.accumulator_bits):
        # The outer accumulator keeps no more bits than the inner one did: one product serves all chunks.
        values = _modulo_product(a, b, mac.result_bits)
    else:
        values, _ = _fold_chunks(mac, a, b)
    return GemmResult(values=values.to(result_dtype(mac)), overflows=None, backend=NAME, why=why)


def _modulo_product(a: Tensor, b: Tensor, bits: int) -> Tensor:
    """The product modulo 2^bits, as two's complement: int32 or int64."""
    too_long = a.dtype is b.dtype is torch.int8 and a.shape[1] > LONGEST_INT8 and min(len(a), b.shape[1]) > 0
    if too_long and bits <= 32 and wraps(str(a.device)):
        sums = _modulo_int8_product(a, b)
    else:
        sums = exact_product(a, b)
    if sums.dtype is torch.int32 and bits >= 32:
        return sums
    return _wrap(sums.to(torch.int64), bits)


def _modulo_int8_product(a: Tensor, b: Tensor) -> Tensor:
    """The library's int8 product of any length, modulo 2^32: int32."""
    return _int_mm(_canonical(a), _canonical(b)) if a.is_cpu else int8_product(a, b)


def by_chunks(mac: MacUnit, a: Tensor, b: Tensor) -> GemmResult:
    """A product for each chunk, where the overflow rule waits for the chunk's sum (see `MacUnit.overflow_at`)."""
    values, overflows = _fold_chunks(mac, a, b)
    why = f"the sum of a chunk is exact; overflow at {mac.overflow_at}"
    return GemmResult(values=values.to(result_dtype(mac)), overflows=overflows, backend=NAME, why=why)


def _fold_chunks(mac: MacUnit, a: Tensor, b: Tensor) -> tuple[Tensor, int]:
    """The chunks' exact sums through the inner rule, the truncation and the outer accumulator.

    Also how often the rule acted: the overflows, where it acts on the chunks' sums only. No sum leaves int64, as
    neither rule makes a magnitude larger and all products together stay below 2^63.
    """
    reduction = a.shape[1]
    chunk = mac.chunk_length(reduction)
    total = torch.zeros(a.shape[0], b.shape[1], dtype=torch.int64, device=a.device)
    overflows = torch.zeros((), dtype=torch.int64, device=a.device)
    for start in range(0, reduction, chunk):
        part = exact_product(a[:, start : start + chunk], b[start : start + chunk]).to(torch.int64)
        if mac.overflow_at != "outer":
            part, count = _fit(part, mac.accumulator_bits, mac.overflow)
            overflows += count
        moved = _shift_right(part, mac.truncated_bits, mac.truncation)
        total, count = _fit(total + moved, mac.result_bits, mac.overflow)
        overflows += count
    return total << mac.truncated_bits, int(overflows)


def _fit(x: Tensor, bits: int, overflow: str) -> tuple[Tensor, Tensor]:
    """Sums as an accumulator keeps them, and how many of them overflowed (a device is not waited for)."""
    if overflow == "wrap":
        kept = _wrap(x, bits)
    else:
        kept = x.clamp(*accumulator_range(bits, overflow))
    return kept, (kept != x).sum()


def _wrap(x: Tensor, bits: int) -> Tensor:
    if bits == 64:
        return x
    low, _ = accumulator_range(bits)
    return ((x - low) & ((1 << bits) - 1)) + low


def _shift_right(x: Tensor, bits: int, mode: str) -> Tensor:
    """x / 2^bits, rounded; see `numerics.reference.round_to_integer`."""
    if not bits:
        return x
    floor = x >> bits
    fraction = x - (floor << bits)
    half = 1 << (bits - 1)
    match mode:
        case RoundingMode.NEAREST_EVEN:
            up = (fraction > half) | ((fraction == half) & (floor & 1 == 1))
        case RoundingMode.NEAREST_AWAY:
            up = (fraction > half) | ((fraction == half) & (x > 0))
        case RoundingMode.TOWARD_ZERO:
            up = (fraction != 0) & (x < 0)
        case RoundingMode.UP:
            up = fraction != 0
        case _:
            return floor
    return floor + up


def exact_product(a: Tensor, b: Tensor) -> Tensor:
    """The integer product of a [M, K] and b [K, N]: int32 or int64, exact (modulo 2^64 beyond int64)."""
    if a.dtype is b.dtype is torch.int8 and a.is_cpu and int_mm_is_sound():
        return _int8_product(a, b)
    # Under autocast a float32 product would be one of bfloat16, which no bound covers.
    with torch.autocast(a.device.type, enabled=False):
        return _product(a, b)


def plain_int8_product(a: Tensor, b: Tensor, rows: int, reduction: int, columns: int) -> Tensor | None:
    """The library's int32 product of int8 codes on the CPU, sizes given; None where it needs more care.

    It does for operands without elements or in another order than row-major, and where it is not exact at all.
    """
    if a.stride() != (reduction, 1) or b.stride() != (columns, 1) or not rows * reduction * columns:
        return None
    return torch._int_mm(a, b) if int_mm_is_sound() else None  # pyright: ignore[reportPrivateImportUsage]


def _int8_product(a: Tensor, b: Tensor) -> Tensor:
    """int32, or int64 where a sum may not fit it."""
    reduction = a.shape[1]
    if not (a.numel() and b.numel()):
        return a.new_zeros(a.shape[0], b.shape[1], dtype=torch.int32)
    if reduction <= LONGEST_INT8 or reduction * magnitude(a) * magnitude(b) < 1 << 31:
        return _int_mm(_canonical(a), _canonical(b))
    starts = range(0, reduction, LONGEST_INT8)
    parts = (_int8_product(a[:, i : i + LONGEST_INT8], b[i : i + LONGEST_INT8]) for i in starts)
    total = a.new_zeros(a.shape[0], b.shape[1], dtype=torch.int64)
    for part in parts:
        total += part
    return total


def _product(a: Tensor, b: Tensor) -> Tensor:
    if not (a.numel() and b.numel()):
        return torch.zeros(a.shape[0], b.shape[1], dtype=torch.int32, device=a.device)
    if a.device.type == "cuda":
        return cuda_product(a, b)
    reduction = a.shape[1]
    bound = reduction * dtype_magnitude(a) * dtype_magnitude(b)
    sizes = [128 if x.dtype is torch.int8 else magnitude(x) for x in (a, b)]
    bound = min(bound, reduction * sizes[0] * sizes[1])
    if _takes_digits(a, b, sizes, bound):
        return _by_digits(a, b, bound)
    if bound < 1 << 24 and max(sizes) <= _BFLOAT16_EXACT:
        return (a.to(torch.float32) @ b.to(torch.float32)).to(torch.int32)
    if bound < 1 << 53:
        return (a.to(torch.float64) @ b.to(torch.float64)).to(torch.int64)
    return a.to(torch.int64) @ b.to(torch.int64)


def _takes_digits(a: Tensor, b: Tensor, sizes: list[int], bound: int) -> bool:
    """Whether int8 products of the operands' digits are the faster way: two of them, or four instead of float64."""
    wide = sum(x.dtype is not torch.int8 for x in (a, b))
    return (
        max(sizes) <= _TWO_DIGITS and (wide < 2 or bound >= 1 << 24) and bound < 1 << 62 and int_mm_is_sound()
    )


def _by_digits(a: Tensor, b: Tensor, bound: int) -> Tensor:
    """sum_ij 256^(i+j) (digit i of a) (digit j of b)."""
    total = a.new_zeros(a.shape[0], b.shape[1], dtype=torch.int32 if bound < 1 << 31 else torch.int64)
    for i, left in enumerate(_digits(a)):
        for j, right in enumerate(_digits(b)):
            total += _int8_product(left, right).to(total.dtype) << 8 * (i + j)
    return total


def _digits(x: Tensor) -> list[Tensor]:
    """int8 digits to base 256, the lowest first, of integers of magnitude at most `_TWO_DIGITS`."""
    if x.dtype is torch.int8:
        return [x]
    wide = x.to(torch.int32)
    low = ((wide + 128) & 255) - 128
    return [low.to(torch.int8), ((wide - low) >> 8).to(torch.int8)]


def _canonical(x: Tensor) -> Tensor:
    """x in row-major or column-major order, with the strides that its sizes call for.

    On the CPU `torch._int_mm` returns garbage for other strides: zero ones (expanded tensors) and the
    meaningless ones of dimensions of size 1 (pytorch issue 195066). `contiguous` alone does not mend the
    latter, as it takes any stride of such a dimension for contiguous.
    """
    rows, columns = x.shape
    if x.stride() == (columns, 1) or (x.stride() == (1, rows) and min(x.shape) > 1):
        return x
    return x.contiguous().as_strided(x.shape, (columns, 1))


@functools.cache
def int_mm_is_sound() -> bool:
    """Whether `torch._int_mm` returns exact products here, checked once per process.

    It has been wrong on some processors without VNNI (pytorch issue 136746), where a saturating 16-bit
    instruction adds pairs of products: the check's operands are the extreme codes that would show it.
    """
    generator = torch.Generator(device="cpu").manual_seed(0)
    for rows, reduction, columns in ((2, 1, 3), (3, 5, 7), (17, 64, 33), (64, 130, 16)):
        a = torch.randint(-128, 128, (rows, reduction), dtype=torch.int8, generator=generator, device="cpu")
        b = torch.randint(
            -128, 128, (reduction, columns), dtype=torch.int8, generator=generator, device="cpu"
        )
        a[0], b[:, 0] = 127, 127
        a[1], b[:, 1] = -128, -128
        if not torch.equal(_int_mm(a, b).to(torch.int64), a.to(torch.int64) @ b.to(torch.int64)):
            return False
    return True


@functools.cache
def wraps(device: str) -> bool:
    """Whether int8 sums beyond 32 bits come out modulo 2^32 on a CPU or CUDA device, checked once for each.

    A library may saturate them instead. The sums of the check's extreme codes lie beyond 2^32 on both sides.
    """
    if not (int_mm_is_sound() if torch.device(device).type == "cpu" else is_sound("int8", device)):
        return False
    a = torch.full((2, 300_000), 127, dtype=torch.int8, device="cpu")
    a[1] = -128
    sums = _modulo_int8_product(a.to(device), a.t().contiguous().to(device)).cpu()
    return torch.equal(sums, _wrap(a.to(torch.int64) @ a.t().to(torch.int64), 32).to(torch.int32))
