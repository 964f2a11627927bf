"""Shapes of scales."""

import pytest

from lowbit_sim.quant.granularity import (
    PerAxis,
    PerBlock,
    PerGroup,
    PerSample,
    PerTensor,
    scale_shape,
    short_name,
)


@pytest.mark.parametrize(
    ("granularity", "shape", "scales"),
    [
        (PerTensor(), (), ()),
        (PerTensor(), (5,), (1,)),
        (PerTensor(), (2, 3, 4), (1, 1, 1)),
        (PerTensor(), (0, 3), (1, 1)),
        (PerAxis(0), (5,), (5,)),
        (PerAxis(0), (2, 3, 4), (2, 1, 1)),
        (PerAxis(1), (2, 3, 4), (1, 3, 1)),
        (PerAxis(2), (2, 3, 4), (1, 1, 4)),
        (PerAxis(-1), (2, 3, 4), (1, 1, 4)),
        (PerAxis(-3), (2, 3, 4), (2, 1, 1)),
        (PerAxis(0), (0, 3), (0, 1)),
        (PerAxis(1), (0, 3), (1, 3)),
        (PerSample(), (4, 3, 2), (4, 1, 1)),
        (PerGroup(2, 0), (5, 3), (5, 1)),
        (PerGroup(9, -1), (5, 3), (1, 3)),
        (PerBlock(4), (8,), (2,)),
        (PerBlock(4), (9,), (3,)),
        (PerBlock(4), (2, 3), (2, 1)),
        (PerBlock(4), (2, 5, 13), (2, 5, 4)),
        (PerBlock(4), (2, 0), (2, 0)),
    ],
)
def test_scale_shape(granularity, shape, scales) -> None:
    assert scale_shape(granularity, shape) == scales


@pytest.mark.parametrize(("axis", "shape"), [(2, (3, 4)), (-3, (3, 4)), (0, ())])
def test_axis_that_a_tensor_lacks(axis: int, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=rf"PerAxis\({axis}\).*shape") as caught:
        scale_shape(PerAxis(axis), shape)
    assert str(list(shape)) in str(caught.value)


@pytest.mark.parametrize("granularity", [PerSample(), PerBlock(2), PerGroup(2, 0)])
def test_a_scalar_has_no_axis(granularity) -> None:
    with pytest.raises(ValueError, match=r"needs a tensor with that axis, got shape \[\]"):
        scale_shape(granularity, ())


@pytest.mark.parametrize("size", [0, -1, 2.0, True, None])
def test_a_size_is_a_whole_number(size) -> None:
    with pytest.raises(ValueError, match=rf"at least 1, got PerBlock\({size}\)"):
        PerBlock(size)
    with pytest.raises(ValueError, match=rf"at least 1, got PerGroup\({size}, 0\)"):
        PerGroup(size, 0)


def test_a_groups_axis_is_a_whole_number() -> None:
    with pytest.raises(ValueError, match=r"an axis is a whole number, got PerGroup\(2, 0.5\)"):
        PerGroup(2, 0.5)  # pyright: ignore[reportArgumentType]


def test_short_names() -> None:
    every = [PerTensor(), PerAxis(-1), PerSample(), PerGroup(4, 0), PerBlock(32)]
    assert [short_name(g) for g in every] == ["", "axis -1", "sample", "group 4 axis 0", "block 32"]
