"""Formats, roundings and MAC units in the words of `number_schema.py`."""

from __future__ import annotations

import hashlib

from lowbit_sim.arith.float_mac import FloatMacUnit
from lowbit_sim.arith.mac import MacUnit
from lowbit_sim.arith.products import ProductTable
from lowbit_sim.numerics.formats import (
    CodebookFormat,
    ElementFormat,
    ExponentFormat,
    FixedFormat,
    FloatFormat,
    IntFormat,
    LogFormat,
    PositFormat,
)
from lowbit_sim.numerics.rounding import Rounding
from lowbit_sim.study.vectors import number_schema as schema
from lowbit_sim.study.vectors.digits import code_digits, float32_digits


def number(fmt: ElementFormat) -> schema.Number:
    """The fields of a format."""
    name, bits = str(fmt), fmt.bits
    match fmt:
        case IntFormat() | FixedFormat():
            return schema.IntegerNumber(
                name=name,
                bits=bits,
                signed=fmt.signed,
                fraction_bits=fmt.fraction_length if isinstance(fmt, FixedFormat) else 0,
                low=fmt.qmin,
                high=fmt.qmax,
            )
        case FloatFormat():
            return float_number(fmt)
        case LogFormat():
            return schema.LogNumber(
                name=name,
                bits=bits,
                exponent_bits=fmt.exponent_bits,
                radix=fmt.radix,
                bias=fmt.zero_exponent_field,
                odd=fmt.odd,
            )
        case PositFormat():
            return schema.PositNumber(name=name, bits=bits, exponent_bits=fmt.exponent_bits)
        case CodebookFormat():
            return schema.CodebookNumber(name=name, bits=bits, values=[float32_digits(v) for v in fmt.values])
        case ExponentFormat():
            return exponent_number(fmt)


def float_number(fmt: FloatFormat) -> schema.FloatNumber:
    """The fields of a float format."""
    return schema.FloatNumber(
        name=str(fmt),
        bits=fmt.bits,
        exponent_bits=fmt.exponent_bits,
        mantissa_bits=fmt.mantissa_bits,
        bias=fmt.bias,
        has_infinity=fmt.has_infinity,
        has_nan=fmt.has_nan,
        has_subnormals=fmt.has_subnormals,
    )


def exponent_number(fmt: ExponentFormat) -> schema.ExponentNumber:
    """The fields of E8M0."""
    return schema.ExponentNumber(name=str(fmt), bits=fmt.bits, bias=fmt.bias)


def rounding(rule: Rounding) -> schema.Rounding:
    """Mode, overflow and random bits."""
    return schema.Rounding(mode=str(rule.mode), overflow=rule.overflow, random_bits=rule.random_bits)


def mac_unit(mac: MacUnit | FloatMacUnit) -> schema.Mac:
    """The parameters of a MAC unit."""
    if isinstance(mac, FloatMacUnit):
        return float_mac_unit(mac)
    return schema.IntegerMac(
        accumulator_bits=mac.accumulator_bits,
        overflow=mac.overflow,
        overflow_at=mac.overflow_at,
        chunk=mac.chunk,
        outer_bits=mac.result_bits,
        truncated_bits=mac.truncated_bits,
        truncation=str(mac.truncation),
        order=mac.order,
        products=None if mac.products is None else hash_of(mac.products),
    )


def float_mac_unit(mac: FloatMacUnit) -> schema.FloatMac:
    """The parameters of a floating-point MAC unit."""
    return schema.FloatMac(
        accumulator=float_number(mac.accumulator),
        rounding=rounding(mac.rounding),
        chunk=mac.chunk,
        outer=float_number(mac.result_format) if mac.has_outer else None,
        order=mac.order,
        product=None if mac.product is None else float_number(mac.product),
        product_rounding=None if mac.product is None else rounding(mac.rounding_of_products),
        kahan=mac.kahan,
    )


def hash_of(table: ProductTable) -> str:
    """SHA-256 of a table of products as the file holds it."""
    found = product_table(table)
    head = f"{found.bits} {int(found.signed)} {found.product_bits}"
    return hashlib.sha256(" ".join([head, *found.products]).encode()).hexdigest()


def product_table(table: ProductTable) -> schema.ProductTable:
    """A table of products in full, as narrow as it can be."""
    entries = table.table.reshape(-1).tolist()
    # -1 needs no more bits than 0, -128 no more than 127.
    bits = 1 + max((v if v >= 0 else ~v).bit_length() for v in entries)
    return schema.ProductTable(
        name=table.name,
        bits=table.bits,
        signed=table.signed,
        product_bits=bits,
        products=[code_digits(v, bits) for v in entries],
    )
