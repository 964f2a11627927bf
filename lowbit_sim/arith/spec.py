"""The numerics of a layer in one printable value: three GEMMs, each with its two quantisers and its MAC unit.

| role (synonym)        | product | reduction axis | lhs         | rhs    |
|-----------------------|---------|----------------|-------------|--------|
| `output` (fprop)      | x w^T   | I              | input       | weight |
| `grad_input` (dgrad)  | g w     | O              | grad_output | weight |
| `grad_weight` (wgrad) | g^T x   | B              | grad_output | input  |

with input x [B, I], weight w [O, I] and grad_output g = dL/dy [B, O].
"""

from __future__ import annotations

from dataclasses import dataclass, field

from lowbit_sim.arith.float_mac import FloatMacUnit
from lowbit_sim.arith.mac import MacUnit
from lowbit_sim.arith.products import ProductTable
from lowbit_sim.numerics.formats import BlockFormat, FixedFormat, FloatFormat, Format, IntFormat
from lowbit_sim.numerics.rounding import Rounding
from lowbit_sim.numerics.whole import is_whole
from lowbit_sim.quant.granularity import Granularity, PerTensor
from lowbit_sim.quant.quantizer import Quantizer
from lowbit_sim.quant.scaling import AbsMaxScale, FixedScale, MinMaxScale, ScaleRule
from lowbit_sim.quant.transforms import Transform

#: Independent quantisations of one operand; their random bits are told apart by 8 bits.
MAX_SAMPLES = 256


@dataclass(frozen=True)
class GemmSpec:
    """One GEMM: the quantisers of its operands and its MAC unit.

    A quantiser sees its tensor in the tensor's own layout, and a convolution unfolds the codes. Where elements
    along the reduction share a scale (block formats), or where a transform mixes them, the operand is laid out
    first, as the array is fed: the quantiser sees a matrix [M, K] on the left and [N, K] on the right, and its
    blocks run along K.

    Args:
        lhs: Quantiser of the left operand.
        rhs: Quantiser of the right operand.
        mac: The multiply-accumulate unit: a `MacUnit` for formats whose values are whole multiples of a unit
            (`format.unit`), a `FloatMacUnit` for any.
        across: With block scales, the accumulator of the blocks' scaled sums.
        transform: Applied to both operands as real matrices before they are quantised.
        samples: Independent quantisations of the left operand whose results are averaged (SMP of LUQ, Chmiel et
            al. 2023): the variance of stochastic rounding falls by this factor, the GEMM runs that often.

    Raises:
        ValueError: A format that the MAC unit can't multiply, blocks of different sizes on the two sides, or more
            than one sample of an operand that is not rounded stochastically.
    """

    lhs: Quantizer
    rhs: Quantizer
    mac: MacUnit | FloatMacUnit = MacUnit()
    across: FloatMacUnit = field(default=FloatMacUnit(), kw_only=True)
    transform: Transform | None = field(default=None, kw_only=True)
    samples: int = field(default=1, kw_only=True)

    def __post_init__(self) -> None:
        if isinstance(self.mac, MacUnit):
            for side in ("lhs", "rhs"):
                fmt = getattr(self, side).element_format
                if fmt.unit is None:
                    raise ValueError(
                        f"{side} has format {fmt}, whose values are not whole multiples of one unit within 16 bits: "
                        "a MacUnit can't add its products, a FloatMacUnit can"
                    )
            self._check_products(self.mac.products)
        if self.lhs.block and self.rhs.block and self.lhs.block != self.rhs.block:
            raise ValueError(
                f"lhs has blocks of {self.lhs.block} and rhs of {self.rhs.block} along the reduction: "
                "they must be of one size, or one side without blocks"
            )
        if not is_whole(self.samples, 1, MAX_SAMPLES):
            raise ValueError(f"a GEMM takes 1 to {MAX_SAMPLES} samples, got samples={self.samples}")
        if self.samples > 1 and not self.lhs.rounding.is_stochastic:
            raise ValueError(
                f"samples={self.samples} of lhs are all alike: it rounds {self.lhs.rounding.mode}, not stochastic"
            )

    def _check_products(self, products: ProductTable | None) -> None:
        """Refuse a table that has no row for some of the operands' codes: the first such code would end a run."""
        if products is None:
            return
        low, high = products.code_range
        for side in ("lhs", "rhs"):
            smallest, largest = multiplicand_range(getattr(self, side))
            if smallest < low or largest > high:
                raise ValueError(
                    f"{side} has codes from {smallest} to {largest}, but the products of {products} are of codes "
                    f"from {low} to {high}"
                )

    @property
    def block(self) -> int:
        """Elements along the reduction that share a scale, on either side; 0 for no blocks."""
        return self.lhs.block or self.rhs.block

    def __str__(self) -> str:
        parts = [f"{self.lhs} x {self.rhs} -> {self.mac}"]
        if self.block:
            parts.append(f"blocks of {self.block} into {self.across}")
        if self.transform is not None:
            parts.append(f"after {self.transform}")
        if self.samples > 1:
            parts.append(f"mean of {self.samples} samples")
        return ", ".join(parts)


def _default_mac(quantizer: Quantizer) -> MacUnit | FloatMacUnit:
    fmt = quantizer.element_format
    if fmt.unit is None:
        return FloatMacUnit()
    return MacUnit(accumulator_bits=32 if fmt.max_value <= 255 * fmt.unit else 48)


def _default_scale(given: Format) -> ScaleRule:
    fmt = Quantizer(given).format
    as_it_is = given is not fmt or isinstance(fmt, FixedFormat)  # not the same object: a number of qtorch's
    if isinstance(fmt, BlockFormat):
        return AbsMaxScale()
    wide = isinstance(fmt, FloatFormat) and fmt.exponent_bits == 8
    return FixedScale(1.0) if as_it_is or wide else AbsMaxScale()


def multiplicand_range(quantizer: Quantizer) -> tuple[int, int]:
    """The smallest and the largest whole number that a quantiser hands to the multiplier: codes less zero points."""
    fmt = quantizer.element_format
    assert fmt.unit is not None
    largest = int(fmt.max_value / fmt.unit)
    if isinstance(quantizer.scale, MinMaxScale) and isinstance(fmt, IntFormat):
        return fmt.qmin - fmt.qmax, fmt.qmax - fmt.qmin
    return int(getattr(fmt, "qmin", -largest)), largest


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
        mac: MacUnit | FloatMacUnit | None = None,
        gradient_rounding: Rounding = Rounding(),
        granularity: Granularity = PerTensor(),
        scale: ScaleRule | None = None,
    ) -> OpSpec:
        """The three GEMMs alike.

        Args:
            format: Format of inputs, weights and gradients.
            mac: The MAC unit of all three; by default an integer accumulator where the format's values are whole
                multiples of a unit (of 32 bits for up to 255 units, as INT8 has; of 48 above), else a float32 one.
            gradient_rounding: Rounding of grad_output in the two backward GEMMs; everything else rounds to
                nearest even.
            granularity: Of every quantiser.
            scale: Scale rule of every quantiser; by default absmax, but none (a fixed 1) for fixed point and for
                qtorch's numbers, which mean values as they are, and for formats with float32's exponent range:
                scaled to its largest values, their products would overflow a float32.
        """
        if scale is None:
            scale = _default_scale(format)
        value = Quantizer(format, granularity=granularity, scale=scale)
        gradient = Quantizer(format, granularity=granularity, scale=scale, rounding=gradient_rounding)
        mac = _default_mac(value) if mac is None else mac
        return OpSpec(
            output=GemmSpec(value, value, mac),
            grad_input=GemmSpec(gradient, value, mac),
            grad_weight=GemmSpec(gradient, value, mac),
        )
