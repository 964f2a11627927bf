"""What a scale rule remembers between calls."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(kw_only=True)
class ScaleState:
    """The memory of a stateful scale rule, owned by the caller: one for each tensor that is quantised.

    Attributes:
        value: `EmaScale`: the running maximum. `LearnedScale`: the scale, which may be a parameter.
            `DirectionSensitiveScale`: the clip found last. float32 of the scales' shape; None before the first call.
        calls: How many calls have updated the state.
        frozen: Use the state, but don't change it (evaluation).
    """

    value: Tensor | None = None
    calls: int = 0
    frozen: bool = False
