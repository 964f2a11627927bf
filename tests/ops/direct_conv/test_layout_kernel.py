"""The copies of the direct convolution against torch's."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from lowbit_sim.ops.direct_conv import layout_kernel
from lowbit_sim.ops.direct_conv.grid import grid_of
from lowbit_sim.ops.im2col import Window, pad


def codes(*shape: int) -> torch.Tensor:
    return torch.randint(-128, 128, shape, dtype=torch.int8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("channels", [1, 7, 8, 19, 64])
@pytest.mark.parametrize("width", [1, 8, 13, 70])
def test_channels_last(channels: int, width: int) -> None:
    x = codes(2, channels, 3, width)
    out = np.full((2, 5, width + 3, channels), 77, dtype=np.int8)
    layout_kernel.channels_last(x.numpy(), 128, (1, 2, 1, 1), out)
    expected = F.pad(x.int() + 128, (2, 1, 1, 1), value=128).movedim(1, -1)
    assert np.array_equal(out.view(np.uint8), expected.numpy())


@pytest.mark.parametrize(
    "place", [(-1, -2, 1, 1), (0, -1, 2, 3), (-2, 1, 3, 2), (1, -40, 1, 1), (0, 0, 2, 1)]
)
def test_channels_last_spreads_and_crops(place: tuple[int, int, int, int]) -> None:
    top, left, down, across = place
    x, out = codes(1, 9, 4, 12), np.full((1, 6, 9, 9), 77, dtype=np.int8)
    layout_kernel.channels_last(x.numpy(), 0, place, out)
    expected = np.zeros_like(out)
    for h, w in np.ndindex(4, 12):
        row, column = top + h * down, left + w * across
        if 0 <= row < 6 and 0 <= column < 9:
            expected[0, row, column] = x[0, :, h, w]
    assert np.array_equal(out, expected)


@pytest.mark.parametrize("channels", [1, 8, 21])
@pytest.mark.parametrize("positions", [1, 8, 67, 200])
def test_channels_first(channels: int, positions: int) -> None:
    x = torch.randn(3, positions, channels)
    out = np.empty((3, channels, positions), dtype=np.float32)
    layout_kernel.channels_first(x.numpy(), out)
    assert np.array_equal(out, x.mT.numpy())


def assert_shifted_rows_are_the_windows(x: torch.Tensor, window: Window) -> None:
    images, channels, *in_size = x.shape
    size = window.output_size(*in_size)
    grid = grid_of(window, tuple(in_size), size)
    length = images * grid.size[0] * grid.size[1]
    assert grid.taps.min() >= 0
    assert grid.taps[:, 1].max() + length <= grid.plane_length(length)
    out = np.empty((channels * window.kernel[0] * window.kernel[1], length), dtype=np.int8)
    layout_kernel.shifted_rows(x.numpy(), window.stride, grid, out)
    padded = pad(x.double(), window.before, window.after, channels_last=False)
    unfolded = F.unfold(padded, window.kernel, window.dilation, 0, window.stride)  # [N, C R S, positions]
    expected = unfolded.movedim(0, 1).unflatten(2, size).numpy()
    # Outputs beyond the grid lie in zeros alone.
    rows, columns = map(min, size, grid.size)
    assert not expected[:, :, rows:].any()
    assert not expected[:, :, :, columns:].any()
    on_grid = out.reshape(-1, images, *grid.size)
    assert np.array_equal(on_grid[:, :, :rows, :columns], expected[:, :, :rows, :columns])


@pytest.mark.parametrize(
    "window",
    [
        Window(kernel=(3, 3), padding=(1, 1, 1, 1)),
        Window(kernel=(3, 2), stride=(2, 1), padding=(1, 0, 2, 1)),
        Window(kernel=(2, 3), stride=(3, 2), dilation=(2, 2), padding=(-1, 2, 0, 3)),
    ],
    ids=["padded", "strided", "dilated"],
)
def test_shifted_rows_are_the_windows(window: Window) -> None:
    assert_shifted_rows_are_the_windows(codes(3, 4, 9, 10), window)


@pytest.mark.parametrize(("kernel", "images"), [(3, 4096), (31, 33)])
def test_taps_far_beyond_a_small_image_read_zeros(kernel: int, images: int) -> None:
    window = Window(kernel=(kernel, kernel), padding=(kernel // 2,) * 4)
    assert_shifted_rows_are_the_windows(codes(images, 1, 1, 1), window)


@given(
    in_size=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    kernel=st.tuples(st.integers(1, 7), st.integers(1, 7)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    dilation=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    padding=st.tuples(*[st.integers(-2, 9)] * 4),
    images=st.integers(1, 3),
)
@settings(max_examples=100, deadline=None, derandomize=True)
def test_no_tap_leaves_its_plane(in_size, kernel, stride, dilation, padding, images) -> None:
    window = Window(kernel=kernel, stride=stride, dilation=dilation, padding=padding)
    padded = (in_size[0] + padding[0] + padding[1], in_size[1] + padding[2] + padding[3])
    assume(min(padded) >= 1 and min(window.output_size(*in_size)) >= 1)
    assert_shifted_rows_are_the_windows(codes(images, 2, *in_size), window)


def test_one_sided_sums() -> None:
    weight = np.array([[3, -4, 5], [-128, -2, 127], [0, 0, 0]], dtype=np.int8)
    assert layout_kernel.largest_one_sided_sum(weight) == 130
