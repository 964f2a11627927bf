"""QPyTorch's number objects as formats.

`qtorch.FixedPoint`, `FloatingPoint` and `BlockFloatingPoint` are recognised by class name and module, so that
qtorch, which compiles C++ when its kernels are imported, is not imported here. What their formats become, and
where qtorch's own CPU kernels (release 0.3.0) compute something else than these formats with the rounding
named here:

FixedPoint(wl, fl, clamp, symmetric) -> FixedFormat; "nearest" is "nearest_even".
    * Ties go to even on the CPU (and away from zero in qtorch's CUDA kernels).
    * qtorch adds one half in float32, so the next float32 above one half of a unit becomes 0 instead of 1; of
      what a 16-bit word holds it is the only one that differs.
    * With clamp=False the result is unbounded, so there is no finite set of values: refused.

FloatingPoint(exp, man) -> FloatFormat with bias 2^(exp-1) - 1, subnormals, and neither infinity nor NaN:
every exponent is for numbers, so the largest value is (2 - 2^-man) 2^(2^(exp-1)), twice IEEE's and more.
"nearest" is "nearest_away", saturating. (qtorch's documentation promises ties to even, a bias of 2^(exp-1)
and no subnormals; the kernel differs.)
    * exp=8 is the exception: its top exponent is that of float32's infinities, which qtorch leaves alone. The
      format then has infinity and NaN as float32 has, and the overflow that qtorch has is "infinity".
    * man=23 shifts by a negative number in qtorch: undefined there, an identity here.
    * Below the smallest normal number qtorch adds that number first, in float32: a magnitude within 2^-24 of
      it below a tie is rounded up, and a negative number that becomes zero loses its sign.
    * NaN becomes the largest value there.

BlockFloatingPoint(wl, dim) -> BlockFormat of fixed<wl,wl-2,symmetric> elements, E8M0 scale, rule "floor";
dim=-1 is one exponent for the whole tensor, else one for each index along `dim`.
    * qtorch rounds ties up (toward +infinity), which is "nearest_away" for positive numbers and not for
      negative ones.
    * It adds 6 * 2^e first, in float32: what is within 2^(e-22) of a tie counts as one.
    * A block whose largest magnitude is below 2^-126 has steps of 2^(-126-wl) in qtorch, and of 2^(-125-wl)
      with the smallest scale of E8M0; from 2^126 on its sum is infinite and every
      element becomes the largest magnitude.
    * wl=1 leaves no bit for a magnitude: refused.

Stochastic rounding has other random bits (a float uniform, or 23 - man bits of a generator that can't be
seeded): the probabilities agree, to 2^-24 where qtorch's sum is rounded.
"""

from __future__ import annotations

from typing import Any

from lowbit_sim.numerics.block_formats import BlockFormat, block_floating_point
from lowbit_sim.numerics.formats import FixedFormat, FloatFormat

_NUMBERS = ("FixedPoint", "FloatingPoint", "BlockFloatingPoint")


def is_qtorch(value: object) -> bool:
    """Whether a value is one of QPyTorch's three numbers, or of a class derived from one."""
    return any(
        kind.__name__ in _NUMBERS and kind.__module__.split(".")[0] == "qtorch"
        for kind in type(value).__mro__
    )


def from_qtorch(number: Any) -> FixedFormat | FloatFormat | BlockFormat:
    """The format of a `qtorch.FixedPoint`, `FloatingPoint` or `BlockFloatingPoint`; see the module's docstring.

    Raises:
        ValueError: A number without an equal here: no clamping, or widths beyond 16 bits of integer.
    """
    match next(kind.__name__ for kind in type(number).__mro__ if kind.__name__ in _NUMBERS):
        case "FixedPoint":
            if not number.clamp:
                raise ValueError(f"{number!r} with clamp=False has no largest value, so it is no format")
            return FixedFormat(
                word_length=number.wl, fraction_length=number.fl, symmetric=bool(number.symmetric)
            )
        case "FloatingPoint":
            reserved = number.exp == 8
            return FloatFormat(
                exponent_bits=number.exp,
                mantissa_bits=number.man,
                bias=(1 << (number.exp - 1)) - 1,
                has_infinity=reserved,
                has_nan=reserved,
            )
        case _:
            return block_floating_point(number.wl, dim=None if number.dim == -1 else number.dim)
