"""Numbers as people read them: three digits and a prefix."""

from __future__ import annotations

#: Powers of ten and their prefixes, largest first.
_PREFIXES = (
    *(
        (30, "Q"),
        (27, "R"),
        (24, "Y"),
        (21, "Z"),
        (18, "E"),
        (15, "P"),
        (12, "T"),
        (9, "G"),
        (6, "M"),
        (3, "k"),
        (0, ""),
        (-3, "m"),
        (-6, "µ"),
        (-9, "n"),
        (-12, "p"),
    ),
)

#: From here on no prefix is left.
_LARGEST = 10**33


#: Counts from here on have more digits than anyone reads.
_WIDEST = 10**12


def counted(count: int, noun: str) -> str:
    """A count and its noun: "1 image", "2 images"."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def with_prefix(value: float, unit: str = "", *, smallest: int = -12) -> str:
    """A number with three significant digits: 529403 cycles as "529k", 4.8e-3 J as "4.80 mJ".

    Args:
        value: Zero or positive; from 10^33 on there is no prefix, and it has an exponent.
        unit: The unit's symbol.
        smallest: Smallest power of ten that gets a prefix; 0 for what can only be counted.

    Raises:
        ValueError: A negative value.
    """
    if value < 0:
        raise ValueError(f"a quantity is not negative, got {value}")
    if value == 0:
        return f"0 {unit}".rstrip()
    if value >= 0.9995 * _LARGEST:
        return f"{value:.2e} {unit}".rstrip()
    known = [(power, prefix) for power, prefix in _PREFIXES if power >= smallest]
    # Rounding to three digits may reach the next prefix: 999,950 is "1.00M", not "1000k".
    power, prefix = next(((p, s) for p, s in known if value >= 0.9995 * 10**p), known[-1])
    scaled = value / 10**power
    decimals = 2 if scaled < 9.995 else 1 if scaled < 99.95 else 0
    if power == smallest == 0:
        decimals = 0
    return f"{scaled:.{decimals}f}{' ' if unit else ''}{prefix}{unit}"


def exactly(count: int) -> str:
    """A count to its last digit, "5,548,984", as long as it is not too wide to be read; then with a prefix."""
    return f"{count:,}" if count < _WIDEST else with_prefix(count, smallest=0)
