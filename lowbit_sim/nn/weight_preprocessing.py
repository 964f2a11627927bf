"""Pre-processing of weights before they are quantised: DoReFa and BWN, as parametrizations of torch.

              W~ = A(W)                          W^, what enters the GEMM     calibration
    DoReFa    tanh(W) / (2 max|tanh W|) + 1/2    2 q_k(W~) - 1                (1 - tanh^2 W) / max|tanh W|
    BWN       W                                  mean|W| sign(W)              1

q_k(v) = round((2^k - 1) v) / (2^k - 1) passes its gradient straight through; without `bits` it is left out, and the
layer's own quantiser, which reads W^, rounds instead. The gradient at W is the gradient at W^ times the calibration,
which takes the maximum for a constant; the factor 1/2 of dW~/dW and the factor 2 of W^ cancel in it.

A tensor of zeros, as some layers start from, has no maximum to divide by: tanh(W) is divided by 1. W^ then is 0
without `bits`, and with them 1 / (2^k - 1), the level that 1/2 is rounded to (half to even), or -1 with one bit.

Sources: Zhou et al., "DoReFa-Net", arXiv 1606.06160, section 2.3; Rastegari et al., "XNOR-Net", ECCV 2016 (binary
weights); Chen et al., "MetaQuant", NeurIPS 2019, section 3.2 (the calibration).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from lowbit_sim.nn.emulation import EmulatedLayer
from lowbit_sim.numerics.suggest import unknown
from lowbit_sim.ops.billing import bills_itself
from lowbit_sim.trace import VectorEvent, emit, recording

#: The largest number of bits of `q_k`: more levels than float32's significand tells apart.
MOST_BITS = 24


class WeightPreprocessing(nn.Module):
    """A parametrization: W -> W^. A subclass gives the formulas.

    Attributes:
        passes_uncalibrated: Whether the backward pass leaves the calibration out, so that `W.grad` is the gradient at
            W^. Whoever asks for that has to put it in afterwards, and to ask again in every step.
    """

    passes_uncalibrated = False

    def forward(self, weight: Tensor) -> Tensor:
        """W^ [shape of W]."""
        return _Preprocess.apply(weight, self)  # pyright: ignore[reportReturnType]

    def preprocessed(self, weight: Tensor) -> Tensor:
        """W~."""
        raise NotImplementedError

    def signed(self, weight: Tensor) -> Tensor:
        """W~ on a range that is symmetric about zero: W^ before its rounding."""
        raise NotImplementedError

    def quantized(self, weight: Tensor) -> Tensor:
        """W^."""
        raise NotImplementedError

    def calibration(self, weight: Tensor) -> Tensor:
        """The gradient at W over the gradient at W^."""
        raise NotImplementedError


class DoReFaWeight(WeightPreprocessing):
    """DoReFa's: weights within [-1, 1].

    Args:
        bits: k of q_k, 1 to 24; None to leave the rounding to the layer's quantiser.

    Raises:
        ValueError: `bits` outside its range.
    """

    def __init__(self, bits: int | None = None) -> None:
        super().__init__()
        if bits is not None and not (isinstance(bits, int) and 1 <= bits <= MOST_BITS):
            raise ValueError(f"bits of DoReFa's weights must be from 1 to {MOST_BITS}, got {bits!r}")
        self.bits = bits

    def preprocessed(self, weight: Tensor) -> Tensor:
        """W~ within [0, 1]."""
        return self.signed(weight) / 2 + 0.5

    def signed(self, weight: Tensor) -> Tensor:
        """tanh(W) / max|tanh W|."""
        return torch.tanh(weight) / _largest(weight)

    def quantized(self, weight: Tensor) -> Tensor:
        """See the module."""
        if self.bits is None:
            return self.signed(weight)
        steps = (1 << self.bits) - 1
        return 2 * (self.preprocessed(weight) * steps).round() / steps - 1

    def calibration(self, weight: Tensor) -> Tensor:
        """(1 - tanh^2 W) / max|tanh W|."""
        return (1 - torch.tanh(weight) ** 2) / _largest(weight)

    def extra_repr(self) -> str:
        """The bits."""
        return f"bits={self.bits}"


class BWNWeight(WeightPreprocessing):
    """Binary weights: the sign times the tensor's mean magnitude; the sign of 0 is +."""

    def preprocessed(self, weight: Tensor) -> Tensor:
        """W itself."""
        return weight

    def signed(self, weight: Tensor) -> Tensor:
        """W itself."""
        return weight

    def quantized(self, weight: Tensor) -> Tensor:
        """See the module."""
        return torch.where(weight >= 0, 1.0, -1.0).to(weight.dtype) * weight.abs().mean()

    def calibration(self, weight: Tensor) -> Tensor:
        """1."""
        return torch.ones_like(weight)


def _largest(weight: Tensor) -> Tensor:
    """max|tanh W|; 1 for a tensor of zeros (or subnormal numbers), which has no scale: its calibration then is 1."""
    largest = torch.tanh(weight.abs().max())
    return torch.where(largest < torch.finfo(weight.dtype).tiny, 1.0, largest)


class _Preprocess(torch.autograd.Function):
    @staticmethod
    @bills_itself
    def forward(ctx: Any, weight: Tensor, preprocessing: WeightPreprocessing) -> Tensor:
        ctx.save_for_backward(weight)
        ctx.preprocessing = preprocessing
        _bill(weight, reads=2)  # once for the maximum or mean, once for the values
        return preprocessing.quantized(weight)

    @staticmethod
    @bills_itself
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        (weight,) = ctx.saved_tensors
        if ctx.preprocessing.passes_uncalibrated:
            return grad, None
        _bill(weight, reads=2)  # the weight and the gradient
        return grad * ctx.preprocessing.calibration(weight), None


def _bill(weight: Tensor, *, reads: int) -> None:
    if recording():
        size = weight.numel() * weight.element_size()
        emit(
            VectorEvent(kind="transform", elements=weight.numel(), read_bytes=reads * size, write_bytes=size)
        )


Preprocessing = Literal["dorefa", "bwn", "none"]

_KINDS = ("dorefa", "bwn", "none")


def preprocess_weights(
    model: nn.Module, kind: Preprocessing, *, bits: int | None = None, layers: Sequence[nn.Module] = ()
) -> nn.Module:
    """Pre-process the weights of emulated layers, in place; optimisers keep their parameters.

    Weights are the parameters of two and more axes with "weight" in their names: those of Linear, convolutions,
    embeddings, recurrent layers, and the projections of an attention. A state_dict then has
    "parametrizations.weight.original" in the place of "weight".

    Args:
        model: A converted model.
        kind: "dorefa", "bwn", or "none", which changes nothing.
        bits: Bits of DoReFa's own rounding, or None.
        layers: The layers; none for all emulated ones.

    Returns:
        The model.

    Raises:
        ValueError: An unknown kind, `bits` beside another kind than "dorefa", no layer, or a weight that is
            pre-processed already.
    """
    if kind not in _KINDS:
        raise ValueError(unknown("pre-processing of weights", kind, _KINDS))
    if bits is not None and kind != "dorefa":
        raise ValueError(f"bits are for dorefa: {kind!r} has none, got {bits}")
    if kind == "none":
        return model
    chosen = list(layers) or [m for m in model.modules() if isinstance(m, EmulatedLayer)]
    found = {id(m): m for layer in chosen for m in layer.modules()}
    places = [(m, name) for m in found.values() for name in _weights(m)]
    if not places:
        raise ValueError("the model has no emulated layer with a weight to pre-process: convert it first")
    for module, name in places:
        if parametrize.is_parametrized(module, name):
            raise ValueError(f"{name!r} of {type(module).__name__} is pre-processed already")
    for module, name in places:
        step = DoReFaWeight(bits) if kind == "dorefa" else BWNWeight()
        parametrize.register_parametrization(module, name, step)
    return model


def check_calibrated(model: nn.Module, reader: str) -> None:
    """Refuse gradients of a model of which some leave their calibration out.

    Args:
        model: The model.
        reader: What takes the gradients for the loss' derivatives.

    Raises:
        ValueError: Naming the first such weight.
    """
    for path, module in model.named_modules():
        if isinstance(module, WeightPreprocessing) and module.passes_uncalibrated:
            name = path.replace("parametrizations.", "").rpartition(".")[0]
            raise ValueError(
                f"{reader} takes gradients for the loss' derivatives, but that of {name}, a pre-processed weight, "
                f"lacks its calibration until metagrad has run: leave out {reader}, metagrad or the pre-processing"
            )


def remove_weight_preprocessing(model: nn.Module) -> nn.Module:
    """Take the pre-processing off again, in place; the weights are the original ones (W, not W^)."""
    for module in list(model.modules()):
        for name in _preprocessed(module):
            parametrize.remove_parametrizations(module, name, leave_parametrized=False)
    return model


def _preprocessed(module: nn.Module) -> list[str]:
    found = getattr(module, "parametrizations", {}) if parametrize.is_parametrized(module) else {}
    return [
        name for name, steps in found.items() if any(isinstance(step, WeightPreprocessing) for step in steps)
    ]


def _weights(module: nn.Module) -> list[str]:
    """The names of a module's own weights, pre-processed ones among them."""
    if isinstance(module, parametrize.ParametrizationList):
        return []
    own = [name for name, p in module._parameters.items() if p is not None and p.ndim >= 2]
    return [name for name in own if "weight" in name] + _preprocessed(module)
