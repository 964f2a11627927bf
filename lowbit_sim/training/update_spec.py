"""The numerics of the weight update: in which formats master weights and optimiser states are kept.

Every kept number is rounded once, when it is written, from its float32 value:

    kept = dequantise(Q(fp32 value, random bits))

The random bits of a parameter's state are those of Stream(seed, step, site, operand): the step counts the updates of
this parameter, the site is its number in the optimiser (through all groups, from 0), and the operand is one of
`UPDATE_STREAMS`. Layers draw from operands that are 0 to 10 modulo 16, so an optimiser with the model's own seed
shares no bits with it.

Source of rounding after each of the update's vector operations: Wang et al., "Training Deep Neural Networks with
8-bit Floating Point Numbers", NeurIPS 2018, section 3.3 (FP16 (1,6,9) weights and momentum, stochastic rounding).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields, replace
from typing import Literal, get_args

from torch import Tensor

from lowbit_sim.numerics.formats import Format
from lowbit_sim.numerics.random import Stream
from lowbit_sim.numerics.rounding import Rounding
from lowbit_sim.numerics.suggest import unknown
from lowbit_sim.quant.quantizer import NotANumberError, Quantizer
from lowbit_sim.quant.scaling import FixedScale, reduces
from lowbit_sim.trace import VectorEvent, emit

#: Which random bits each tensor of an update draws: the last four operands modulo 16.
UPDATE_STREAMS = {"gradient": 12, "weight": 13, "momentum": 14, "second_moment": 15}

FLOAT_BITS = 32

StateReads = Literal["rounded", "unrounded"]


@dataclass(frozen=True, kw_only=True)
class UpdateSpec:
    """The formats of one update; None is float32.

    A plain cast to a format (no scale) is `Quantizer(fmt, scale=FixedScale(1.0))`; `uniform` builds such quantisers.

    Args:
        weight: The master weights.
        momentum: SGD's momentum buffer, or Adam's running mean of the gradient (exp_avg).
        second_moment: Adam's running mean of the squared gradient (exp_avg_sq).
        gradient: The gradient as the update reads it, before weight decay.
        state_reads: What the weight's update reads of a state that it has just written: "rounded" is the number
            in memory, "unrounded" the float32 one that is still in a register (a fused kernel).

    Raises:
        TypeError: Something that is neither a quantiser nor None.
        ValueError: A quantiser whose scale depends on past tensors, or an unknown `state_reads`.
    """

    weight: Quantizer | None = None
    momentum: Quantizer | None = None
    second_moment: Quantizer | None = None
    gradient: Quantizer | None = None
    state_reads: StateReads = "rounded"

    def __post_init__(self) -> None:
        for name in UPDATE_STREAMS:
            quantizer = getattr(self, name)
            if quantizer is None:
                continue
            if not isinstance(quantizer, Quantizer):
                raise TypeError(f"{name} of an update is a Quantizer or None, got {quantizer!r}")
            if quantizer.is_stateful:
                raise ValueError(
                    f"{name} of an update can't have a scale that depends on past steps ({quantizer.scale}): "
                    "use FixedScale, AbsMaxScale or PowerOfTwoScale"
                )
        if self.state_reads not in get_args(StateReads):
            raise ValueError(unknown("state_reads", self.state_reads, get_args(StateReads)))

    @staticmethod
    def uniform(fmt: Format, rounding: Rounding = Rounding()) -> UpdateSpec:
        """Weights and states cast to one format without a scale; the gradient stays as it is."""
        quantizer = Quantizer(fmt, scale=FixedScale(1.0), rounding=rounding)
        return UpdateSpec(weight=quantizer, momentum=quantizer, second_moment=quantizer)

    def __str__(self) -> str:
        named = {f.name: getattr(self, f.name) for f in fields(self) if f.name in UPDATE_STREAMS}
        return ", ".join(f"{name}: {q}" for name, q in named.items() if q is not None) or "fp32"


@dataclass(kw_only=True)
class UpdateBill:
    """What one step of an optimiser does, for the trace.

    The update itself reads weights, gradients and states and writes weights and states, all at their kept widths; a
    tensor whose scale depends on its maximum is written in float32 and read again by its conversion.
    """

    elements: int = 0
    read_bits: int = 0
    write_bits: int = 0
    parameter_bits: int = 0
    gradient_bits: int = 0
    state_bits: int = 0
    conversions: dict[str, dict[str, int]] = field(default_factory=dict)

    def update(self, gradient: Tensor) -> None:
        """A parameter's update, which reads its gradient."""
        self.elements += gradient.numel()
        self.read_bits += _kept_bits(gradient, None)
        self.gradient_bits += _kept_bits(gradient, None)

    def keep(self, name: str, value: Tensor, quantizer: Quantizer | None) -> None:
        """A weight or state, by its name of `UPDATE_STREAMS`, that the update reads and writes."""
        if name == "weight":
            self.parameter_bits += _kept_bits(value, quantizer)
        else:
            self.state_bits += _kept_bits(value, quantizer)
        again = quantizer is not None and reduces(quantizer.scale)
        self.read_bits += _kept_bits(value, quantizer)
        self.write_bits += _kept_bits(value, None if again else quantizer)

    def convert(self, value: Tensor, quantizer: Quantizer) -> None:
        """The rounding of a tensor."""
        elements, again = value.numel(), reduces(quantizer.scale)
        if again:
            self._add("scale_reduction", elements)
        if quantizer.rounding.is_stochastic:
            self._add("random_bits", elements, random_bits=elements * quantizer.rounding.random_bits)
        read = elements * FLOAT_BITS if again else 0
        self._add("quantize", elements, read=read, write=_kept_bits(value, quantizer) if again else 0)

    def _add(self, kind: str, elements: int, **amounts: int) -> None:
        total = self.conversions.setdefault(kind, {})
        for name, amount in {"elements": elements, **amounts}.items():
            total[name] = total.get(name, 0) + amount

    def emit(self) -> None:
        """Put the step on record: one event for each kind of work."""
        update = _event("optimizer_update", self.elements, self.read_bits, self.write_bits, 0)
        held = {"parameter_bytes": self.parameter_bits, "gradient_bytes": self.gradient_bits}
        held["state_bytes"] = self.state_bits
        emit(replace(update, **{name: math.ceil(bits / 8) for name, bits in held.items()}))
        self.emit_conversions()

    def emit_conversions(self) -> None:
        """Put the roundings alone on record."""
        for kind in ("scale_reduction", "random_bits", "quantize"):
            t = self.conversions.get(kind)
            if t is not None:
                emit(
                    _event(kind, t["elements"], t.get("read", 0), t.get("write", 0), t.get("random_bits", 0))
                )


def _event(kind: str, elements: int, read_bits: int, write_bits: int, random_bits: int) -> VectorEvent:
    return VectorEvent(
        kind=kind,
        elements=elements,
        read_bytes=math.ceil(read_bits / 8),
        write_bytes=math.ceil(write_bits / 8),
        role="update",
        random_bits=random_bits,
    )


def _kept_bits(value: Tensor, quantizer: Quantizer | None) -> int:
    """Codes, and the scales of blocks; a scale for a whole tensor or an axis is not counted, as in the layers."""
    if quantizer is None:
        return value.numel() * FLOAT_BITS
    last = value.shape[-1] if value.ndim else 1
    blocks = value.numel() // last * -(-last // quantizer.block) if quantizer.block and last else 0
    return value.numel() * quantizer.element_format.bits + blocks * quantizer.scale_bits


@dataclass(frozen=True, kw_only=True)
class ParameterUpdate:
    """One update of one parameter: rounds what it writes, and puts it on the bill.

    Attributes:
        spec: The formats.
        seed: Seed of the random bits.
        step: How many updates the parameter has had.
        site: The parameter's number in the optimiser.
        bill: Where the work is added up.
    """

    spec: UpdateSpec
    seed: int
    step: int
    site: int
    bill: UpdateBill

    def gradient(self, g: Tensor) -> Tensor:
        """The gradient as the update reads it."""
        self.bill.update(g)
        return self._rounded("gradient", g)

    def keep(self, name: str, value: Tensor) -> Tensor:
        """What is kept of a weight or state.

        Args:
            name: A name of `UPDATE_STREAMS`.
            value: Its new value, float32.
        """
        self.bill.keep(name, value, getattr(self.spec, name))
        return self._rounded(name, value)

    def seen(self, kept: Tensor, value: Tensor) -> Tensor:
        """What the weight's update reads of a state: what is kept of it, or its float32 value."""
        return kept if self.spec.state_reads == "rounded" else value

    def _rounded(self, name: str, value: Tensor) -> Tensor:
        quantizer: Quantizer | None = getattr(self.spec, name)
        if quantizer is None:
            return value
        self.bill.convert(value, quantizer)
        stream = Stream(seed=self.seed, step=self.step, site=self.site, operand=UPDATE_STREAMS[name])
        try:
            return quantizer(value, stream=stream).dequantize()
        except NotANumberError as error:
            raise NotANumberError(f"{name} of parameter {self.site} in its update: {error}") from error
