"""The file of `lowbit-sim vectors`: what each key means, as pydantic models from which the JSON schema is made.

Codes and integers are plain hexadecimal digits, two's complement where they are signed, of the width that is stated
beside them. Float32 numbers are their IEEE 754 bit patterns, eight digits, every NaN as 7fc00000. Lists of a tensor's
or matrix's elements are in row-major order.
"""

from __future__ import annotations

import json
from typing import Literal

from pydantic import Field, NonNegativeInt, PositiveInt

from lowbit_sim.study.vectors.number_schema import (
    ExponentNumber,
    Float32,
    FloatMac,
    FloatNumber,
    Hex,
    Mac,
    Number,
    ProductTable,
    Rounding,
    Strict,
)

VERSION = 1


class RealTensor(Strict):
    """A float32 tensor."""

    shape: list[NonNegativeInt]
    float32: list[Float32]


class Address(Strict):
    """Address of random bits: Philox 4x32-10, key (seed, operand), counter (block low, block high, step, site).

    With r random bits, element i is piece (offset + i) mod n of block (offset + i) div n, where n pieces of 8, 16 or
    32 bits (the first that holds r) fill the 128 bits of a block, lowest piece of word 0 first; its low r bits count.
    """

    seed: NonNegativeInt
    step: NonNegativeInt
    site: NonNegativeInt
    operand: NonNegativeInt
    offset: NonNegativeInt


class BlockScales(Strict):
    """How the scales of a block format are stored."""

    format: ExponentNumber | FloatNumber
    codes: list[Hex]
    tensor_scale: Float32 | None = Field(
        description="scale = fp32(value of the code * tensor_scale), at least 2^-126; where that value is 0, finite "
        "elements become 0 and the scale is 1. Null without: scale = value of the code"
    )


class Quantized(Strict):
    """What a quantiser made of a tensor or matrix: code = round(fp32(x fp32(1 / scale))) + zero point."""

    shape: list[NonNegativeInt]
    float32: list[Float32] | None = Field(description="the real matrix; null for the layer's tensor itself")
    scale_shape: list[NonNegativeInt] = Field(
        description="broadcasts against `shape`; with blocks its last size counts the blocks of the last axis"
    )
    scale: list[Float32]
    block_scales: BlockScales | None = Field(description="null unless the format has its own scales")
    zero_point: list[int] | None = Field(description="of the scale's shape; null for zero")
    random: Address | None = Field(description="null unless stochastic")
    words: list[Hex] = Field(description="the random integer of each element, random_bits wide")
    codes: list[Hex]


class Operand(Strict):
    """One operand of a GEMM."""

    tensor: Literal["input", "weight", "grad_output"]
    format: Number = Field(description="of the codes")
    nan_code: int | None = Field(description="what NaN becomes; null if it is an error")
    scale_rule: str
    granularity: str
    block: NonNegativeInt = Field(
        description="elements along the last axis that share a scale; 0 without blocks"
    )
    rounding: Rounding
    quantized: list[Quantized] = Field(
        description="the tensor in its own layout; with blocks the matrix of each group, [M, K] on the left and "
        "[N, K] on the right"
    )
    multiplicand: Literal["integer", "code", "float32"] = Field(
        description="integer: values in units of `unit` less the zero point, two's complement (plain binary if not "
        "signed); code: codes of the format; float32: values less the zero point"
    )
    multiplicand_bits: PositiveInt
    multiplicand_signed: bool
    unit: Float32 = Field(description="value of an integer multiplicand of 1; part of the GEMM's scale")
    matrices: list[list[Hex]] = Field(
        description="what enters the multipliers: for each group [M, K] on the left, [K, N] on the right, padding as "
        "zero"
    )
    matrix_scales: list[list[Float32]] | None = Field(
        description="with blocks scale * unit of each group's matrix: [M, blocks] on the left, [blocks, N] on the "
        "right; null for none that vary along K"
    )


class Addition(Strict):
    """An accumulator after one addition."""

    accumulator: Literal["inner", "outer"]
    part: Literal["sum", "corrected", "gained", "correction"] = Field(
        default="sum",
        description="of compensated summation: corrected = term - correction, sum = sum + corrected, gained = new "
        "sum - old sum, correction = gained - corrected",
    )
    chunk: NonNegativeInt
    last_k: NonNegativeInt = Field(
        description="index of the last product that the value holds; in the sum over blocks, of the last block"
    )
    value: Hex = Field(
        description="integer: accumulator_bits wide (inner), outer_bits (outer, in units of 2^truncated_bits); "
        "float: a code of the accumulator's format"
    )
    float32: Float32 | None = Field(default=None, description="the same value, of a float accumulator")
    overflow: bool = Field(
        description="whether this addition overflowed; with trace = chunks, one of the chunk's"
    )
    random: Hex | None = Field(default=None, description="the random integer that rounded it")


class BlockSum(Strict):
    """One block of one result: its products' sum and that sum scaled."""

    block: NonNegativeInt
    additions: list[Addition] = Field(description="in `mac`; last_k counts from the reduction's start")
    sum: Hex = Field(description="block_sum_bits wide: an integer, or a code of the MAC unit's result format")
    term: Float32 = Field(description="fp32(fp32(sum) fp32(scale of lhs * scale of rhs))")


class Dot(Strict):
    """How one result came about."""

    group: NonNegativeInt
    row: NonNegativeInt
    column: NonNegativeInt
    blocks: list[BlockSum] = Field(default=[], description="empty without blocks")
    additions: list[Addition] = Field(
        description="of the products, in `mac`; with blocks, of the blocks' terms, in `across`"
    )


class Gemm(Strict):
    """One of the layer's three GEMMs, lhs [M, K] times rhs [K, N], once for each group."""

    role: Literal["output", "grad_input", "grad_weight"]
    sample: NonNegativeInt = Field(
        description="which of several quantisations of lhs; their results are averaged"
    )
    M: NonNegativeInt
    N: NonNegativeInt
    K: NonNegativeInt
    groups: PositiveInt
    lhs: Operand
    rhs: Operand
    mac: Mac
    block: NonNegativeInt = Field(description="products whose operands share scales; 0 without blocks")
    block_sum_bits: PositiveInt | None = Field(description="width of a block's sum; null without blocks")
    across: FloatMac | None = Field(description="what adds the blocks' terms; null without blocks")
    random: list[Address] = Field(
        description="of a stochastic accumulator, for each group. With A additions for each result, result (m, n)'s "
        "addition i draws element (m N + n) A + i. With blocks, block c draws from c M N A on, A being a whole "
        "block's, and the sum of the C terms from C M N A on"
    )
    sum_bits: PositiveInt
    sums: list[list[Hex]] = Field(
        description="for each group [M, N] what left the last accumulator: integers (outer accumulators "
        "2^truncated_bits), or codes of its float format"
    )
    overflows: NonNegativeInt = Field(description="additions that overflowed, over all results")
    scale: list[list[Float32]] = Field(
        description="for each group fp32(scale of lhs * scale of rhs), units included: one, or [M, N]. Block scales "
        "are already in the sum"
    )
    results: list[list[Float32]] = Field(description="for each group [M, N]: fp32(fp32(sum) * scale)")
    traced: list[Dot] = Field(description="the first results of each group, in row-major order")


class Layer(Strict):
    """What the layer is."""

    name: str
    kind: Literal["linear", "conv2d"]
    kernel: list[PositiveInt] = []
    stride: list[PositiveInt] = []
    dilation: list[PositiveInt] = []
    padding: list[NonNegativeInt] = Field(default=[], description="top, bottom, left, right")
    groups: PositiveInt = 1


class LayerVectors(Strict):
    """Golden vectors of a layer's forward and backward pass."""

    version: Literal[1] = VERSION
    lowbit_sim: str = Field(description="version of the program that wrote the file")
    layer: Layer
    trace: Literal["additions", "chunks", "none"]
    product_tables: dict[str, ProductTable] = Field(description="by their SHA-256")
    input: RealTensor
    weight: RealTensor
    grad_output: RealTensor
    output: RealTensor = Field(description="without bias; of n samples fp32(sum in order * fp32(1 / n))")
    grad_input: RealTensor
    grad_weight: RealTensor
    gemms: list[Gemm]


def json_schema() -> str:
    """The JSON schema of the file."""
    return json.dumps(LayerVectors.model_json_schema(), indent=2) + "\n"
