"""Which elements of a tensor share a scale."""

from __future__ import annotations

from dataclasses import dataclass

from lowbit_sim.numerics.whole import is_whole


@dataclass(frozen=True)
class PerTensor:
    """One scale for the whole tensor: scale shape [1, ..., 1]."""


@dataclass(frozen=True)
class PerAxis:
    """One scale for each index along an axis.

    A weight [O, I] with PerAxis(0) has scales [O, 1], one for each output channel. A convolution's input
    [N, C, H, W] with PerAxis(0) has scales [N, 1, 1, 1], one for each sample.

    Args:
        axis: The axis, which may be negative.

    Raises:
        ValueError: Not a whole number.
    """

    axis: int

    def __post_init__(self) -> None:
        if not is_whole(self.axis, -64, 63):
            raise ValueError(f"an axis is a whole number, got PerAxis({self.axis!r})")


Granularity = PerTensor | PerAxis


def scale_shape(granularity: Granularity, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Shape of the scales of a tensor of a given shape; it broadcasts against the tensor.

    Raises:
        ValueError: An axis that the tensor does not have.
    """
    if isinstance(granularity, PerTensor):
        return (1,) * len(shape)
    axis = granularity.axis
    if not -len(shape) <= axis < len(shape):
        raise ValueError(f"PerAxis({axis}) needs a tensor with that axis, got shape {list(shape)}")
    return tuple(n if i == axis % len(shape) else 1 for i, n in enumerate(shape))
