"""The mutations of `mutate.py`: each is one way to get the arithmetic wrong that a test must notice.

The old text stands exactly once in its file; where the code changes, the mutation is written anew.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Mutant:
    """One wrong line.

    Attributes:
        name: What is wrong, in words.
        file: The file, from the repository's root.
        old: The text that is there.
        new: What it is replaced by.
        tests: The test files that must fail.
    """

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


def _group(file: str, tests: tuple[str, ...], *changes: tuple[str, str, str]) -> list[Mutant]:
    return [Mutant(name=name, file=file, old=old, new=new, tests=tests) for name, old, new in changes]


_CONTRACT = "tests/contract/test_gemm_backends.py"
_KERNELS = ("tests/numerics/test_kernels.py", "tests/numerics/test_lanes.py")
_LANES = ("tests/numerics/test_lanes.py",)
_RANDOM = ("tests/numerics/test_random.py", "tests/numerics/test_kernels.py")

MUTANTS: list[Mutant] = [
    *_group(
        "lowbit_sim/numerics/reference.py",
        ("tests/numerics/test_reference.py",),
        ("ties go to odd", "floor % 2 == 1)", "floor % 2 == 0)"),
        ("ties away from zero go up", "fraction == Fraction(1, 2) and y > 0)", "fraction == Fraction(1, 2))"),
        ("the carry needs one more", "+ random >= 2**random_bits", "+ random > 2**random_bits"),
        ("wrapped codes keep no sign", "return low - (1 << bits) if signed and", "return low if signed and"),
    ),
    *_group(
        "lowbit_sim/numerics/random.py",
        ("tests/numerics/test_random.py",),
        ("seven rounds of Philox", "for _ in range(10):", "for _ in range(7):"),
        ("the key is not raised", "(k0 + _WEYL_0) & _MASK, (k1", "k0, (k1"),
    ),
    *_group(
        "lowbit_sim/numerics/kernels.py",
        _KERNELS,
        ("half rounds up", "return int64(np.rint(y))", "return int64(np.floor(y + 0.5))"),
        (
            "negative ties go up",
            "return int64(np.copysign(np.floor(abs(y) + 0.5), y))",
            "return int64(np.floor(y + 0.5))",
        ),
        (
            "a random carry too many",
            "return (scaled + random) >> random_bits",
            "return (scaled + random + 1) >> random_bits",
        ),
        (
            "clips one below the largest code",
            "return min(max(code, qmin), qmax)",
            "return min(max(code, qmin), qmax - 1)",
        ),
        (
            "clips one below the smallest code",
            "return min(max(code, qmin), qmax)",
            "return min(max(code, qmin - 1), qmax)",
        ),
        (
            "the zero point is subtracted",
            "_LIMIT), mode, random, random_bits) + zero_point",
            "_LIMIT), mode, random, random_bits) - zero_point",
        ),
        ("infinities change sides", "code = qmax if y > 0 else qmin", "code = qmin if y > 0 else qmax"),
        (
            "wrapped codes start at zero",
            "return (code & (modulus - 1)) + qmin",
            "return code & (modulus - 1)",
        ),
        (
            "a float's mantissa loses its carry",
            "return (int64(exponent - min_exponent) << mantissa_bits) + mantissa",
            "return (int64(exponent - min_exponent) << mantissa_bits) + min(mantissa, (2 << mantissa_bits) - 1)",
        ),
    ),
    *_group(
        "lowbit_sim/numerics/philox_kernel.py",
        _RANDOM,
        ("nine rounds of Philox in the kernel", "for _ in range(10):", "for _ in range(9):"),
        ("the kernel swaps two words", "return c0, c1, c2, c3", "return c0, c1, c3, c2"),
    ),
    *_group(
        "lowbit_sim/numerics/integer_lanes.py",
        _LANES,
        (
            "lanes add the zero point twice",
            "codes[i] = int32(y[i] + zeros[i])",
            "codes[i] = int32(y[i] + 2 * zeros[i])",
        ),
        ("lanes clip to the range of the codes", "max(scaled, qmin - zeros[i])", "max(scaled, qmin)"),
    ),
    *_group(
        "lowbit_sim/numerics/float_lanes.py",
        _LANES,
        ("lanes round down to infinity", "over = over_negative if b < 0", "over = over_positive if b < 0"),
        ("lanes lose minus zero", "sign_bit if b < 0 else", "sign_bit if q[i] < 0 else"),
    ),
    *_group(
        "lowbit_sim/numerics/table_lanes.py",
        _LANES,
        ("lanes carry too early", "higher = (value > point) |", "higher = (value >= point) |"),
        ("a posit becomes zero", "np.minimum(np.maximum(found, _above(low)), _from(high))", "found"),
    ),
    *_group(
        "lowbit_sim/numerics/absmax_kernel.py",
        ("tests/numerics/test_absmax_kernel.py",),
        ("the sign counts", "_MAGNITUDE = np.int32(0x7FFFFFFF)", "_MAGNITUDE = np.int32(-1)"),
    ),
    *_group(
        "lowbit_sim/numerics/table_kernel.py",
        ("tests/contract/test_formats.py",),
        (
            "ties between table values go up",
            "return y > threshold or (y == threshold and not low_takes_tie)",
            "return y >= threshold",
        ),
        ("the random carry comes late", "return y >= low + way if", "return y > low + way if"),
    ),
    *_group(
        "lowbit_sim/quant/qtensor.py",
        ("tests/quant/test_qtensor.py", "tests/quant/test_quantizer.py"),
        (
            "the zero point is added",
            "self.codes.to(dtype) - self.expanded",
            "self.codes.to(dtype) + self.expanded",
        ),
    ),
    *_group(
        "lowbit_sim/quant/codes.py",
        ("tests/quant/test_codes.py", "tests/quant/test_quantizer.py"),
        (
            "channels get each other's scale",
            "inv = by_run(scale.reciprocal(), granularity, shape)",
            "inv = by_run(scale.reciprocal().flip(0), granularity, shape)",
        ),
    ),
    *_group(
        "lowbit_sim/quant/block_scaling.py",
        ("tests/quant/test_block_scaling.py",),
        (
            "block scales are twice too large",
            "exponent = exponent - 1 - element_exponent(element)",
            "exponent = exponent - element_exponent(element)",
        ),
        ("the tie of the even rule stays", "half_significand >= 1.0 - 2.0", "half_significand > 1.0 - 2.0"),
        (
            "the ceil rule leaves no room",
            "(half_significand > largest_half)",
            "(half_significand >= largest_half)",
        ),
    ),
    *_group(
        "lowbit_sim/arith/backends/tile_ir.py",
        ("tests/arith/backends/test_tile_kernel.py",),
        (
            "a lane saturates where it should wrap",
            "kept = saturated if self.rule == SATURATE else plain",
            "kept = saturated",
        ),
        (
            "overflows are counted against the saturated sum",
            "differs = (saturated, plain)",
            "differs = (kept, saturated)",
        ),
        ("the inner accumulators are not cleared", "        _store(builder, zero, inner, at)\n", ""),
        (
            "a shifted sum moves on as it is",
            "moved = builder.ashr(_load(builder, inner, at, kind), shifts)",
            "moved = _load(builder, inner, at, kind)",
        ),
    ),
    *_group(
        "lowbit_sim/arith/backends/tile_kernel.py",
        ("tests/arith/backends/test_tile_kernel.py",),
        (
            "chunks begin anew at each panel",
            "rest = chunk - (first_k + done) % chunk",
            "rest = chunk - done % chunk",
        ),
        (
            "the outer accumulator has the inner one's range",
            "outer_rule[0],\n                                    outer_rule[1],",
            "inner_rule[0],\n                                    inner_rule[1],",
        ),
    ),
    *_group(
        "lowbit_sim/arith/backends/lanes.py",
        ("tests/arith/backends/test_tile_kernel.py",),
        (
            "products that are too wide are shifted",
            "fits_shifted = product << (width - bits) < room",
            "fits_shifted = product < room",
        ),
        (
            "a lane is taken to hold any total",
            "holds_total = (1 << (bits - 1)) + product <= room - 1",
            "holds_total = True",
        ),
    ),
    *_group(
        "lowbit_sim/arith/backends/general_kernel.py",
        (_CONTRACT,),
        ("a tree drops carries", "        while (k >> level) & 1:\n", "        if (k >> level) & 1:\n"),
        (
            "truncated ties go up",
            "up = fraction > half or (fraction == half and floor & 1 == 1)",
            "up = fraction >= half",
        ),
        (
            "clips one too early",
            "kept = lane(min(max(total, low), high))",
            "kept = lane(min(max(total, low), high - 1))",
        ),
        (
            "a table's rows are read from zero",
            "return table[code & (table.shape[0] - 1)] if",
            "return table[0] if",
        ),
    ),
    *_group(
        "lowbit_sim/arith/bounds.py",
        ("tests/arith/test_bounds.py", _CONTRACT),
        (
            "the range proof is too loose",
            "if chunk * largest > inner_limit or",
            "if chunk * largest > 2 * inner_limit or",
        ),
        ("the norm proof is too loose", "* _ROUND_UP > limit", "* _ROUND_UP > 2 * limit"),
        (
            "the outer accumulator needs no proof",
            "if not everywhere and (chunk < reduction or outer_limit < inner_limit):",
            "if not everywhere and outer_limit < inner_limit:",
        ),
    ),
    *_group(
        "lowbit_sim/arith/backends/torch_exact.py",
        ("tests/arith/test_torch_exact.py", _CONTRACT),
        (
            "float32 sums beyond 24 bits",
            "    if bound < 1 << 24 and max(sizes)",
            "    if bound < 1 << 30 and max(sizes)",
        ),
    ),
    *_group(
        "lowbit_sim/arith/float_kernel.py",
        ("tests/arith/test_float_gemm.py",),
        (
            "sums are rounded twice",
            "return bits + step if e != 0.0 and bits & 1 == 0 else bits",
            "return bits",
        ),
        ("float ties go away from zero", "(h << (shift - 1)) - d + (even", "(h << (shift - 1)) + (even"),
    ),
    *_group(
        "lowbit_sim/ops/im2col.py",
        ("tests/ops/test_im2col.py", "tests/ops/test_conv.py", "tests/ops/test_conv_axes.py"),
        ("padding changes sides", "return self.padding[::2]", "return self.padding[1::2]"),
    ),
    *_group(
        "lowbit_sim/ops/operand.py",
        ("tests/ops/test_stochastic.py",),
        ("two operands draw the same bits", '("grad_weight", "lhs"): 4,', '("grad_weight", "lhs"): 2,'),
    ),
    *_group(
        "lowbit_sim/ops/product.py",
        ("tests/ops/test_quantized_results.py", "tests/ops/test_linear.py"),
        (
            "results are scaled in two steps",
            "return values * math.prod(known[1:], start=known[0]) if known else values",
            "return math.prod(known, start=values) if known else values",
        ),
    ),
    *_group(
        "lowbit_sim/arith/float_kernel.py",
        ("tests/contract/test_float_gemm.py",),
        (
            "the compensation is lost",
            "        term[j] = -term[j]\n    _step(correction, scratch",
            "        term[j] = 0.0\n    _step(correction, scratch",
        ),
        ("the random carry of a sum comes early", "+ random) >> random_bits", "+ random + 1) >> random_bits"),
    ),
    *_group(
        "lowbit_sim/arith/block_gemm.py",
        ("tests/arith/test_block_gemm.py",),
        (
            "blocks share the first scale",
            "torch.mul(self.sa[rows, c, None], self.sb[c], out=terms[c])",
            "torch.mul(self.sa[rows, 0, None], self.sb[c], out=terms[c])",
        ),
        (
            "one side's scale is lost",
            "one.expand(a.shape[0], blocks) if a_scale is None else a_scale",
            "one.expand(a.shape[0], blocks)",
        ),
    ),
    *_group(
        "lowbit_sim/arith/requant.py",
        ("tests/arith/test_requant.py",),
        (
            "the second rounding is left out",
            'if self.rounding == "double":\n            _check',
            "if False:\n            _check",
        ),
        (
            "halves go down",
            "half = torch.bitwise_left_shift(torch.ones_like(right), right - 1)",
            "half = torch.bitwise_left_shift(torch.ones_like(right), right - 1) - 1",
        ),
    ),
    *_group(
        "lowbit_sim/quant/learned_step.py",
        ("tests/quant/test_learned_step.py",),
        (
            "the ends of the range count as inside",
            "inside = (low < scaled) & (scaled < high)",
            "inside = (low <= scaled) & (scaled <= high)",
        ),
        (
            "a step's gradient forgets the value",
            "torch.where(inside, values - scaled, values)",
            "torch.where(inside, values, values)",
        ),
    ),
    *_group(
        "lowbit_sim/quant/transforms.py",
        ("tests/quant/test_transforms.py",),
        ("a butterfly adds twice", "(top + bottom, top - bottom)", "(top + bottom, top + bottom)"),
    ),
    *_group(
        "lowbit_sim/ops/conv_transpose.py",
        ("tests/ops/test_conv_axes.py",),
        (
            "the gradient of the weight keeps its sides",
            '_OTHER: dict[Side, Side] = {"lhs": "rhs", "rhs": "lhs"}',
            '_OTHER: dict[Side, Side] = {"lhs": "lhs", "rhs": "rhs"}',
        ),
    ),
    *_group(
        "lowbit_sim/arith/norms_kernel.py",
        ("tests/arith/test_bounds.py",),
        (
            "a transposed operand's norm keeps the first chunk's",
            "squares[part, first + j] = max(squares[part, first + j], square[j])",
            "squares[part, first + j] = square[j]",
        ),
        ("the largest magnitude has a sign", "top = max(top, value)", "top = max(top, np.int64(x[row, k]))"),
    ),
    *_group(
        "lowbit_sim/ops/counts_kernel.py",
        ("tests/ops/test_counts.py",),
        ("the end itself is not beyond", "(y >= most) | (y <= least)", "(y > most) | (y < least)"),
        ("zeros vanish", "became_zero & (value != np.float32(0)) &", "became_zero &"),
    ),
    *_group(
        "lowbit_sim/training/optimizers.py",
        ("tests/training/test_optimizers.py",),
        (
            "the second moment is kept as the first",
            'update.keep("second_moment", square)',
            'update.keep("momentum", square)',
        ),
    ),
]
