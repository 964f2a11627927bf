"""Number formats from the fields in a file of vectors, on Python's integers, fractions and `struct` alone.

Nothing of lowbit_sim is imported: this is a second reading of the file, not a second use of the code that wrote it.
"""

import math
import struct
from bisect import bisect_right
from fractions import Fraction
from functools import cache


def real(text: str) -> float:
    return struct.unpack(">f", bytes.fromhex(text))[0]


def float32(x: float) -> float:
    try:
        return struct.unpack("<f", struct.pack("<f", x))[0]
    except OverflowError:
        return math.copysign(math.inf, x)


def signed(text: str, bits: int) -> int:
    value = int(text, 16)
    return value - (1 << bits) if value >> (bits - 1) else value


def same(x: float, y: float) -> bool:
    """Equal, and zeros of one sign; NaN is NaN."""
    return (x != x and y != y) or (x == y and math.copysign(1, x) == math.copysign(1, y))


def philox(counter: list[int], key: list[int]) -> list[int]:
    """Salmon et al. 2011, Philox 4x32 with ten rounds."""
    (a, b, c, d), (k, l) = counter, key  # noqa: E741
    for _ in range(10):
        left, right = a * 0xD2511F53, c * 0xCD9E8D57
        a, b, c, d = right >> 32 ^ b ^ k, right & 0xFFFFFFFF, left >> 32 ^ d ^ l, left & 0xFFFFFFFF
        k, l = (k + 0x9E3779B9) & 0xFFFFFFFF, (l + 0xBB67AE85) & 0xFFFFFFFF  # noqa: E741
    return [a, b, c, d]


def random_word(address: dict, element: int, bits: int) -> int:
    width = 8 if bits <= 8 else 16 if bits <= 16 else 32
    block, piece = divmod(address["offset"] + element, 128 // width)
    counter = [block & 0xFFFFFFFF, block >> 32, address["step"], address["site"]]
    words = philox(counter, [address["seed"], address["operand"]])
    bits_of_block = sum(word << (32 * i) for i, word in enumerate(words))
    return bits_of_block >> (piece * width) & ((1 << bits) - 1)


def rounded(x: Fraction, mode: str, word: int = 0, random_bits: int = 0) -> int:
    """A magnitude in units, as an integer; "down" and "up" are the caller's to turn for negative numbers."""
    whole, part = x.numerator // x.denominator, x - x.numerator // x.denominator
    half = Fraction(1, 2)
    return (
        whole
        + {
            "nearest_even": part > half or (part == half and whole % 2 == 1),
            "nearest_away": part >= half,
            "toward_zero": False,
            "down": False,
            "up": part > 0,
            "stochastic": part * 2**random_bits // 1 + word >= 2**random_bits,
        }[mode]
    )


# -- floats ------------------------------------------------------------------------------------------------


def top(f: dict) -> tuple[int, int]:
    """The magnitude code of the largest finite value, and how many magnitude codes there are."""
    count = 1 << (f["exponent_bits"] + f["mantissa_bits"])
    if f["has_infinity"] and f["has_nan"]:
        return count - (1 << f["mantissa_bits"]) - 1, count
    return count - (2 if f["has_infinity"] or f["has_nan"] else 1), count


def float_of(code: int, f: dict) -> float:
    largest, count = top(f)
    sign, magnitude = -1.0 if code >= count else 1.0, code % count
    if magnitude > largest:
        return sign * math.inf if f["has_infinity"] and magnitude == largest + 1 else math.nan
    e, m = divmod(magnitude, 1 << f["mantissa_bits"])
    if e == 0:
        return sign * (math.ldexp(m, 1 - f["bias"] - f["mantissa_bits"]) if f["has_subnormals"] else 0.0)
    return sign * math.ldexp(m + (1 << f["mantissa_bits"]), e - f["bias"] - f["mantissa_bits"])


def quantum(magnitude: Fraction, f: dict) -> Fraction:
    """The distance of the format's values around a magnitude, as if its exponents had no upper end."""
    lowest = 1 - f["bias"]
    if magnitude < Fraction(2) ** lowest:
        return Fraction(2) ** (lowest - (f["mantissa_bits"] if f["has_subnormals"] else 0))
    exponent = lowest
    while magnitude >= Fraction(2) ** (exponent + 1):
        exponent += 1
    return Fraction(2) ** (exponent - f["mantissa_bits"])


def to_float(x, f: dict, rule: dict, word: int = 0) -> tuple[float, bool]:
    """A number as the format holds it, and whether it was too large."""
    if x != x:
        return math.nan, False
    largest = float_of(top(f)[0], f)
    negative = math.copysign(1, x) < 0
    sign = -1.0 if negative else 1.0
    saturates = rule["overflow"] == "saturate"
    beyond = largest if saturates else math.inf if f["has_infinity"] else math.nan
    if abs(x) == math.inf:
        return sign * beyond, False
    mode = {"down": "up", "up": "down"}.get(rule["mode"], rule["mode"]) if negative else rule["mode"]
    magnitude = abs(Fraction(x))
    step = quantum(magnitude, f)
    value = rounded(magnitude / step, mode, word, rule["random_bits"]) * step
    if value <= largest:
        return sign * float(value), False
    # A magnitude that is rounded down stops at the largest value.
    result = sign * (largest if mode in ("down", "toward_zero") else beyond)
    coarsest = quantum(Fraction(largest), f)
    return result, rounded(magnitude / coarsest, mode, word, rule["random_bits"]) * coarsest > largest


# -- any format --------------------------------------------------------------------------------------------


def posit(code: int, bits: int, es: int) -> float:
    """Posit Standard 2022: two's complement first, then regime, exponent and fraction of the magnitude."""
    if code in (0, 1 << (bits - 1)):
        return math.nan if code else 0.0
    if code >> (bits - 1):
        return -posit((1 << bits) - code, bits, es)
    text = f"{code:0{bits - 1}b}"
    run = len(text) - len(text.lstrip(text[0]))
    regime = run - 1 if text[0] == "1" else -run
    tail = text[run + 1 :] + "0" * es
    exponent = int("0" + tail[:es], 2)
    fraction = 1 + Fraction(int("0" + tail[es:], 2), 2 ** len(tail[es:]))
    return float(fraction * Fraction(2) ** (regime * 2**es + exponent))


def value_of(code: int, f: dict) -> float:
    """The value of a code as a bit pattern."""
    match f["kind"]:
        case "integer":
            code -= (1 << f["bits"]) if f["signed"] and code >> (f["bits"] - 1) else 0
            return math.ldexp(code, -f["fraction_bits"])
        case "float":
            return float_of(code, f)
        case "log":
            sign, field = divmod(code, 1 << f["exponent_bits"])
            power = Fraction(2) ** f["odd"] * Fraction(f["radix"]) ** (field - f["bias"])
            return (-1.0 if sign else 1.0) * (float(power) if field else 0.0)
        case "posit":
            return posit(code, f["bits"], f["exponent_bits"])
        case "codebook":
            return real(f["values"][code])
        case "exponent":
            return math.nan if code == 255 else 2.0 ** (code - f["bias"])
    raise AssertionError(f["kind"])


@cache
def _grid(key: tuple) -> list[tuple[float, int]]:
    f: dict = {name: list(value) if isinstance(value, tuple) else value for name, value in key}
    count = len(f["values"]) if f["kind"] == "codebook" else 1 << int(f["bits"])
    found: dict[float, int] = {}
    for code in range(count):
        value = value_of(code, f)
        if value == value:
            found.setdefault(value, code)
    return sorted(found.items())


def grid(f: dict) -> list[tuple[float, int]]:
    """All values of a small format with their codes, ascending."""
    return _grid(tuple((name, tuple(v) if isinstance(v, list) else v) for name, v in f.items()))


def nearest_on_grid(y: float, f: dict, rule: dict, word: int) -> float:
    """For the formats whose values are unevenly spaced: to the nearest, or stochastically."""
    values = grid(f)
    if y <= values[0][0] or y >= values[-1][0]:
        return values[0 if y <= values[0][0] else -1][0]
    i = bisect_right([v for v, _ in values], y) - 1
    (low, low_code), (high, _) = values[i], values[i + 1]
    if y == low:
        return low
    if rule["mode"] == "stochastic":
        near, far = sorted((low, high), key=abs)
        part = (Fraction(y) - Fraction(near)) / (Fraction(far) - Fraction(near))
        return far if part * 2 ** rule["random_bits"] // 1 + word >= 2 ** rule["random_bits"] else near
    assert rule["mode"] == "nearest_even"
    middle = (Fraction(low) + Fraction(high)) / 2
    if f["kind"] == "posit":
        # The posit of one more bit between the two; next to zero nothing becomes zero.
        middle = (
            0 if 0 in (low, high) else Fraction(posit(2 * low_code + 1, f["bits"] + 1, f["exponent_bits"]))
        )
    if y != middle:
        return low if y < middle else high
    if f["kind"] == "log":
        return max(low, high, key=abs) if 0 not in (low, high) else 0.0
    return low if low_code % 2 == 0 else high


def quantized(y: float, f: dict, rule: dict, word: int, zero_point: int = 0) -> float:
    """The value (plus, of an integer, the zero point) that a scaled number becomes."""
    if f["kind"] == "float":
        return to_float(y, f, rule, word)[0]
    if f["kind"] != "integer":
        return nearest_on_grid(y, f, rule, word)
    exact = Fraction(y) * Fraction(2) ** f["fraction_bits"]
    # Integers are rounded as numbers on a line, so stochastic rounding is upwards from the floor.
    if rule["mode"] == "stochastic":
        floor = exact.numerator // exact.denominator
        code = floor + rounded(exact - floor, "stochastic", word, rule["random_bits"])
    else:
        code = rounded(abs(exact), rule["mode"]) * (-1 if exact < 0 else 1)
    code = max(f["low"], min(f["high"], code + zero_point))
    return math.ldexp(code, -f["fraction_bits"])
