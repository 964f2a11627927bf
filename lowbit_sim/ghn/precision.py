"""The bits of a network's weights and activations, and the quantisers and emulated GEMMs that they stand for.

    weights        symmetric, s = max|w| / (2^(b-1) - 1), codes -(2^(b-1) - 1) .. 2^(b-1) - 1: "int4" with absmax
    activations    affine between the smallest and the largest value of the batch (and 0): "uint4" with min-max

one scale for each tensor. Behind a ReLU the smallest value is 0, and the affine quantiser is the unsigned one with
absmax, scale, codes and values alike; it needs no zero point. A network's ranges are those of its current batch, as
the statistics of its batch-norms are: each training step has other networks, so there is nothing to average over.
W32A32 quantises nothing.

With `weight_scale = "sawb"` the weights' scale is SAWB's (Choi et al., SysML 2019), which clips the largest ones. At
2 bits absmax rounds every weight below half of the largest to zero, often whole channels, and the batch-norm behind
them then divides by next to nothing. The straight-through gradient is 1 also where weights are clipped.

Two-bit weights have three levels. These quantisers are our choice: which ones GHN-QAT (arXiv 2309.13773) takes is
not known to us.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from lowbit_sim.arith.float_mac import FloatMacUnit
from lowbit_sim.arith.mac import MacUnit
from lowbit_sim.arith.spec import GemmSpec, OpSpec
from lowbit_sim.ghn.graph import NetworkGraph, Node
from lowbit_sim.nn.rules import Rule
from lowbit_sim.numerics.formats import IntFormat
from lowbit_sim.numerics.suggest import unknown
from lowbit_sim.quant.quantizer import Quantizer
from lowbit_sim.quant.scaling import AbsMaxScale, MinMaxScale, SawbScale, ScaleRule

WeightScale = Literal["absmax", "sawb"]

#: The scale rules of weights by name.
WEIGHT_SCALES: dict[WeightScale, ScaleRule] = {"absmax": AbsMaxScale(), "sawb": SawbScale()}

#: Bits that mean float32.
FLOAT_BITS = 32

_MOST_BITS = 8

_NAME = re.compile(r"^W(\d+)A(\d+)$")


@dataclass(frozen=True, kw_only=True)
class Precision:
    """Bits of weights and activations.

    Args:
        weight_bits, activation_bits: 2 to 8 each, or 32 both.
        edge_bits: Bits of both in the first convolution and in the classifier; None for the same as elsewhere.
        weight_scale: How the scale of a weight is found: by its "absmax", or by "sawb" (for 2, 4 and 8 bits).

    Raises:
        ValueError: Other bits, or edge bits or a scale beside float32.
    """

    weight_bits: int = FLOAT_BITS
    activation_bits: int = FLOAT_BITS
    edge_bits: int | None = None
    weight_scale: WeightScale = "absmax"

    def __post_init__(self) -> None:
        bits = (self.weight_bits, self.activation_bits)
        if self.weight_scale not in WEIGHT_SCALES:
            raise ValueError(unknown("scale of weights", self.weight_scale, list(WEIGHT_SCALES)))
        if bits == (FLOAT_BITS, FLOAT_BITS):
            if self.weight_scale != "absmax":
                raise ValueError(
                    f"weight_scale would have no effect beside W32A32, got {self.weight_scale!r}"
                )
            if self.edge_bits is not None:
                raise ValueError(
                    f"edge_bits would have no effect beside W32A32: leave it out, got {self.edge_bits}"
                )
            return
        for each in (*bits, *(() if self.edge_bits is None else (self.edge_bits,))):
            if not 2 <= each <= _MOST_BITS:
                raise ValueError(
                    f"weights and activations have 2 to {_MOST_BITS} bits each, or 32 both; got W{bits[0]}A{bits[1]}"
                    f"{'' if self.edge_bits is None else f' with edge_bits={self.edge_bits}'}"
                )
        for each in (self.weight_bits, self.edge_bits or self.weight_bits):
            weight_quantizer(each, self.weight_scale)  # refuses bits that the scale is not for

    @property
    def is_float(self) -> bool:
        """Whether nothing is quantised."""
        return self.weight_bits == FLOAT_BITS

    def __str__(self) -> str:
        edges = "" if self.edge_bits is None else f" (first and last W{self.edge_bits}A{self.edge_bits})"
        scale = "" if self.weight_scale == "absmax" else f" {self.weight_scale}"
        return f"W{self.weight_bits}A{self.activation_bits}{scale}{edges}"


@dataclass(frozen=True, kw_only=True)
class LayerQuantizers:
    """What quantises the operands of a layer's forward GEMM.

    Attributes:
        node: The layer's.
        activation: Of its input.
        weight: Of its weight.
    """

    node: Node
    activation: Quantizer
    weight: Quantizer


def layer_quantizers(graph: NetworkGraph, precision: Precision) -> list[LayerQuantizers]:
    """The quantisers of every layer that multiplies; none for float32.

    Args:
        graph: The network's.
        precision: The bits.
    """
    if precision.is_float:
        return []
    nodes, found = graph.multiplying, []
    for number, node in enumerate(nodes):
        bits = (precision.weight_bits, precision.activation_bits)
        if number in (0, len(nodes) - 1) and precision.edge_bits is not None:
            bits = (precision.edge_bits, precision.edge_bits)
        activation = activation_quantizer(bits[1], signed=not node.relu)
        found.append(
            LayerQuantizers(
                node=node, activation=activation, weight=weight_quantizer(bits[0], precision.weight_scale)
            )
        )
    return found


def parse_precision(
    name: str, *, edge_bits: int | None = None, weight_scale: WeightScale = "absmax"
) -> Precision:
    """The precision of a name such as "W4A8".

    Raises:
        ValueError: Not such a name, or bits that can't be.
    """
    match = _NAME.match(name)
    if match is None:
        raise ValueError(f"a precision is the bits of weights and activations, as in W4A8, got {name!r}")
    weight, activation = map(int, match.groups())
    return Precision(
        weight_bits=weight, activation_bits=activation, edge_bits=edge_bits, weight_scale=weight_scale
    )


def weight_quantizer(bits: int, scale: WeightScale = "absmax") -> Quantizer:
    """Symmetric.

    Raises:
        ValueError: Bits that SAWB has no coefficients for.
    """
    return Quantizer(IntFormat(bits=bits), scale=WEIGHT_SCALES[scale])


def activation_quantizer(bits: int, *, signed: bool = True) -> Quantizer:
    """Affine, from the smallest value (or 0) to the largest (or 0).

    Args:
        bits: Of a code.
        signed: Whether there are values below 0; without, the zero point would be 0 and is left out.
    """
    fmt = IntFormat(bits=bits, signed=False, symmetric=False)
    return Quantizer(fmt, scale=MinMaxScale() if signed else AbsMaxScale())


def rules(
    graph: NetworkGraph,
    precision: Precision,
    *,
    mac: MacUnit | FloatMacUnit = MacUnit(),
    backward: OpSpec | None = None,
) -> list[Rule]:
    """What `nn.convert` makes of a network at a precision; none for float32.

    Args:
        graph: The network's.
        precision: The bits.
        mac: The accumulator of the forward GEMMs.
        backward: Whose two backward GEMMs the layers have; None for float32.
    """
    return [
        Rule(
            each.node.path,
            OpSpec(
                output=GemmSpec(each.activation, each.weight, mac),
                grad_input=None if backward is None else backward.grad_input,
                grad_weight=None if backward is None else backward.grad_weight,
            ),
        )
        for each in layer_quantizers(graph, precision)
    ]
