"""Which native layers have an emulated twin, and how one becomes the other."""

from __future__ import annotations

from collections.abc import Container
from typing import Any

from torch import nn
from torch.nn.modules.lazy import LazyModuleMixin

from lowbit_sim.nn import attention, embedding, hugging_face, modules, recurrent
from lowbit_sim.nn.dynamic import DynamicTwin, qualified_name, twin_type
from lowbit_sim.nn.emulation import EmulatedLayer, Emulation
from lowbit_sim.nn.functional import FunctionalLayer
from lowbit_sim.nn.functional_spec import FunctionalSpec, LayerSpec
from lowbit_sim.nn.learned import add_steps, refuse_learned, remove_steps

#: The native layers that can be emulated, and their emulated twins.
EMULATED: dict[type[nn.Module], type[EmulatedLayer]] = {
    nn.Linear: modules.Linear,
    nn.Conv1d: modules.Conv1d,
    nn.Conv2d: modules.Conv2d,
    nn.Conv3d: modules.Conv3d,
    nn.ConvTranspose1d: modules.ConvTranspose1d,
    nn.ConvTranspose2d: modules.ConvTranspose2d,
    nn.ConvTranspose3d: modules.ConvTranspose3d,
    nn.Embedding: embedding.Embedding,
    nn.MultiheadAttention: attention.MultiheadAttention,
    nn.RNNCell: recurrent.RNNCell,
    nn.GRUCell: recurrent.GRUCell,
    nn.LSTMCell: recurrent.LSTMCell,
    nn.RNN: recurrent.RNN,
    nn.GRU: recurrent.GRU,
    nn.LSTM: recurrent.LSTM,
}

#: Layers of libraries that are not imported here, by their class's full name, and what makes a twin of them.
EMULATED_BY_NAME: dict[str, type[DynamicTwin]] = {
    "transformers.pytorch_utils.Conv1D": hugging_face.Conv1D,
}

#: Native layers that multiply matrices: converting one that has no emulated twin is refused, not skipped.
MULTIPLYING: tuple[type[nn.Module], ...] = (
    nn.Linear,
    nn.Bilinear,
    nn.modules.conv._ConvNd,
    nn.RNNBase,
    nn.RNNCellBase,
    nn.MultiheadAttention,
    nn.Embedding,
    nn.EmbeddingBag,
)

#: Why a layer type that looks as if it could be emulated can't.
_REASONS: dict[type[nn.Module], str] = {
    nn.EmbeddingBag: "it sums rows forward as well; use Embedding and a sum",
    nn.Bilinear: "it sums over two axes at once; use two Linear layers or a product of activations",
}

#: The layers whose input and weight may have learned scales.
_WITH_STEPS = (
    modules.Linear,
    modules.Conv1d,
    modules.Conv2d,
    modules.Conv3d,
    modules.ConvTranspose1d,
    modules.ConvTranspose2d,
    modules.ConvTranspose3d,
)

#: torch's encoders, and what stands in for them where anything in them is emulated.
UNFUSED = attention.UNFUSED

#: The methods that a layer's forward pass is made of.
_PASSES = ("forward", "_conv_forward")

#: What an emulated layer has beside its native twin.
_ADDED = ("emulation", "random_step", "scale_states", "shard", "tallies")


def multiplies(module: nn.Module) -> bool:
    """Whether a module is a layer that multiplies matrices (or, an embedding, whose gradient does)."""
    return isinstance(module, MULTIPLYING) or _known(type(module)) is not None


def _known(kind: type[nn.Module]) -> type[nn.Module] | None:
    """The nearest of a class and its bases that has a twin."""
    names = (k for k in kind.__mro__ if k in EMULATED or qualified_name(k) in EMULATED_BY_NAME)
    return next(names, None)


def layer_type(kind: type[nn.Module]) -> type[nn.Module] | None:
    """The layer type whose forward pass a class has: its own, or that of a base which it leaves as it is.

    Returns:
        None for a class that is no layer with a twin, or whose forward pass is its own.
    """
    known = _known(kind)
    if known is None or any(getattr(kind, m, None) is not getattr(known, m, None) for m in _PASSES):
        return None
    return known


def own_forward(layer: nn.Module) -> bool:
    """Whether a layer is of a subclass with a forward pass of its own, the products of which can be emulated."""
    kind = type(layer)
    return _known(kind) is not None and layer_type(kind) is None and not isinstance(layer, LazyModuleMixin)


def why_not(layer: nn.Module) -> str | None:
    """Why a layer has no emulated twin, or None if it has one."""
    if isinstance(layer, LazyModuleMixin):
        return "its shapes are not known yet: run it once first"
    if "forward" in vars(layer):
        return "its forward is a function that was set on the object, which the twin's would not replace"
    if own_forward(layer):
        return "its class has a forward of its own: a rule with a FunctionalSpec emulates the products that it calls"
    if layer_type(type(layer)) is not None:
        return embedding.why_not(layer)
    known = ", ".join(native.__name__ for native in EMULATED)
    return next((why for base, why in _REASONS.items() if isinstance(layer, base)), f"only {known} can be")


def emulate(native: nn.Module, emulation: Emulation) -> nn.Module:
    """The emulated twin of a native layer. It shares the native layer's parameters, hooks and flags."""
    twin = _twin_of(type(native), emulation.spec)
    layer = twin.__new__(twin)
    layer.__dict__.update(native.__dict__)
    layer.emulation = emulation
    layer.random_step = 0
    layer.scale_states = {}
    layer.tallies = {}
    if isinstance(layer, _WITH_STEPS):
        add_steps(layer)
    else:
        refuse_learned(emulation.spec, emulation.layer)
    return layer


def _twin_of(kind: type[nn.Module], spec: LayerSpec) -> type[EmulatedLayer]:
    """The twin's class: of any module but the layers, one that emulates the products of its forward pass."""
    known = layer_type(kind)
    if known is None or (isinstance(spec, FunctionalSpec) and known is not nn.MultiheadAttention):
        return twin_type(FunctionalLayer, kind)
    if known is kind and known in EMULATED:
        return EMULATED[known]
    return twin_type(EMULATED.get(known) or EMULATED_BY_NAME[qualified_name(known)], kind)


def native_twin(layer: EmulatedLayer) -> nn.Module:
    """The native layer that an emulated one stands for, sharing its parameters, hooks and flags."""
    if isinstance(layer, DynamicTwin):
        native_type = layer.native_type
    else:
        native_type = next(native for native, twin in EMULATED.items() if twin is type(layer))
    native = retyped(layer, native_type, without=_ADDED)
    remove_steps(native)
    return native


def retyped(module: nn.Module, kind: type[nn.Module], without: Container[str] = ()) -> nn.Module:
    """A module of another class with the same parameters, hooks and flags."""
    other = kind.__new__(kind)
    state: dict[str, Any] = {k: v for k, v in module.__dict__.items() if k not in without}
    other.__dict__.update(state)
    return other
