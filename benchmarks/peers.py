"""Other people's emulation of INT8 training: each function takes a native model and converts it.

Both keep float32 values that stand on a grid of integers and compute in float32 (fake quantisation); neither emulates
an accumulator.

* Brevitas (Pappalardo, Xilinx/AMD): INT8 weights and activations, one scale for a tensor, from its largest magnitude
  in every step; gradients pass straight through and stay float32.
* QPyTorch (Zhang et al., 2019): fixed point of 8 bits with 6 after the point for the operands of the three GEMMs:
  inputs and weights to the nearest, gradients stochastically.
"""

from __future__ import annotations

from torch import nn
from torch.nn.utils.parametrize import register_parametrization


def brevitas_int8(model: nn.Sequential) -> nn.Sequential:
    """Convolutions and linear layers replaced by Brevitas' with quantised weights and inputs."""
    import brevitas.nn as qnn  # pyright: ignore[reportMissingImports]
    from brevitas.inject.enum import ScalingImplType, StatsOp  # pyright: ignore[reportMissingImports]
    from brevitas.quant import Int8ActPerTensorFloat, Int8WeightPerTensorFloat  # pyright: ignore[reportMissingImports]

    class Int8Input(Int8ActPerTensorFloat):
        """With the scale of each step's own values, as this project's; the default learns one."""

        scaling_impl_type = ScalingImplType.STATS
        scaling_stats_op = StatsOp.MAX

    quantizers = {"weight_quant": Int8WeightPerTensorFloat, "input_quant": Int8Input}

    def converted(layer: nn.Module) -> nn.Module:
        if isinstance(layer, nn.Conv2d):
            sizes = (layer.in_channels, layer.out_channels, layer.kernel_size)
            return qnn.QuantConv2d(*sizes, padding=layer.padding, **quantizers)  # pyright: ignore
        if isinstance(layer, nn.Linear):
            return qnn.QuantLinear(layer.in_features, layer.out_features, bias=True, **quantizers)
        return layer

    return nn.Sequential(*map(converted, model))


def qpytorch_fixed8(model: nn.Sequential) -> nn.Sequential:
    """Quantisers of the weights, before each layer of its input, and behind it of the gradient of its output."""
    from qtorch import FixedPoint
    from qtorch.quant import Quantizer

    number = FixedPoint(8, 6)
    layers: list[nn.Module] = []
    for layer in model:
        if isinstance(layer, nn.Conv2d | nn.Linear):
            register_parametrization(layer, "weight", Quantizer(number, forward_rounding="nearest"))
            layers.append(Quantizer(number, forward_rounding="nearest"))
            layers += [layer, Quantizer(backward_number=number, backward_rounding="stochastic")]
        else:
            layers.append(layer)
    return nn.Sequential(*layers)
