"""What is done to a layer's weights before they are quantised, and to which layers of a model.

weights = { preprocessing = "dorefa", bits = 4 }
weights = { preprocessing = "bwn" }

The key stands beside an arm's numerics or a rule's, and is for the layers that the arm or the rule decides about,
native ones among them. See `nn.weight_preprocessing`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Self, get_args

from pydantic import AfterValidator, Field, model_validator
from torch import nn

from lowbit_sim.config.tables import KeyedError, Strict
from lowbit_sim.nn.emulation import EmulatedLayer
from lowbit_sim.nn.registry import multiplies
from lowbit_sim.nn.rules import Rule
from lowbit_sim.nn.weight_preprocessing import MOST_BITS, Preprocessing, preprocess_weights
from lowbit_sim.numerics.suggest import unknown

_KINDS = tuple(kind for kind in get_args(Preprocessing) if kind != "none")


def _known(name: str) -> str:
    if name not in _KINDS:
        raise ValueError(unknown("pre-processing of weights", name, _KINDS))
    return name


class WeightsTable(Strict):
    """The pre-processing of weights.

    Attributes:
        preprocessing: "dorefa" or "bwn".
        bits: Bits of DoReFa's own rounding; left out, the layer's numerics round.
    """

    preprocessing: Annotated[str, AfterValidator(_known)]
    bits: Annotated[int, Field(ge=1, le=MOST_BITS)] | None = None

    @model_validator(mode="after")
    def _bits_have_an_effect(self) -> Self:
        if self.bits is not None and self.preprocessing != "dorefa":
            raise KeyedError(("bits",), f"{self.preprocessing} has no bits of its own: leave them out")
        return self

    def described(self) -> str:
        """In the words of a table's cell: "dorefa (4 bits)"."""
        bits = "" if self.bits is None else f" ({self.bits} bit{'s' if self.bits > 1 else ''})"
        return self.preprocessing + bits


def preprocess(model: nn.Module, rules: Sequence[tuple[str, WeightsTable | None]]) -> nn.Module:
    """Pre-process the weights of a model's layers in place, each as the first rule that matches its path says.

    Args:
        model: The model, converted already.
        rules: A pattern of paths, and what is done to the weights of the layers there.

    Raises:
        ValueError: A pre-processing that no layer takes.
    """
    chosen: list[list[nn.Module]] = [[] for _ in rules]
    for path, layer in _layers(model).items():
        first = next((i for i, (pattern, _) in enumerate(rules) if Rule(pattern, None).matches(path)), None)
        if first is not None:
            chosen[first].append(layer)
    for layers, (pattern, table) in zip(chosen, rules, strict=True):
        if table is None:
            continue
        if not layers:
            raise ValueError(
                f"weights = {table.described()!r} for the layers {pattern!r}: there is none that no rule before took"
            )
        kind: Preprocessing = table.preprocessing  # type: ignore[assignment]
        preprocess_weights(model, kind, bits=table.bits, layers=layers)
    return model


def _layers(model: nn.Module) -> dict[str, nn.Module]:
    """The layers with GEMMs by their paths; the parts of a layer are its own affair."""
    found: dict[str, nn.Module] = {}
    for path, module in model.named_modules():
        inside = any(path.startswith(f"{outer}.") for outer in found)
        if not inside and (isinstance(module, EmulatedLayer) or multiplies(module)):
            found[path] = module
    return found
