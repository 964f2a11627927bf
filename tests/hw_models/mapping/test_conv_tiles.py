import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hw_models.mapping.conv_tiles import region_elements
from hw_models.mapping.problem import window_region
from tests.hw_models.mapping.problems import convolution, geometry


def touched(region, padding, stride, dilation, kernel, start, pixels):
    """Coordinates of one channel of the source under a run of pixels of the grid, by visiting every window."""
    height, width = region.grid
    found = set()
    for pixel in range(start, start + pixels):
        image, place = divmod(pixel, height * width)
        for r, s in itertools.product(range(kernel), repeat=2):
            y = (place // width) * stride + r * dilation - padding
            x = (place % width) * stride + s * dilation - padding
            if 0 <= y < region.source[0] and 0 <= x < region.source[1]:
                found.add((image, y, x))
    return found


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_no_tile_that_begins_a_row_touches_more(data):
    kernel, stride, dilation = (data.draw(st.integers(1, top)) for top in (3, 3, 2))
    padding = data.draw(st.integers(0, kernel // 2))
    size = data.draw(st.integers(dilation * (kernel - 1) + 1, 9))
    shape = geometry(
        batch=3, size=size, kernel=kernel, stride=stride, padding=padding, dilation=dilation, channels=1
    )
    region = window_region(convolution("output", shape))
    assert region is not None
    height, width = region.grid
    rows = data.draw(st.integers(1, 2 * height))
    start = width * data.draw(st.integers(0, height)) if rows <= height else 0
    inside = start % (height * width) + rows * width <= height * width or start == 0
    count = len(touched(region, padding, stride, dilation, kernel, start, rows * width))
    if inside:
        assert region_elements(region, rows * width, kernel * kernel) >= count


@pytest.mark.parametrize("rows", [1, 2, 4])
def test_rows_of_pixels_without_padding_touch_exactly_that(rows):
    shape = geometry(size=8, kernel=3, padding=0, channels=1)
    region = window_region(convolution("output", shape))
    assert region is not None
    exact = len(touched(region, 0, 1, 1, 3, 6, 6 * rows))
    assert region_elements(region, 6 * rows, 9) == exact == (rows + 2) * 8


def test_part_of_a_row_needs_its_columns_only():
    region = window_region(convolution("output", geometry(size=8, kernel=3, padding=0, channels=1)))
    assert region is not None
    assert region_elements(region, 2, 9) == 3 * 4


def test_never_more_than_the_unfolded_tile():
    region = window_region(convolution("output", geometry(size=9, kernel=1, stride=3, padding=0, channels=4)))
    assert region is not None
    assert region_elements(region, 3, 4) == 3 * 4


def test_a_whole_image_is_the_tensor_in_every_role():
    shape = geometry(batch=2, channels=3, size=6, filters=5)
    for role, elements, pixels, columns in (
        ("output", 2 * 3 * 36, 72, 27),
        ("grad_input", 2 * 5 * 36, 72, 45),
        ("grad_weight", 2 * 3 * 36, 72, 27),
    ):
        region = window_region(convolution(role, shape))
        assert region is not None
        assert region_elements(region, pixels, columns) == elements


def test_inserted_zeros_are_not_in_memory():
    shape = geometry(size=8, kernel=3, stride=2, padding=1, channels=1, filters=1)
    region = window_region(convolution("grad_input", shape))
    assert region is not None
    assert region.source == (4, 4)
    # Two rows of the input's gradient see 2 + 3 - 1 = 4 rows with zeros, of which every other is there.
    assert region_elements(region, 16, 9) == 2 * 4
