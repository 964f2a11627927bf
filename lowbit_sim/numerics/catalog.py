"""The named formats, and the parser of their names.

Sources: OCP 8-bit Floating Point Specification 1.0 (E4M3 without infinity, E5M2), OCP Microscaling
Formats 1.0 (E2M1), IEEE 754-2019 (binary16), and the public descriptions of bfloat16 and TensorFloat-32.
"""

from __future__ import annotations

from lowbit_sim.numerics.formats import FloatFormat, Format, IntFormat
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
BF16 = FloatFormat(exponent_bits=8, mantissa_bits=7, bias=127, name="bf16")
FP16 = FloatFormat(exponent_bits=5, mantissa_bits=10, bias=15, name="fp16")
TF32 = FloatFormat(exponent_bits=8, mantissa_bits=10, bias=127, name="tf32")


def _integers() -> list[IntFormat]:
    widths = range(2, 17)
    return [
        *(IntFormat(bits=b) for b in widths),
        *(IntFormat(bits=b, symmetric=False) for b in widths),
        *(IntFormat(bits=b, signed=False, symmetric=False) for b in widths),
    ]


CATALOG: dict[str, Format] = {
    f.name: f for f in [*_integers(), FP8_E4M3FN, FP8_E5M2, FP4_E2M1, BF16, FP16, TF32]
}


def parse_format(name: str) -> Format:
    """The catalogue's format of a name such as "int4", "int8_full", "uint8" or "fp8_e4m3fn".

    Raises:
        ValueError: An unknown name; the message lists the known ones and the nearest.
    """
    key = name.strip().lower() if isinstance(name, str) else name
    if key not in CATALOG:
        raise ValueError(unknown("format", name, CATALOG))
    return CATALOG[key]


def as_format(value: Format | str) -> Format:
    """A format as it is, or the catalogue's format of a name.

    Raises:
        ValueError: An unknown name.
        TypeError: Neither a format nor a string.
    """
    if isinstance(value, IntFormat | FloatFormat):
        return value
    if isinstance(value, str):
        return parse_format(value)
    raise TypeError(f"a format is an IntFormat, a FloatFormat or a name, got {type(value).__name__}")
