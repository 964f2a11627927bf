"""Shapes of scales."""

import pytest

from lowbit_sim.quant.granularity import PerAxis, PerTensor, scale_shape


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
    ],
)
def test_scale_shape(granularity, shape, scales) -> None:
    assert scale_shape(granularity, shape) == scales


@pytest.mark.parametrize(("axis", "shape"), [(2, (3, 4)), (-3, (3, 4)), (0, ())])
def test_axis_that_a_tensor_lacks(axis: int, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=rf"PerAxis\({axis}\).*shape") as caught:
        scale_shape(PerAxis(axis), shape)
    assert str(list(shape)) in str(caught.value)
