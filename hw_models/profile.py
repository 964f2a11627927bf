"""A machine as data: the numerics that it computes with, and the whole of its profile.

The same file decides the bits (`HardwareProfile.op_spec`) and the bill (`hw_models.estimate`). `README.md`
describes each key for whoever writes a profile; the parts of the machine are in `tables`.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field, NonNegativeInt, model_validator

from hw_models.tables import Array, Clock, Energy, Machine, Memory, Sourced, Strict, Vector
from lowbit_sim.arith.mac import AccumulatorOverflow, MacUnit
from lowbit_sim.arith.spec import GemmSpec, OpSpec
from lowbit_sim.numerics.catalog import parse_format
from lowbit_sim.numerics.formats import IntFormat
from lowbit_sim.numerics.rounding import MODE_CODES, Rounding
from lowbit_sim.numerics.suggest import unknown
from lowbit_sim.quant.quantizer import Quantizer


def _integer_format(name: str) -> str:
    if not isinstance(parse_format(name), IntFormat):
        raise ValueError(f"{name!r} is a float format, but the array accumulates integer products only")
    return name


def _rounding_mode(name: str) -> str:
    if name not in MODE_CODES:
        raise ValueError(unknown("rounding mode", name, MODE_CODES))
    return name


FormatName = Annotated[str, AfterValidator(_integer_format)]
RoundingName = Annotated[str, AfterValidator(_rounding_mode)]


class Arithmetic(Sourced):
    """The numerics: what `op_spec` makes an operator compute."""

    input_format: FormatName = Field(description="format of activations in GEMMs", examples=["int8"])
    weight_format: FormatName = Field(description="format of weights in GEMMs", examples=["int8"])
    grad_output_format: FormatName = Field(
        description="format of output gradients in GEMMs", examples=["int8"]
    )
    gradient_rounding: RoundingName = Field(
        description="rounding mode of output gradients", examples=["stochastic"]
    )
    gradient_random_bits: int = Field(
        ge=0, le=32, description="random bits for each rounded gradient; 0 unless stochastic", examples=[8]
    )
    accumulator_bits: int = Field(ge=8, le=64, description="width of the (inner) accumulator", examples=[32])
    overflow: AccumulatorOverflow = Field(
        description='what an accumulator does at its limit: "wrap" or "saturate"', examples=["wrap"]
    )
    chunk: NonNegativeInt = Field(
        description="products summed before the sum moves to the outer accumulator; 0 for one sum of all",
        examples=[0],
    )
    outer_bits: int = Field(
        ge=8, le=64, description="width of the accumulator of the chunks' sums", examples=[32]
    )

    @property
    def rounding(self) -> Rounding:
        """The rounding of output gradients."""
        return Rounding(self.gradient_rounding, random_bits=self.gradient_random_bits)

    @property
    def mac(self) -> MacUnit:
        """The multiply-accumulate unit."""
        # Without chunks an outer accumulator of the same width would only add the one sum to zero.
        outer = self.outer_bits if self.chunk or self.outer_bits != self.accumulator_bits else None
        return MacUnit(
            accumulator_bits=self.accumulator_bits, overflow=self.overflow, chunk=self.chunk, outer_bits=outer
        )

    @model_validator(mode="after")
    def _random_bits_fit_the_rounding(self) -> Arithmetic:
        try:
            _ = self.rounding
        except ValueError as error:
            raise ValueError(f"gradient_random_bits = {self.gradient_random_bits}: {error}") from None
        return self


class HardwareProfile(Strict):
    """A machine. Made by `hw_models.load`, or from a text by `hw_models.parse`."""

    machine: Machine = Field(description="what the machine is")
    clock: Clock = Field(description="the clock")
    array: Array = Field(description="the systolic arrays")
    vector: Vector = Field(description="the unit that does everything but the array's GEMMs")
    arithmetic: Arithmetic = Field(description="the numerics of training on this machine")
    memory: Memory = Field(description="the memories")
    energy: Energy = Field(description="energy of logic")

    @model_validator(mode="after")
    def _array_multiplies_the_formats(self) -> HardwareProfile:
        widest = max(self.array.widths(), default=0)
        for key in ("input_format", "weight_format", "grad_output_format"):
            name = getattr(self.arithmetic, key)
            if parse_format(name).bits > widest:
                raise ValueError(
                    f"arithmetic.{key} = {name!r} is wider than the integer modes of the array "
                    f"(array.modes: {self.array.widths()} bits)"
                )
        return self

    def op_spec(self) -> OpSpec:
        """The numerics of a layer on this machine: per-tensor absmax scales; output gradients rounded as the
        profile says, everything else to nearest even.
        """
        arithmetic = self.arithmetic
        x = Quantizer(parse_format(arithmetic.input_format))
        w = Quantizer(parse_format(arithmetic.weight_format))
        g = Quantizer(parse_format(arithmetic.grad_output_format), rounding=arithmetic.rounding)
        mac = arithmetic.mac
        return OpSpec(
            output=GemmSpec(x, w, mac), grad_input=GemmSpec(g, w, mac), grad_weight=GemmSpec(g, x, mac)
        )
