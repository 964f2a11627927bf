"""The coordinates of many parameters as one flat vector, in chunks: what a hypernetwork sees.

A hypernetwork is one small function for every coordinate of every layer, so parameters are laid end to end and cut
into chunks of `CHUNK` coordinates. That bounds the memory of the hypernetwork's hidden features and keeps them in the
cache, and many small layers cost one call.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

#: Coordinates that a hypernetwork handles at once.
CHUNK = 1 << 15

#: Stands in for the scale of a tensor of zeros.
SMALLEST_SCALE = 1e-30


def norms(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Each tensor's norm, in one call."""
    return list(torch._foreach_norm(list(tensors)))  # pyright: ignore[reportPrivateImportUsage]


@dataclass(frozen=True, kw_only=True)
class Coordinates:
    """A chunk of coordinates.

    Attributes:
        gradient: The (quantised) gradient of each coordinate [n].
        scale: Root mean square of the gradient of the tensor that a coordinate is in [n].
        weight: The weight [n], in the reading that the hypernetwork asks for; None if it asks for none.
        weight_scale: Root mean square of the weights of its tensor [n], or None.
        moment: Running mean of the gradients before this one [n]; None if the hypernetwork asks for none.
        moment_scale: Root mean square of the moments of its tensor [n], or None.
    """

    gradient: Tensor
    scale: Tensor | None = None
    weight: Tensor | None = None
    weight_scale: Tensor | None = None
    moment: Tensor | None = None
    moment_scale: Tensor | None = None


def needed(vector: Tensor | None) -> Tensor:
    """A vector that a hypernetwork has asked for.

    Raises:
        ValueError: It is not there.
    """
    if vector is None:
        raise ValueError(
            "the coordinates lack a vector that this hypernetwork reads: see weight_reading, moment_decay and "
            "reads_scales of Hypernetwork"
        )
    return vector


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """A stretch of the flat vector, and the tensors that it cuts.

    Attributes:
        start, stop: The coordinates.
        first, last: Numbers of the tensors of the first coordinate and behind that of the last one.
        lengths: Coordinates of each of these tensors in the chunk.
    """

    start: int
    stop: int
    first: int
    last: int
    lengths: Tensor

    def of(self, flat: Tensor) -> Tensor:
        """The chunk of a vector of all coordinates (along its last axis)."""
        return flat[..., self.start : self.stop]

    def expand(self, of_tensors: Tensor) -> Tensor:
        """One number for each tensor, as one for each coordinate of the chunk."""
        mine = of_tensors[self.first : self.last]
        if len(mine) == 1:
            return mine.expand(self.stop - self.start)
        return mine.repeat_interleave(self.lengths, output_size=self.stop - self.start)


@dataclass(frozen=True)
class FlatLayout:
    """Where each parameter lies in the flat vector.

    Attributes:
        shapes: Parameters' shapes by name, in the order in which they lie there.
        device: Where the vector is.
    """

    shapes: dict[str, tuple[int, ...]]
    device: torch.device

    @cached_property
    def sizes(self) -> list[int]:
        """Coordinates of each parameter."""
        return [torch.Size(shape).numel() for shape in self.shapes.values()]

    @cached_property
    def size(self) -> int:
        """Coordinates of all."""
        return sum(self.sizes)

    @cached_property
    def chunks(self) -> list[Chunk]:
        """The vector in chunks of `CHUNK` coordinates; the last one may have fewer."""
        return [self._chunk(start) for start in range(0, self.size, CHUNK)]

    def _chunk(self, start: int) -> Chunk:
        stop, lengths, first, begin = min(start + CHUNK, self.size), [], 0, 0
        for number, size in enumerate(self.sizes):
            inside = max(0, min(stop, begin + size) - max(start, begin))
            if inside and not lengths:
                first = number
            if lengths or inside:  # an empty tensor in between counts too
                lengths.append(inside)
            begin += size
        return Chunk(
            start=start,
            stop=stop,
            first=first,
            last=first + len(lengths),
            lengths=torch.tensor(lengths, device=self.device),
        )

    def join(self, tensors: Sequence[Tensor], dtype: torch.dtype) -> Tensor:
        """The parameters' tensors as one new vector."""
        return torch.cat([t.reshape(-1) for t in tensors]).to(device=self.device, dtype=dtype)

    def part(self, flat: Tensor) -> list[Tensor]:
        """Each parameter's stretch of a vector, in its shape; no copies."""
        return [
            piece.view(shape)
            for piece, shape in zip(flat.split(self.sizes), self.shapes.values(), strict=True)
        ]

    def scales(self, flat: Tensor) -> Tensor:
        """Root mean square of each parameter's stretch, never 0."""
        sizes = torch.stack(norms(flat.split(self.sizes)))
        return (sizes * self._inverse_roots.to(sizes.dtype)).clamp_min(SMALLEST_SCALE)

    @cached_property
    def _inverse_roots(self) -> Tensor:
        return torch.tensor(self.sizes, dtype=torch.float64, device=self.device).clamp_min(1).rsqrt()
