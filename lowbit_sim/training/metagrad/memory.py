"""What MetaGrad keeps from one step to the next, for every coordinate.

| vector      | numbers a coordinate | kept for                                             |
|-------------|----------------------|------------------------------------------------------|
| gradient    | 1                    | every hypernetwork                                   |
| weight      | 1                    | those that read the weight                           |
| moment      | 1                    | those that read the running mean of gradients        |
| calibration | 1                    | pre-processed weights                                |
| state       | its features         | those with a state (LSTMFC)                          |
| factors     | 1                    | Adam; of SGD one number for each parameter is enough |
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from lowbit_sim.training.metagrad.coordinates import Chunk, Coordinates, FlatLayout

#: The vectors of one number a coordinate.
VECTORS = ("gradient", "weight", "moment", "calibration")


@dataclass(kw_only=True, eq=False)
class Memory:
    """The inputs of the last correction, so that it can be computed again with its graph.

    Attributes:
        layout: Where each parameter lies in the vectors.
        gradient: The (quantised) gradient that was corrected [N]; None before the first step.
        weight: The weights at that step, as the hypernetwork reads them [N], or None.
        moment: Running mean of the gradients before that step [N], or None.
        calibration: Of pre-processed weights at that step [N], or None.
        state: The hypernetwork's state before that step, [features, N] each.
        factors: For each parameter how far its weight moved for a change of its gradient (see `refinement`); None if
            that step's update did not happen (yet).
    """

    layout: FlatLayout
    gradient: Tensor | None = None
    weight: Tensor | None = None
    moment: Tensor | None = None
    calibration: Tensor | None = None
    state: tuple[Tensor, ...] = ()
    factors: list[float | Tensor] | None = None
    _scales: dict[str, Tensor] = field(default_factory=dict)

    def fold(self, decay: float | None) -> None:
        """Take the last gradient into the running mean."""
        if decay is not None and self.gradient is not None:
            old = torch.zeros_like(self.gradient) if self.moment is None else self.moment
            self.moment = torch.lerp(self.gradient, old, decay)

    def keep(self, gradient: Tensor, weight: Tensor | None, moment_read: bool) -> None:
        """Take in a step's inputs; the running mean and the state are moved on beforehand."""
        self.gradient, self.weight, self.factors = gradient, weight, None
        if moment_read and self.moment is None:
            self.moment = torch.zeros_like(gradient)
        self._scales.clear()

    def coordinates(self, chunk: Chunk, *, with_scales: bool) -> Coordinates:
        """What the hypernetwork sees of a chunk."""
        inputs: dict[str, Tensor | None] = {}
        for name, scale in (("gradient", "scale"), ("weight", "weight_scale"), ("moment", "moment_scale")):
            flat: Tensor | None = getattr(self, name)
            inputs[name] = None if flat is None else chunk.of(flat)
            inputs[scale] = None if flat is None or not with_scales else chunk.expand(self._scale(name, flat))
        return Coordinates(**inputs)  # pyright: ignore[reportArgumentType]

    def _scale(self, name: str, flat: Tensor) -> Tensor:
        if name not in self._scales:
            self._scales[name] = self.layout.scales(flat)
        return self._scales[name]

    def direction(self, gradient: Tensor, calibration: Tensor | None) -> Tensor:
        """The loss' derivative by the last correction: this step's gradient times how far the weights moved for it.

        Args:
            gradient: This step's gradient [N], of the weights that the last correction led to.
            calibration: At these weights [N], or None.
        """
        assert self.factors is not None
        v = gradient.clone()
        for part, factor in zip(self.layout.part(v), self.factors, strict=True):
            part.mul_(factor)
        for each in (calibration, self.calibration):
            if each is not None:
                v.mul_(each)
        return v

    def bytes(self) -> dict[str, int]:
        """Bytes that each of the vectors takes."""
        sizes = {name: _bytes(flat) for name in VECTORS if (flat := getattr(self, name)) is not None}
        sizes["state"] = sum(map(_bytes, self.state))
        sizes["factors"] = sum(_bytes(f) for f in self.factors or () if isinstance(f, Tensor))
        return {name: size for name, size in sizes.items() if size}

    def by_name(self) -> dict[str, dict[str, Any]]:
        """All of it, by parameter; copies."""
        kept: dict[str, dict[str, Any]] = {name: {} for name in self.layout.shapes}
        for vector in VECTORS:
            flat: Tensor | None = getattr(self, vector)
            if flat is not None:
                for mine, part in zip(kept.values(), self.layout.part(flat), strict=True):
                    mine[vector] = part.clone()
        for number, mine in enumerate(kept.values()):
            mine["state"] = [s.split(self.layout.sizes, dim=1)[number].clone() for s in self.state]
            factor = None if self.factors is None else self.factors[number]
            mine["factor"] = factor.clone() if isinstance(factor, Tensor) else factor
        return kept

    def load(self, kept: dict[str, dict[str, Any]], dtype: torch.dtype) -> None:
        """Take over what `by_name` gave.

        Raises:
            ValueError: Other parameters, or other shapes, than those of the layout.
        """
        shapes = {name: tuple(mine["gradient"].shape) for name, mine in kept.items() if "gradient" in mine}
        if shapes != self.layout.shapes:
            odd = sorted(
                name
                for name in {*shapes, *self.layout.shapes}
                if shapes.get(name) != self.layout.shapes.get(name)
            )
            raise ValueError(f"the state is for other parameters than the model's: {', '.join(odd)}")
        parts = list(kept.values())
        for vector in VECTORS:
            if vector in parts[0]:
                setattr(self, vector, self.layout.join([mine[vector] for mine in parts], dtype))
        self.state = tuple(
            torch.cat(pieces, dim=1).to(device=self.layout.device, dtype=dtype)
            for pieces in zip(*(mine["state"] for mine in parts), strict=True)
        )
        self.factors = _factors([mine["factor"] for mine in parts], self.layout.device)
        self._scales.clear()


def _factors(found: Sequence[float | Tensor | None], device: torch.device) -> list[float | Tensor] | None:
    known: list[float | Tensor] = [
        f.to(device).clone() if isinstance(f, Tensor) else f for f in found if f is not None
    ]
    return known if len(known) == len(found) else None


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()
