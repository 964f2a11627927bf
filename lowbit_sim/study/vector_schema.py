"""The file of `lowbit-sim vectors`: what each key means, as pydantic models from which the JSON schema is made.

Integers are plain hexadecimal digits, two's complement of the width that is stated beside them. Float32 numbers are
their IEEE 754 bit patterns, eight digits. Lists of a tensor's or matrix's elements are in row-major order.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt

VERSION = 1

Hex = Annotated[str, Field(pattern=r"^[0-9a-f]+$")]
Float32 = Annotated[str, Field(pattern=r"^[0-9a-f]{8}$", description="bit pattern of a float32")]


class Strict(BaseModel):
    """Unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class RealTensor(Strict):
    """A float32 tensor."""

    shape: list[NonNegativeInt]
    float32: list[Float32]


class Rounding(Strict):
    """How a scaled value becomes a code."""

    mode: str = Field(description="nearest_even, nearest_away, toward_zero, down, up or stochastic")
    overflow: str = Field(description="saturate or wrap")
    random_bits: NonNegativeInt = Field(description="width of each random integer; 0 unless stochastic")


class Stream(Strict):
    """Address of random bits: Philox 4x32-10, key (seed, operand), counter (block low, block high, step, site)."""

    seed: NonNegativeInt
    step: NonNegativeInt
    site: NonNegativeInt
    operand: NonNegativeInt
    words: list[Hex] = Field(description="the random integer of each element of the tensor, random_bits wide")


class Operand(Strict):
    """One operand of a GEMM: y = fp32(x fp32(1 / scale)), code = round(y) + zero point."""

    tensor: Literal["input", "weight", "grad_output"]
    format: str
    code_bits: PositiveInt
    code_range: tuple[int, int] = Field(description="smallest and largest code")
    scale_rule: str
    granularity: str
    scale_shape: list[NonNegativeInt] = Field(description="broadcasts against the tensor")
    scale: list[Float32]
    zero_point: list[int] | None = Field(description="of the scale's shape; null for zero")
    rounding: Rounding
    random: Stream | None = Field(description="null unless stochastic")
    codes: list[Hex] = Field(description="of the tensor, in its own layout, code_bits wide")
    multiplicand_bits: PositiveInt
    matrices: list[list[Hex]] = Field(
        description="what enters the multipliers, multiplicand_bits wide: for each group [M, K] on the left, [K, N] "
        "on the right; codes less their zero point, laid out, padding as zero"
    )


class Mac(Strict):
    """The multiply-accumulate unit."""

    accumulator_bits: PositiveInt
    overflow: str = Field(description="wrap, saturate or saturate_symmetric")
    overflow_at: str = Field(description="addition, chunk or outer: where the rule acts")
    chunk: NonNegativeInt = Field(description="products in a chunk; 0 for all")
    outer_bits: PositiveInt = Field(description="width of the accumulator of the chunks' sums")
    truncated_bits: NonNegativeInt = Field(description="low bits that a chunk's sum loses")
    truncation: str = Field(description="rounding mode of that loss")
    order: str = Field(description="sequential or tree, inside a chunk")
    products: str | None = Field(description="name of a table of products; null for exact ones")


class Addition(Strict):
    """An accumulator after one addition."""

    accumulator: Literal["inner", "outer"]
    chunk: NonNegativeInt
    last_k: NonNegativeInt = Field(description="index of the last product that the value holds")
    value: Hex = Field(
        description="accumulator_bits wide (inner), outer_bits (outer, in units of 2^truncated_bits)"
    )
    overflow: bool = Field(
        description="whether this addition overflowed; with trace = chunks, one of the chunk's"
    )


class Dot(Strict):
    """How one result came about."""

    group: NonNegativeInt
    row: NonNegativeInt
    column: NonNegativeInt
    additions: list[Addition]


class Gemm(Strict):
    """One of the layer's three GEMMs, lhs [M, K] times rhs [K, N], once for each group."""

    role: Literal["output", "grad_input", "grad_weight"]
    M: NonNegativeInt
    N: NonNegativeInt
    K: NonNegativeInt
    groups: PositiveInt
    lhs: Operand
    rhs: Operand
    mac: Mac
    sum_bits: PositiveInt
    sums: list[list[Hex]] = Field(
        description="for each group [M, N]: outer accumulators 2^truncated_bits, sum_bits wide"
    )
    overflows: NonNegativeInt = Field(description="additions that overflowed, over all results")
    scale: list[list[Float32]] = Field(
        description="for each group fp32(scale of lhs * scale of rhs): one, or [M, N]"
    )
    results: list[list[Float32]] = Field(description="for each group [M, N]: fp32(sum) * scale")
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
    input: RealTensor
    weight: RealTensor
    grad_output: RealTensor
    output: RealTensor = Field(description="without bias")
    grad_input: RealTensor
    grad_weight: RealTensor
    gemms: list[Gemm]
