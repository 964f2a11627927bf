"""Which elements of a tensor share a scale.

A *region* is the set of elements that share one. Scales have the tensor's number of axes, so that they
broadcast against it, but for `PerBlock`, whose last axis counts blocks:

| granularity          | tensor       | scales                                   | regions        |
|----------------------|--------------|------------------------------------------|----------------|
| `PerTensor()`        | [N, C, H, W] | [1, 1, 1, 1]                             | 1              |
| `PerAxis(1)`         | [N, C, H, W] | [1, C, 1, 1]                             | C              |
| `PerSample()`        | [N, C, H, W] | [N, 1, 1, 1]                             | N              |
| `PerGroup(4, 1)`     | [N, C, H, W] | [1, C, 1, 1], equal within each group    | ceil(C / 4)    |
| `PerBlock(32)`       | [M, K]       | [M, ceil(K / 32)]                        | M ceil(K / 32) |
"""

from __future__ import annotations

from dataclasses import dataclass

from lowbit_sim.numerics.whole import is_whole

_LARGEST = (1 << 31) - 1


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
        _check_axis(self, self.axis)


@dataclass(frozen=True)
class PerSample:
    """One scale for each index along the first axis, that of the batch: scale shape [N, 1, ..., 1]."""

    @property
    def axis(self) -> int:
        """0."""
        return 0


@dataclass(frozen=True)
class PerGroup:
    """One scale for each run of `size` indices along an axis, all other axes included.

    A weight [O, I] with PerGroup(16, 0) has one scale for every 16 output channels. Scale shape [O, 1], with
    the same scale in each place of a group, so that it broadcasts as that of PerAxis(0) does. The last group
    may be shorter.

    Args:
        size: Indices in a group, at least 1.
        axis: The axis, which may be negative.

    Raises:
        ValueError: A size below 1 or an axis that is not a whole number.
    """

    size: int
    axis: int

    def __post_init__(self) -> None:
        if not is_whole(self.size, 1, _LARGEST):
            raise ValueError(f"a group has a whole number of indices, at least 1, got {written(self)}")
        _check_axis(self, self.axis)


@dataclass(frozen=True)
class PerBlock:
    """One scale for each run of `size` elements along the last axis, separately for every other index.

    A matrix [M, K] has scales [M, ceil(K / size)]; the last block of a row may be shorter. The last axis of a
    GEMM's operand matrix is the one that is summed over.

    Args:
        size: Elements in a block, at least 1.

    Raises:
        ValueError: A size below 1.
    """

    size: int

    def __post_init__(self) -> None:
        if not is_whole(self.size, 1, _LARGEST):
            raise ValueError(f"a block has a whole number of elements, at least 1, got {written(self)}")


Granularity = PerTensor | PerAxis | PerSample | PerGroup | PerBlock


def _check_axis(granularity: Granularity, axis: object) -> None:
    if not is_whole(axis, -64, 63):
        raise ValueError(f"an axis is a whole number, got {written(granularity)}")


def written(granularity: Granularity) -> str:
    """A granularity as one writes it: "PerAxis(0)"."""
    arguments = ", ".join(repr(value) for value in vars(granularity).values())
    return f"{type(granularity).__name__}({arguments})"


def axis_of(granularity: Granularity, shape: tuple[int, ...]) -> int | None:
    """The axis that scales vary along, counted from the front; None for one scale for the whole tensor.

    Raises:
        ValueError: An axis that a tensor of this shape does not have.
    """
    if isinstance(granularity, PerTensor):
        return None
    axis = -1 if isinstance(granularity, PerBlock) else granularity.axis
    if not -len(shape) <= axis < len(shape):
        raise ValueError(f"{written(granularity)} needs a tensor with that axis, got shape {list(shape)}")
    return axis % len(shape)


def scale_shape(granularity: Granularity, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Shape of the scales of a tensor of a given shape (the table above).

    Raises:
        ValueError: An axis that the tensor does not have.
    """
    axis = axis_of(granularity, shape)
    if isinstance(granularity, PerBlock):
        return (*shape[:-1], -(-shape[-1] // granularity.size))
    return tuple(n if i == axis else 1 for i, n in enumerate(shape))


def short_name(granularity: Granularity) -> str:
    """How a quantiser's name says it: "", "axis 0", "sample", "group 16 axis 0", "block 32"."""
    match granularity:
        case PerTensor():
            return ""
        case PerAxis(axis):
            return f"axis {axis}"
        case PerSample():
            return "sample"
        case PerGroup(size, axis):
            return f"group {size} axis {axis}"
        case PerBlock(size):
            return f"block {size}"
