"""The numerics of a layer in one printable value: three GEMMs, each with its two quantisers and its MAC unit.

| role (synonym)        | product | reduction axis | lhs         | rhs    |
|-----------------------|---------|----------------|-------------|--------|
| `output` (fprop)      | x w^T   | I              | input       | weight |
| `grad_input` (dgrad)  | g w     | O              | grad_output | weight |
| `grad_weight` (wgrad) | g^T x   | B              | grad_output | input  |

with input x [B, I], weight w [O, I] and grad_output g = dL/dy [B, O].
"""

from __future__ import annotations

from dataclasses import dataclass

from lowbit_sim.arith.mac import MacUnit
from lowbit_sim.numerics.formats import Format, IntFormat
from lowbit_sim.numerics.rounding import Rounding
from lowbit_sim.quant.granularity import Granularity, PerTensor
from lowbit_sim.quant.quantizer import Quantizer
from lowbit_sim.quant.scaling import AbsMaxScale, ScaleRule


@dataclass(frozen=True)
class GemmSpec:
    """One GEMM: the quantisers of its operands, which see the tensors in their own layout, and its MAC unit.

    Args:
        lhs: Quantiser of the left operand.
        rhs: Quantiser of the right operand.
        mac: The multiply-accumulate unit.

    Raises:
        ValueError: A float format: the accumulator is an integer one.
    """

    lhs: Quantizer
    rhs: Quantizer
    mac: MacUnit = MacUnit()

    def __post_init__(self) -> None:
        for side in ("lhs", "rhs"):
            fmt = getattr(self, side).format
            if not isinstance(fmt, IntFormat):
                raise ValueError(f"{side} has format {fmt}, but a MacUnit accumulates integer products only")

    def __str__(self) -> str:
        return f"{self.lhs} x {self.rhs} -> {self.mac}"


@dataclass(frozen=True, kw_only=True)
class OpSpec:
    """The numerics of a layer. A GEMM that is None runs natively in float32.

    Args:
        output: The forward GEMM.
        grad_input: The GEMM of the gradient of the layer's input.
        grad_weight: The GEMM of the gradient of the layer's weight.
    """

    output: GemmSpec | None
    grad_input: GemmSpec | None
    grad_weight: GemmSpec | None

    def __str__(self) -> str:
        gemms = {"output": self.output, "grad_input": self.grad_input, "grad_weight": self.grad_weight}
        return ", ".join(f"{role}: {gemm or 'native'}" for role, gemm in gemms.items())

    @staticmethod
    def uniform(
        format: Format,
        *,
        mac: MacUnit = MacUnit(),
        gradient_rounding: Rounding = Rounding(),
        granularity: Granularity = PerTensor(),
        scale: ScaleRule = AbsMaxScale(),
    ) -> OpSpec:
        """The three GEMMs alike.

        Args:
            format: Format of inputs, weights and gradients.
            mac: The MAC unit of all three.
            gradient_rounding: Rounding of grad_output in the two backward GEMMs; everything else rounds to
                nearest even.
            granularity: Of every quantiser.
            scale: Scale rule of every quantiser.
        """
        value = Quantizer(format, granularity=granularity, scale=scale)
        gradient = Quantizer(format, granularity=granularity, scale=scale, rounding=gradient_rounding)
        return OpSpec(
            output=GemmSpec(value, value, mac),
            grad_input=GemmSpec(gradient, value, mac),
            grad_weight=GemmSpec(gradient, value, mac),
        )
