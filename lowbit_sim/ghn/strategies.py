"""How the networks of a hypernetwork's training are quantised.

| strategy   | weights and inputs of every layer                  | GEMMs                                          |
|------------|----------------------------------------------------|------------------------------------------------|
| float      | as they are (GHN-2, GHN-Q)                         | float32                                        |
| simquant   | rounded, with a straight-through gradient          | float32 on these values; or emulated           |
| noisequant | with uniform noise of a rounding step's width      | float32                                        |

The strategies' names are those of GHN-QAT (arXiv 2309.13773); their formulas here are ours, its own are not known to
us. In SimQuant with emulated GEMMs (`numerics`) the layers are those of `nn.convert`: the forward GEMM quantises its
operands to the same codes and adds them in the accumulator given, and the backward GEMMs are the given ones, where
those that are native read the operands before rounding. Without them both backward GEMMs read the rounded operands.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, get_args

from torch import Tensor, nn

from lowbit_sim.arith.spec import OpSpec
from lowbit_sim.ghn.fake_quantization import fake_quantize, with_noise
from lowbit_sim.ghn.network import GraphNetwork
from lowbit_sim.ghn.precision import Precision, layer_quantizers, rules
from lowbit_sim.nn.convert import convert
from lowbit_sim.nn.emulation import EmulatedLayer
from lowbit_sim.numerics.suggest import unknown
from lowbit_sim.quant.quantizer import Quantizer

StrategyName = Literal["float", "simquant", "noisequant"]

_CHANGES = {"simquant": fake_quantize, "noisequant": with_noise}


@dataclass(frozen=True, kw_only=True)
class Strategy:
    """A strategy with its bits.

    Args:
        name: One of the three.
        precision: Bits of weights and activations; W32A32 leaves them as they are, bit for bit.
        numerics: Of simquant: the accumulator of the forward GEMM, and the backward GEMMs, of emulated layers; None
            for float32 ones.

    Raises:
        ValueError: An unknown name, a precision beside float, numerics beside another strategy than simquant or
            beside W32A32, or numerics without a forward GEMM.
    """

    name: StrategyName = "float"
    precision: Precision = Precision()
    numerics: OpSpec | None = None

    def __post_init__(self) -> None:
        if self.name not in get_args(StrategyName):
            raise ValueError(unknown("strategy", self.name, get_args(StrategyName)))
        if self.name == "float" and not self.precision.is_float:
            raise ValueError(f"strategy 'float' quantises nothing: leave out {self.precision}")
        if self.numerics is None:
            return
        if self.name != "simquant" or self.precision.is_float:
            raise ValueError("numerics are those of simquant's GEMMs of 2 to 8 bits: leave them out")
        if self.numerics.output is None:
            raise ValueError("numerics have no emulated forward GEMM, whose accumulator would be taken")

    def __str__(self) -> str:
        return "float" if self.name == "float" else f"{self.name} {self.precision}"

    def prepared(self, network: GraphNetwork, *, seed: int = 0) -> PreparedNetwork:
        """A network whose layers take their inputs as the strategy says; the network itself is changed.

        Args:
            network: The network, native.
            seed: Of the random bits of emulated GEMMs.
        """
        if self.numerics is not None:
            assert self.numerics.output is not None
            chosen = rules(
                network.graph, self.precision, mac=self.numerics.output.mac, backward=self.numerics
            )
            return PreparedNetwork(module=convert(network, chosen, seed=seed), weights={}, change=None)
        weights: dict[str, Quantizer] = {}
        change = _CHANGES.get(self.name)
        if change is not None:
            for each in layer_quantizers(network.graph, self.precision):
                hook = partial(_change_input, change, each.activation, each.node.path)
                network.layers[each.node.name].register_forward_pre_hook(hook)
                weights[f"{each.node.path}.weight"] = each.weight
        return PreparedNetwork(module=network, weights=weights, change=change)


def _change_input(
    change: Any, quantizer: Quantizer, path: str, layer: nn.Module, inputs: tuple[Tensor]
) -> tuple[Tensor]:
    return (change(inputs[0], quantizer, layer=path),)


@dataclass(frozen=True, kw_only=True, eq=False)
class PreparedNetwork:
    """A network that trains under a strategy.

    Attributes:
        module: The network; its layers' inputs are taken care of.
        weights: The quantisers of its weights, by the parameter's name; empty where its layers quantise them.
        change: What is done to the weights with them.
    """

    module: nn.Module
    weights: Mapping[str, Quantizer]
    change: Any

    def changed(self, parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The parameters as the layers are to have them."""
        if not self.weights:
            return dict(parameters)
        return {
            name: self.change(value, self.weights.get(name), layer=name.rpartition(".")[0])
            for name, value in parameters.items()
        }

    def at_step(self, step: int) -> None:
        """Give emulated layers the step that addresses their random bits, whatever they have run before."""
        for module in self.module.modules():
            if isinstance(module, EmulatedLayer):
                module.random_step = step
