"""Numbers as the file's hexadecimal digits."""

from __future__ import annotations

import math
import struct

import numpy as np
from torch import Tensor

from lowbit_sim.numerics.formats import FloatFormat
from lowbit_sim.numerics.reference import float_code
from lowbit_sim.numerics.rounding import Rounding

NAN = 0x7FC00000


def code_digits(value: int, bits: int) -> str:
    """An integer's or a code's low bits."""
    return f"{value & ((1 << bits) - 1):0{-(-bits // 4)}x}"


def tensor_digits(x: Tensor, bits: int) -> list[str]:
    """Of every element of an integer tensor, in row-major order."""
    return [code_digits(v, bits) for v in x.reshape(-1).tolist()]


def float32_digits(x: float) -> str:
    """The bit pattern of a float32 value."""
    pattern = NAN if math.isnan(x) else int.from_bytes(struct.pack(">f", x), "big")
    return f"{pattern:08x}"


def float32s(x: Tensor) -> list[str]:
    """Bit patterns of a float32 tensor in row-major order."""
    values = np.ascontiguousarray(x.detach().numpy(), dtype=np.float32).reshape(-1)
    patterns = np.where(np.isnan(values), np.uint32(NAN), values.view(np.uint32))
    return [f"{int(p):08x}" for p in patterns]


def float_digits(value: float, fmt: FloatFormat) -> str:
    """The code of a value that a float format holds."""
    if math.isinf(value):
        assert fmt.infinity_code is not None
        return code_digits(fmt.infinity_code | (value < 0) << (fmt.bits - 1), fmt.bits)
    return code_digits(float_code(value, fmt, Rounding()), fmt.bits)
