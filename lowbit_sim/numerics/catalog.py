"""The named formats, and the parser of their names.

Sources: OCP 8-bit Floating Point Specification 1.0 (E4M3 without infinity, E5M2), OCP Microscaling
Formats 1.0 (E3M2, E2M3, E2M1, E8M0 and the MX blocks of 32), NVIDIA's description of NVFP4 (Blackwell), IEEE 754-2019
(binary16, binary32), the Posit Standard (2022), and the public descriptions of bfloat16 and TensorFloat-32.
"""

from __future__ import annotations

from typing import Any

from lowbit_sim.numerics.block_formats import BlockFormat
from lowbit_sim.numerics.families import FAMILIES, parse_family
from lowbit_sim.numerics.formats import (
    ExponentFormat,
    FixedFormat,
    FloatFormat,
    Format,
    IntFormat,
    LogFormat,
    PositFormat,
)
from lowbit_sim.numerics.interop import from_qtorch, is_qtorch
from lowbit_sim.numerics.suggest import unknown

INT2 = IntFormat(bits=2)
INT4 = IntFormat(bits=4)
INT8 = IntFormat(bits=8)
INT16 = IntFormat(bits=16)
UINT4 = IntFormat(bits=4, signed=False, symmetric=False)
UINT8 = IntFormat(bits=8, signed=False, symmetric=False)
FP8_E4M3FN = FloatFormat(exponent_bits=4, mantissa_bits=3, bias=7, has_infinity=False, name="fp8_e4m3fn")
FP8_E5M2 = FloatFormat(exponent_bits=5, mantissa_bits=2, bias=15, name="fp8_e5m2")
FP4_E2M1 = FloatFormat(
    exponent_bits=2, mantissa_bits=1, bias=1, has_infinity=False, has_nan=False, name="fp4_e2m1"
)
FP6_E3M2 = FloatFormat(
    exponent_bits=3, mantissa_bits=2, bias=3, has_infinity=False, has_nan=False, name="fp6_e3m2"
)
FP6_E2M3 = FloatFormat(
    exponent_bits=2, mantissa_bits=3, bias=1, has_infinity=False, has_nan=False, name="fp6_e2m3"
)
BF16 = FloatFormat(exponent_bits=8, mantissa_bits=7, bias=127, name="bf16")
FP16 = FloatFormat(exponent_bits=5, mantissa_bits=10, bias=15, name="fp16")
TF32 = FloatFormat(exponent_bits=8, mantissa_bits=10, bias=127, name="tf32")
FP32 = FloatFormat(exponent_bits=8, mantissa_bits=23, bias=127, name="fp32")
LOG4_RADIX2 = LogFormat(exponent_bits=3, radix=2, name="log4_radix2")
LOG4_RADIX4 = LogFormat(exponent_bits=3, radix=4, name="log4_radix4")
LOG4_RADIX4_ODD = LogFormat(exponent_bits=3, radix=4, odd=True, name="log4_radix4_odd")
POSIT8 = PositFormat(bits=8)
POSIT16 = PositFormat(bits=16)
E8M0 = ExponentFormat()
MXINT8 = BlockFormat(element=FixedFormat(word_length=8, fraction_length=6, symmetric=True), name="mxint8")
MXFP8_E4M3 = BlockFormat(element=FP8_E4M3FN, name="mxfp8_e4m3")
MXFP8_E5M2 = BlockFormat(element=FP8_E5M2, name="mxfp8_e5m2")
MXFP6_E3M2 = BlockFormat(element=FP6_E3M2, name="mxfp6_e3m2")
MXFP6_E2M3 = BlockFormat(element=FP6_E2M3, name="mxfp6_e2m3")
MXFP4 = BlockFormat(element=FP4_E2M1, name="mxfp4")
NVFP4 = BlockFormat(element=FP4_E2M1, scale=FP8_E4M3FN, block=16, tensor_scale=True, name="nvfp4")


def _integers() -> list[IntFormat]:
    widths = range(2, 17)
    return [
        *(IntFormat(bits=b) for b in widths),
        *(IntFormat(bits=b, symmetric=False) for b in widths),
        *(IntFormat(bits=b, signed=False, symmetric=False) for b in widths),
    ]


_FLOATS = [FP8_E4M3FN, FP8_E5M2, FP6_E3M2, FP6_E2M3, FP4_E2M1, BF16, FP16, TF32, FP32]
_TABLES = [LOG4_RADIX2, LOG4_RADIX4, LOG4_RADIX4_ODD, POSIT8, POSIT16, E8M0]
_BLOCKS = [MXINT8, MXFP8_E4M3, MXFP8_E5M2, MXFP6_E3M2, MXFP6_E2M3, MXFP4, NVFP4]

CATALOG: dict[str, Format] = {f.name: f for f in [*_integers(), *_FLOATS, *_TABLES, *_BLOCKS]}


def parse_format(name: str) -> Format:
    """The format of a name: one of the catalogue ("int4", "fp8_e4m3fn", "mxfp4") or of a family ("fixed<8,6>").

    Raises:
        ValueError: An unknown name; the message lists the known ones, the nearest, and the families. A family's
            name with parameters that can't be; the message says what would be right.
    """
    key = name.strip().lower() if isinstance(name, str) else name
    if key in CATALOG:
        return CATALOG[key]
    found = parse_family(key) if isinstance(key, str) else None
    if found is None:
        raise ValueError(f"{unknown('format', name, CATALOG)}; and {', '.join(FAMILIES)}")
    return found


def as_format(value: Any) -> Format:
    """A format as it is, the format of a name, or the format that a QPyTorch number describes.

    Args:
        value: A format, a name, or a qtorch `FixedPoint`, `FloatingPoint` or `BlockFloatingPoint` (see `interop`).

    Raises:
        ValueError: An unknown name, or a qtorch number that no format here equals.
        TypeError: None of those.
    """
    if isinstance(value, Format):
        return value
    if isinstance(value, str):
        return parse_format(value)
    if is_qtorch(value):
        return from_qtorch(value)
    raise TypeError(
        "a format is an IntFormat, a FloatFormat or another of lowbit_sim's formats, a qtorch number or a name, got "
        f"{type(value).__name__}"
    )
