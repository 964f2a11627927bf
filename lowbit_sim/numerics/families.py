"""Names with parameters: "fixed<8,6>", "float<6,9>", "bfp<8,32>", "posit<8,1>", "log<3,4>"."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from lowbit_sim.numerics.block_formats import block_floating_point
from lowbit_sim.numerics.formats import BlockFormat, FixedFormat, FloatFormat, Format, LogFormat, PositFormat


def _fixed(word_length: str, fraction_length: str, kind: str = "") -> FixedFormat:
    if kind not in ("", "symmetric"):
        raise ValueError(f"the third parameter is 'symmetric' or left out, got {kind!r}")
    return FixedFormat(
        word_length=int(word_length), fraction_length=int(fraction_length), symmetric=bool(kind)
    )


def _bfp(word_length: str, shared: str = "0") -> BlockFormat:
    if shared.startswith("dim="):
        return block_floating_point(int(word_length), dim=int(shared.removeprefix("dim=")))
    return block_floating_point(int(word_length), int(shared))


def _posit(bits: str, exponent_bits: str = "2") -> PositFormat:
    return PositFormat(bits=int(bits), exponent_bits=int(exponent_bits))


def _log(exponent_bits: str, radix: str = "2", bias: str = "", kind: str = "") -> LogFormat:
    if kind not in ("", "odd"):
        raise ValueError(f"the fourth parameter is 'odd' or left out, got {kind!r}")
    return LogFormat(
        exponent_bits=int(exponent_bits), radix=int(radix), bias=int(bias) if bias else None, odd=bool(kind)
    )


def _float(exponent_bits: str, mantissa_bits: str, bias: str = "") -> FloatFormat:
    """As IEEE 754 lays out its interchange formats: infinities, NaN, subnormals, bias 2^(exponent_bits - 1) - 1."""
    exponents = int(exponent_bits)
    own = int(bias) if bias else (1 << (exponents - 1)) - 1
    parameters = f"{exponents},{int(mantissa_bits)}" + (f",{own}" if bias else "")
    return FloatFormat(
        exponent_bits=exponents, mantissa_bits=int(mantissa_bits), bias=own, name=f"float<{parameters}>"
    )


def _block(name: str) -> BlockFormat:
    """block<element,scale,block=n> with ",even", ",ceil" or ",tensor_scale"; element and scale by their names.

    Raises:
        ValueError: Another shape, or an element or scale that no block can have.
    """
    from lowbit_sim.numerics.catalog import parse_format

    inner = re.fullmatch(r"block<(.*),(block|dim)=(\d+)((?:,even|,ceil|,floor|,tensor_scale)*)>", name)
    formats = re.fullmatch(r"(.+),([a-z0-9_]+(?:<[^<>]*>)?)", inner[1]) if inner else None
    if inner is None or formats is None:
        raise ValueError(f"format {name!r} should look like {_BLOCK}")
    words = inner[4].split(",")[1:]
    rules = [word for word in words if word != "tensor_scale"] or ["floor"]
    shared: dict[str, Any] = (
        {"block": int(inner[3])} if inner[2] == "block" else {"block": 0, "dim": int(inner[3])}
    )
    try:
        return BlockFormat(
            element=parse_format(formats[1]),  # type: ignore[arg-type]
            scale=parse_format(formats[2]),  # type: ignore[arg-type]
            rule=rules[0],  # type: ignore[arg-type]
            tensor_scale="tensor_scale" in words,
            **shared,
        )
    except TypeError as error:
        raise ValueError(f"format {name!r}: {error}") from None


_BLOCK = "block<element,scale,block=n>, with ,even or ,ceil or ,tensor_scale"

_BUILDERS: dict[str, Callable[..., Format]] = {
    "fixed": _fixed,
    "float": _float,
    "bfp": _bfp,
    "posit": _posit,
    "log": _log,
}

#: What the families' names look like, for messages.
FAMILIES = (
    "fixed<word_length,fraction_length>",
    "fixed<word_length,fraction_length,symmetric>",
    "float<exponent_bits,mantissa_bits>",
    "float<exponent_bits,mantissa_bits,bias>",
    "bfp<word_length>",
    "bfp<word_length,block>",
    "bfp<word_length,dim=axis>",
    "posit<bits,exponent_bits>",
    "log<exponent_bits,radix>",
    "log<exponent_bits,radix,bias>",
    "log<exponent_bits,4,bias,odd>",
    _BLOCK,
)


def parse_family(name: str) -> Format | None:
    """The format of a family's name in lower case; None if it is no family's.

    Raises:
        ValueError: A family's name with parameters that can't be.
    """
    if name.startswith("block<"):
        return _block(name)
    match = re.fullmatch(r"(\w+)\s*<(.*)>", name)
    if match is None or match[1] not in _BUILDERS:
        return None
    parameters = [part.strip() for part in match[2].split(",")]
    try:
        return _BUILDERS[match[1]](*parameters)
    except (TypeError, ValueError) as error:
        shapes = " or ".join(shape for shape in FAMILIES if shape.startswith(match[1] + "<"))
        reason = str(error) if isinstance(error, ValueError) else f"got {len(parameters)} parameters"
        raise ValueError(f"format {name!r} should look like {shapes}: {reason}") from None
