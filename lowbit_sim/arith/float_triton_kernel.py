"""The loops of a floating-point accumulator on a GPU: the twin of `float_kernel`. Importing this imports Triton.

The same rounding of an exact sum, to odd and then into the format (see `float_kernel`, which proves it), over a block
of accumulators in float64. A program walks k in ascending order. Operands come with k first: float32 [K, padded rows]
and [K, padded columns]. The kernels must be launched without contraction of products and sums into multiply-adds. A
number is negated by a product with -1: Triton's minus is a difference from 0, which has no -0.
"""

# pyright: reportInvalidTypeForm=false, reportPrivateImportUsage=false, reportGeneralTypeIssues=false

import triton
import triton.language as tl

from lowbit_sim.numerics.triton.random import philox


@triton.jit
def _error(s, x, y):
    """x + y - s, exactly (TwoSum)."""
    rest = s - x
    return (x - (s - rest)) + (y - rest)


@triton.jit
def _round_sum(
    s,
    e,
    largest,
    beyond_value,
    random,
    MANTISSA_BITS: tl.constexpr,
    MIN_EXPONENT: tl.constexpr,
    BELOW_BITS: tl.constexpr,
    H: tl.constexpr,
    D: tl.constexpr,
    EVEN: tl.constexpr,
    NEGATIVE_H: tl.constexpr,
    NEGATIVE_D: tl.constexpr,
    NEGATIVE_EVEN: tl.constexpr,
    RANDOM_BITS: tl.constexpr,
):
    """s + e rounded into a format where s is finite and not zero, and whether it overflowed."""
    bits = s.to(tl.int64, bitcast=True)
    step = tl.where((e > 0.0) == (s > 0.0), 1, -1).to(tl.int64)
    bits = tl.where((e != 0.0) & ((bits & 1) == 0), bits + step, bits)
    magnitude = bits & 0x7FFFFFFFFFFFFFFF
    exponent = (magnitude >> 52) - 1023
    below = tl.maximum(MIN_EXPONENT - exponent, 0)
    mantissa_bits = tl.where(below > 0, BELOW_BITS, MANTISSA_BITS).to(tl.int64)
    significand = (magnitude & 0xFFFFFFFFFFFFF) | 0x10000000000000
    shift = 52 - mantissa_bits + below
    last = exponent + below - mantissa_bits
    negative = s < 0.0
    if RANDOM_BITS:
        kept = ((significand >> tl.minimum(shift - RANDOM_BITS, 63)) + random) >> RANDOM_BITS
        rounds_down = negative & (negative == 0)
    else:
        shift = tl.minimum(shift, 60)
        h = tl.where(negative, NEGATIVE_H, H).to(tl.int64)
        d = tl.where(negative, NEGATIVE_D, D).to(tl.int64)
        even = tl.where(negative, NEGATIVE_EVEN, EVEN).to(tl.int64)
        kept = (significand + (h << (shift - 1)) - d + (even & (significand >> shift))) >> shift
        rounds_down = h == 0
    value = kept.to(tl.float64) * ((last + 1023) << 52).to(tl.float64, bitcast=True)
    beyond = value > largest
    value = tl.where(beyond, tl.where(rounds_down, largest, beyond_value), value)
    return tl.where(negative, value * -1.0, value), beyond


@triton.jit
def _add(
    x,
    y,
    largest,
    beyond_value,
    random,
    overflows,
    swamped,
    impossible,
    MANTISSA_BITS: tl.constexpr,
    MIN_EXPONENT: tl.constexpr,
    BELOW_BITS: tl.constexpr,
    HAS_NAN: tl.constexpr,
    H: tl.constexpr,
    D: tl.constexpr,
    EVEN: tl.constexpr,
    NEGATIVE_H: tl.constexpr,
    NEGATIVE_D: tl.constexpr,
    NEGATIVE_EVEN: tl.constexpr,
    RANDOM_BITS: tl.constexpr,
    COUNT: tl.constexpr,
):
    """x + y rounded once, and the counts of overflows, of swamped additions and of NaN that the format has not."""
    s = x + y
    total, beyond = _round_sum(
        s, _error(s, x, y), largest, beyond_value, random, MANTISSA_BITS, MIN_EXPONENT, BELOW_BITS,
        H, D, EVEN, NEGATIVE_H, NEGATIVE_D, NEGATIVE_EVEN, RANDOM_BITS,
    )  # fmt: skip
    # Infinities and NaN are what is not below infinity.
    special = (s == 0.0) | ((tl.abs(s) < float("inf")) == 0)
    if COUNT:
        lost = ((total == x) & (y != 0.0)) | ((total == y) & (x != 0.0))
        swamped += (lost & (beyond == 0) & (special == 0)).to(tl.int32)
        overflows += (beyond & (special == 0)).to(tl.int32)
    infinite = tl.abs(s) == float("inf")
    unusual = tl.where(infinite, tl.where(s < 0.0, beyond_value * -1.0, beyond_value), s)
    if NEGATIVE_H == 2 and H == 0:
        # Mode "down": an exact zero of opposite signs is -0.
        opposite = (x.to(tl.int64, bitcast=True) < 0) != (y.to(tl.int64, bitcast=True) < 0)
        unusual = tl.where((s == 0.0) & opposite, tl.abs(s) * -1.0, unusual)
    if not HAS_NAN:
        impossible += (s != s).to(tl.int32)
    return tl.where(special, unusual, total), overflows, swamped, impossible


@triton.jit
def _round_product(
    p,
    largest,
    beyond_value,
    impossible,
    MANTISSA_BITS: tl.constexpr,
    MIN_EXPONENT: tl.constexpr,
    BELOW_BITS: tl.constexpr,
    HAS_NAN: tl.constexpr,
    H: tl.constexpr,
    D: tl.constexpr,
    EVEN: tl.constexpr,
    NEGATIVE_H: tl.constexpr,
    NEGATIVE_D: tl.constexpr,
    NEGATIVE_EVEN: tl.constexpr,
):
    """A product in its own format."""
    rounded, _beyond = _round_sum(
        p, p * 0.0, largest, beyond_value, 0, MANTISSA_BITS, MIN_EXPONENT, BELOW_BITS,
        H, D, EVEN, NEGATIVE_H, NEGATIVE_D, NEGATIVE_EVEN, 0,
    )  # fmt: skip
    infinite = tl.abs(p) == float("inf")
    usual = (p != 0.0) & (tl.abs(p) < float("inf"))
    special = tl.where(infinite, tl.where(p < 0.0, beyond_value * -1.0, beyond_value), p)
    if not HAS_NAN:
        impossible += (p != p).to(tl.int32)
    return tl.where(usual, rounded, special), impossible


@triton.jit
def _draw(element, step, site, seed, operand, RANDOM_BITS: tl.constexpr, WIDTH: tl.constexpr):
    """The random integers of int64 elements of the stream; see `random.draw`."""
    if RANDOM_BITS == 0:
        return element
    per_block: tl.constexpr = 128 // WIDTH
    per_word: tl.constexpr = 32 // WIDTH
    block = element // per_block
    place = (element % per_block).to(tl.int32)
    w0, w1, w2, w3 = philox(block, step, site, seed, operand)
    word = place // per_word
    bits = tl.where(word < 2, tl.where(word == 0, w0, w1), tl.where(word == 2, w2, w3))
    bits = bits >> ((place % per_word) * WIDTH).to(tl.uint32)
    return bits.to(tl.int64) & ((1 << RANDOM_BITS) - 1)


#: Numbers for which no variant of the kernels is compiled.
_RUNTIME = (
    "rows",
    "columns",
    "reduction",
    "chunk",
    "seed",
    "operand",
    "step",
    "site",
    "first",
    "per_result",
    "largest",
    "beyond_value",
    "outer_largest",
    "outer_beyond_value",
    "product_largest",
    "product_beyond_value",
)


@triton.jit(do_not_specialize=_RUNTIME)
def accumulate(
    a,
    b,
    out,
    counts,
    rows,
    columns,
    padded_rows,
    padded_columns,
    reduction,
    chunk,
    seed,
    operand,
    step,
    site,
    first,
    per_result,
    largest,
    beyond_value,
    outer_largest,
    outer_beyond_value,
    product_largest,
    product_beyond_value,
    INNER: tl.constexpr,
    OUTER: tl.constexpr,
    PRODUCT: tl.constexpr,
    MODE: tl.constexpr,
    PRODUCT_MODE: tl.constexpr,
    HAS_OUTER: tl.constexpr,
    KAHAN: tl.constexpr,
    RANDOM_BITS: tl.constexpr,
    WIDTH: tl.constexpr,
    COUNT: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    """a [M, K] times b [K, N]; counts int64 [3] receives overflows, swamped additions and impossible NaN.

    INNER, OUTER and PRODUCT are (mantissa bits, smallest exponent, mantissa bits below it, has NaN) of a format, the
    last with -1 mantissa bits for none; MODE and PRODUCT_MODE are (h, d, even) of `float_kernel` for positive, then
    for negative numbers. Result (m, n)'s additions draw elements first + (m columns + n) per_result and on.
    """
    across = padded_columns // BLOCK_N
    m = (tl.program_id(0) // across) * BLOCK_M + tl.arange(0, BLOCK_M)
    n = (tl.program_id(0) % across) * BLOCK_N + tl.arange(0, BLOCK_N)
    inside = (m < rows)[:, None] & (n < columns)[None, :]
    place = m[:, None].to(tl.int64) * columns + n[None, :]
    element = place * per_result + first
    step, site = step.to(tl.uint32), site.to(tl.uint32)
    seed, operand = seed.to(tl.uint32), operand.to(tl.uint32)
    # Sums with a float64 zero, as float arguments are float32 numbers.
    wide = tl.zeros((1, 1), tl.float64)
    largest, beyond_value = wide + largest, wide + beyond_value
    outer_largest, outer_beyond_value = wide + outer_largest, wide + outer_beyond_value
    product_largest, product_beyond_value = wide + product_largest, wide + product_beyond_value
    zero = tl.zeros((BLOCK_M, BLOCK_N), tl.float64)
    overflows = tl.zeros((BLOCK_M, BLOCK_N), tl.int32)
    swamped = tl.zeros((BLOCK_M, BLOCK_N), tl.int32)
    impossible = tl.zeros((BLOCK_M, BLOCK_N), tl.int32)
    outer = zero
    outer_correction = zero * -1.0
    left, right = a + m, b + n
    start = 0
    while start < reduction:
        inner = zero
        correction = zero * -1.0
        length = tl.minimum(chunk, reduction - start)
        k = 0
        while k < length:
            x, y = tl.load(left).to(tl.float64), tl.load(right).to(tl.float64)
            left += padded_rows
            right += padded_columns
            k += 1
            term = x[:, None] * y[None, :]
            if PRODUCT[0] >= 0:
                term, impossible = _round_product(
                    term, product_largest, product_beyond_value, impossible,
                    PRODUCT[0], PRODUCT[1], PRODUCT[2], PRODUCT[3],
                    PRODUCT_MODE[0], PRODUCT_MODE[1], PRODUCT_MODE[2],
                    PRODUCT_MODE[3], PRODUCT_MODE[4], PRODUCT_MODE[5],
                )  # fmt: skip
            inner, correction, element, overflows, swamped, impossible = _step(
                inner, correction, term, element, largest, beyond_value, overflows, swamped, impossible,
                step, site, seed, operand, INNER, MODE, KAHAN, RANDOM_BITS, WIDTH, COUNT,
            )  # fmt: skip
        if HAS_OUTER:
            outer, outer_correction, element, overflows, swamped, impossible = _step(
                outer, outer_correction, inner, element, outer_largest, outer_beyond_value,
                overflows, swamped, impossible,
                step, site, seed, operand, OUTER, MODE, KAHAN, RANDOM_BITS, WIDTH, COUNT,
            )  # fmt: skip
        else:
            outer = inner
        start += chunk
    tl.store(out + place, outer.to(tl.float32), mask=inside)
    tl.atomic_add(counts, tl.sum(tl.where(inside, overflows, 0).to(tl.int64)))
    tl.atomic_add(counts + 1, tl.sum(tl.where(inside, swamped, 0).to(tl.int64)))
    tl.atomic_add(counts + 2, tl.sum(tl.where(inside, impossible, 0).to(tl.int64)))


@triton.jit
def _step(
    total,
    correction,
    term,
    element,
    largest,
    beyond_value,
    overflows,
    swamped,
    impossible,
    step,
    site,
    seed,
    operand,
    FORMAT: tl.constexpr,
    MODE: tl.constexpr,
    KAHAN: tl.constexpr,
    RANDOM_BITS: tl.constexpr,
    WIDTH: tl.constexpr,
    COUNT: tl.constexpr,
):
    """One term added; with KAHAN the four additions of compensated summation, where `correction` holds -c.

    y = term - c; t = total + y; c = (t - total) - y: two pairs of operands, then two more.
    """
    for part in tl.static_range(4 if KAHAN else 1):
        if KAHAN and part == 0:
            x, y = term, correction
        elif not KAHAN or part == 1:
            x, y = total, term
        elif part == 2:
            x, y = correction, total * -1.0
        else:
            x, y = correction, term * -1.0
        random = _draw(element, step, site, seed, operand, RANDOM_BITS, WIDTH)
        added, overflows, swamped, impossible = _add(
            x, y, largest, beyond_value, random, overflows, swamped, impossible,
            FORMAT[0], FORMAT[1], FORMAT[2], FORMAT[3],
            MODE[0], MODE[1], MODE[2], MODE[3], MODE[4], MODE[5], RANDOM_BITS, COUNT,
        )  # fmt: skip
        element += 1
        if not KAHAN:
            total = added
        elif part == 0:
            term = added
        elif part == 1:
            correction = added
        elif part == 2:
            # The new sum is kept in `total`, where the old one is no longer needed.
            total, correction = x, added
        else:
            correction = added * -1.0
    return total, correction, element, overflows, swamped, impossible


@triton.jit(do_not_specialize=("rows", "columns", "reduction", "chunk"))
def in_float32(
    a,
    b,
    out,
    counts,
    rows,
    columns,
    padded_rows,
    padded_columns,
    reduction,
    chunk,
    HAS_OUTER: tl.constexpr,
    COUNT: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    """Sums in float32 arithmetic to nearest even, of operands whose products are exact and sums finite."""
    across = padded_columns // BLOCK_N
    m = (tl.program_id(0) // across) * BLOCK_M + tl.arange(0, BLOCK_M)
    n = (tl.program_id(0) % across) * BLOCK_N + tl.arange(0, BLOCK_N)
    inside = (m < rows)[:, None] & (n < columns)[None, :]
    swamped = tl.zeros((BLOCK_M, BLOCK_N), tl.int32)
    outer = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
    left, right = a + m, b + n
    start = 0
    while start < reduction:
        inner = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
        length = tl.minimum(chunk, reduction - start)
        k = 0
        while k < length:
            term = tl.load(left)[:, None] * tl.load(right)[None, :]
            left += padded_rows
            right += padded_columns
            k += 1
            total = inner + term
            if COUNT:
                swamped += (((total == inner) & (term != 0.0)) | ((total == term) & (inner != 0.0))).to(
                    tl.int32
                )
            inner = total
        if HAS_OUTER:
            total = outer + inner
            if COUNT:
                swamped += (((total == outer) & (inner != 0.0)) | ((total == inner) & (outer != 0.0))).to(
                    tl.int32
                )
            outer = total
        else:
            outer = inner
        start += chunk
    tl.store(out + m[:, None].to(tl.int64) * columns + n[None, :], outer, mask=inside)
    tl.atomic_add(counts + 1, tl.sum(tl.where(inside, swamped, 0).to(tl.int64)))
