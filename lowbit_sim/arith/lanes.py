"""Additions in a floating-point accumulator as vector instructions: the steps that `lanes_tile` is made of.

Sixteen float32 lanes hold sixteen accumulators. With t an exact product, x an accumulator's value and s = x + t:

* `direct`: the accumulator is float32, and the machine's addition is its own.
* `on_grid`: to nearest even. With the magic number M = 1.5 2^(e + 23 - m), e the exponent of s and no less than the
  format's smallest, the last place of M is the format's at s, so that (s + M) - M is s rounded. The sign of s is put
  back for zeros.
* `by_mode` and `randomly`: any mode in integers, from the significand and the number of its bits below the format's
  last place; see `float_kernel` for the formula.

Where products are multiples of 2^(smallest exponent - m), so are all sums, and those below the smallest normal number
are exact. Then the last place needs no look at the exponent's limit, no sum rounds to zero, and cheaper ones do:

* `near`: the magic number is +-2^(e + 23 - m), the sign and exponent of s times a constant: two multiply-adds.
* `cut` and `outward`: the bits of s, plus what carries into the last place, minus the bits below
  it. A float's bits are in order of its magnitude, so that a carry into the exponent is right as it is.

s has 24 bits, so the sum is rounded twice. Which first rounding makes that one rounding:

* None, where no sum has more than 24 bits.
* To nearest, for `on_grid` and `near`, where p = m + 1 <= 11 and products have q <= p bits (Figueroa, "When is double
  rounding innocuous?", SIGNUM Newsletter 1995, for q = p). The two differ only if s is a midpoint of neighbours, an
  odd multiple of 2^(e - p), and not x + t. Then s has lost places, so the smaller of |x| and |t| has its last place
  below 2^(e - 23) and is at most (2^p - 1) 2^(e - 24). The larger, y, has at most p bits and an exponent of at least
  e - 1: it is a multiple of 2^(e - p), and so is s - y. But |s - y| <= (2^p - 1) 2^(e - 24) + 2^(e - 24)
  < 2^(e - p), as 2p < 24. So s = y, which has p bits and is no midpoint. Below the smallest normal number s has lost
  places only of t, x is a multiple of the spacing, and s = x follows alike.
* To odd (`to_odd`), for p <= 22 in any mode: the last bit tells that places were lost.
* Toward zero (`toward_zero`), for `cut` and random bits: what is cut off at the last place, one bit below it (ties
  away) or r bits below it is the same.
* In the same direction, for `outward`: what is beyond a number of the format is not rounded to its other side.

Where the processor has no additions with a rounding of their own, the sum's exact error (Knuth's TwoSum) tells what
the first rounding did.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from llvmlite import ir

#: Lanes of a vector.
LANES = 16

_FLOAT = ir.FloatType()
_INT = ir.IntType(32)
FLOATS = ir.VectorType(_FLOAT, LANES)
INTS = ir.VectorType(_INT, LANES)
BITS = ir.VectorType(ir.IntType(1), LANES)

_EXPONENT, _SIGN, _MAGNITUDE, _FRACTION = 0x7F800000, 0x80000000, 0x7FFFFFFF, 0x007FFFFF
_ALL = 0xFFFFFFFF

#: _MM_FROUND_TO_NEG_INF, _TO_POS_INF and _TO_ZERO with exceptions suppressed.
_DOWN, _UP, _TO_ZERO = 9, 10, 11


@dataclass(frozen=True, kw_only=True)
class Format:
    """A format and its rounding as vectors of equal lanes, and what was found out about the operands.

    Attributes:
        least: Bits of the smallest normal number.
        mantissa_bits: m.
        largest: The largest value.
        beyond: What stands for positive and for negative numbers beyond it: two magnitudes.
        mode: (h, d, even) of `float_kernel` of positive numbers, then of negative ones.
        down: All ones in mode "down", whose exact zeros are negative unless both numbers are positive.
        random_bits: r.
        above: 2^(23 - m).
        magic: 1.5 times that.
        kept: The bits of a float down to the format's last place.
        half: The bit below it.
        randoms: The r bits below it.
    """

    least: Any
    mantissa_bits: Any
    largest: Any
    beyond: tuple[Any, Any]
    mode: tuple[Any, ...]
    down: Any
    random_bits: Any
    above: Any
    magic: Any
    kept: Any
    half: Any
    randoms: Any


@dataclass(frozen=True, kw_only=True)
class Lanes:
    """Emits vector instructions.

    Attributes:
        builder: Where they go.
        rounded_additions: Whether the processor adds with a rounding given in the instruction (AVX-512).
        fused: Whether it multiplies and adds in one instruction.
    """

    builder: ir.IRBuilder
    rounded_additions: bool
    fused: bool

    def ints(self, value: int) -> ir.Constant:
        """An integer in every lane."""
        return ir.Constant(INTS, [value] * LANES)

    def floats(self, value: float) -> ir.Constant:
        """A float in every lane."""
        return ir.Constant(FLOATS, [value] * LANES)

    @staticmethod
    def spread(builder: ir.IRBuilder, scalar: Any, kind: Any) -> Any:
        """A scalar in every lane of a vector type."""
        one = builder.insert_element(ir.Constant(kind, ir.Undefined), scalar, _INT(0))
        zeros = ir.Constant(ir.VectorType(_INT, kind.count), [0] * kind.count)
        return builder.shuffle_vector(one, ir.Constant(kind, ir.Undefined), zeros)

    def splat(self, scalar: Any) -> Any:
        """A scalar in every lane."""
        return self.spread(self.builder, scalar, ir.VectorType(scalar.type, LANES))

    def as_ints(self, x: Any) -> Any:
        """The bits of floats."""
        return self.builder.bitcast(x, INTS)

    def as_floats(self, x: Any) -> Any:
        """The floats of bits."""
        return self.builder.bitcast(x, FLOATS)

    def call(self, name: str, kind: Any, *arguments: Any) -> Any:
        """A vector intrinsic of LLVM."""
        signature = ir.FunctionType(kind, [a.type for a in arguments])
        function = self.builder.module.globals.get(name) or ir.Function(self.builder.module, signature, name)
        return self.builder.call(function, arguments)

    def smaller(self, x: Any, y: Any) -> Any:
        """The smaller of signed integers."""
        return self.call("llvm.smin.v16i32", INTS, x, y)

    def larger(self, x: Any, y: Any) -> Any:
        """The larger of signed integers."""
        return self.call("llvm.smax.v16i32", INTS, x, y)

    def magnitude(self, x: Any) -> Any:
        """|x|."""
        return self.call("llvm.fabs.v16f32", FLOATS, x)

    def multiply_add(self, x: Any, y: Any, z: Any) -> Any:
        """x y + z, where x y is exact: one rounding either way."""
        if self.fused:
            return self.call("llvm.fma.v16f32", FLOATS, x, y, z)
        return self.builder.fadd(z, self.builder.fmul(x, y))

    def _with_sign(self, bits: Any, sign_of: Any) -> Any:
        b = self.builder
        return b.or_(b.and_(bits, self.ints(_MAGNITUDE)), b.and_(sign_of, self.ints(_SIGN)))

    def _sum(self, x: Any, term: tuple[Any, Any], rounding: int) -> Any:
        """x + left right in one of the processor's roundings."""
        return self.call("llvm.x86.avx512.vfmadd.ps.512", FLOATS, *term, x, _INT(rounding))

    def _error(self, s: Any, x: Any, t: Any) -> Any:
        """x + t - s, exactly."""
        b = self.builder
        rest = b.fsub(s, x)
        return b.fadd(b.fsub(x, b.fsub(s, rest)), b.fsub(t, rest))

    def _away(self, s: Any, error: Any) -> Any:
        """1 where the error has the sign of s, else -1."""
        b = self.builder
        differ = b.ashr(b.xor(self.as_ints(s), self.as_ints(error)), self.ints(31))
        return b.or_(differ, self.ints(1))

    def nearest(self, x: Any, term: tuple[Any, Any]) -> Any:
        """x + left right, whose product is exact, to nearest even."""
        return self.multiply_add(*term, x)

    def to_odd(self, x: Any, term: tuple[Any, Any]) -> Any:
        """x + left right rounded to odd; infinite or NaN only where the sum to nearest or a neighbour of it is."""
        b = self.builder
        if self.rounded_additions:
            below, above = self._sum(x, term, _DOWN), self._sum(x, term, _UP)
            cut = self.as_ints(self._sum(x, term, _TO_ZERO))
            lost = b.fcmp_unordered("!=", below, above)
            return self.as_floats(b.select(lost, b.or_(cut, self.ints(1)), cut))
        t = b.fmul(*term)
        s = b.fadd(x, t)
        error, bits = self._error(s, x, t), self.as_ints(s)
        even = b.icmp_signed("==", b.and_(bits, self.ints(1)), self.ints(0))
        moves = b.and_(b.fcmp_unordered("!=", error, self.floats(0.0)), even)
        return self.as_floats(b.select(moves, b.add(bits, self._away(s, error)), bits))

    def toward_zero(self, x: Any, term: tuple[Any, Any]) -> Any:
        """x + left right rounded toward zero."""
        if self.rounded_additions:
            return self._sum(x, term, _TO_ZERO)
        b = self.builder
        t = b.fmul(*term)
        s = b.fadd(x, t)
        error, bits = self._error(s, x, t), self.as_ints(s)
        too_far = b.icmp_signed("<", b.xor(bits, self.as_ints(error)), self.ints(0))
        moves = b.and_(b.fcmp_unordered("!=", error, self.floats(0.0)), too_far)
        return self.as_floats(b.select(moves, b.sub(bits, self.ints(1)), bits))

    def directed(self, x: Any, term: tuple[Any, Any], *, down: bool) -> Any:
        """x + left right rounded down or up, where the processor can."""
        return self._sum(x, term, _DOWN if down else _UP)

    def near(self, s: Any, fmt: Format) -> Any:
        """s to nearest even, where no sum underflows."""
        b = self.builder
        power = self.as_floats(b.and_(self.as_ints(s), self.ints(_SIGN | _EXPONENT)))
        return self._there_and_back(s, power, fmt.above)

    def cut(self, s: Any, fmt: Format, more: Any = None) -> Any:
        """s, with `more` added to the bits of its magnitude, toward zero, where no sum underflows."""
        b = self.builder
        bits = self.as_ints(s)
        return self.as_floats(b.and_(bits if more is None else b.add(bits, more), fmt.kept))

    def outward(self, s: Any, fmt: Format, negative: bool) -> Any:
        """s, rounded down if `negative` and else up, in the same direction, where no sum underflows."""
        b = self.builder
        sign = b.ashr(self.as_ints(s), self.ints(31))
        moving = sign if negative else b.xor(sign, self.ints(_ALL))
        return self.cut(s, fmt, b.and_(moving, b.xor(fmt.kept, self.ints(_ALL))))

    def on_grid(self, s: Any, fmt: Format) -> Any:
        """s to nearest even."""
        b = self.builder
        bits = self.as_ints(s)
        power = self.as_floats(self.larger(b.and_(bits, self.ints(_EXPONENT)), fmt.least))
        rounded = self._there_and_back(s, power, fmt.magic)
        return self.as_floats(self._with_sign(self.as_ints(rounded), bits))

    def _there_and_back(self, s: Any, power: Any, scale: Any) -> Any:
        """(s + power scale) - power scale; the product is exact."""
        return self.multiply_add(power, self.builder.fneg(scale), self.multiply_add(power, scale, s))

    def _places(self, s: Any, fmt: Format) -> tuple[Any, Any, Any]:
        """Significand, its bits below the format's last place, and the exponent field of its leading place."""
        b = self.builder
        magnitude = b.and_(self.as_ints(s), self.ints(_MAGNITUDE))
        significand = b.or_(b.and_(magnitude, self.ints(_FRACTION)), self.ints(_FRACTION + 1))
        field, least = b.lshr(magnitude, self.ints(23)), b.lshr(fmt.least, self.ints(23))
        leading = self.larger(field, least)
        below = b.add(b.sub(self.ints(23), fmt.mantissa_bits), b.sub(leading, field))
        return significand, below, leading

    def _from_places(self, kept: Any, leading: Any, s: Any, zero: Any, fmt: Format) -> Any:
        """kept times the format's last place, with the sign of s; `zero` where s is 0."""
        b = self.builder
        bits = self.as_ints(b.uitofp(kept, FLOATS))
        power = b.shl(b.sub(b.sub(leading, self.ints(127)), fmt.mantissa_bits), self.ints(23))
        some = b.icmp_signed("!=", kept, self.ints(0))
        value = self._with_sign(b.select(some, b.add(bits, power), self.ints(0)), self.as_ints(s))
        return b.select(b.fcmp_ordered("==", s, self.floats(0.0)), zero, self.as_floats(value))

    def by_mode(self, s: Any, x: Any, t: Any, fmt: Format) -> Any:
        """s, the sum of x and t rounded to odd, in any mode but stochastic."""
        b = self.builder
        significand, below, leading = self._places(s, fmt)
        below = self.smaller(below, self.ints(31))
        negative = b.icmp_signed("<", self.as_ints(s), self.ints(0))
        half, less, even = (b.select(negative, fmt.mode[3 + i], fmt.mode[i]) for i in range(3))
        rest = b.shl(half, b.sub(below, self.ints(1)))
        odd = b.and_(even, b.lshr(significand, below))
        kept = b.lshr(b.add(b.sub(b.add(significand, rest), less), odd), below)
        x_bits, t_bits = self.as_ints(x), self.as_ints(t)
        either = b.and_(b.or_(x_bits, t_bits), fmt.down)
        sign = b.and_(b.or_(b.and_(x_bits, t_bits), either), self.ints(_SIGN))
        return self._from_places(kept, leading, s, self.as_floats(sign), fmt)

    def randomly(self, s: Any, random: Any, fmt: Format) -> Any:
        """s, a sum rounded toward zero, with a random integer of r bits."""
        b = self.builder
        significand, below, leading = self._places(s, fmt)
        cut = b.lshr(significand, self.smaller(b.sub(below, fmt.random_bits), self.ints(31)))
        kept = b.lshr(b.add(cut, random), fmt.random_bits)
        return self._from_places(kept, leading, s, s, fmt)
