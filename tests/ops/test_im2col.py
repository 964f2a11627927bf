"""Windows as matrices, by hand."""

import pytest
import torch

from lowbit_sim.ops.im2col import (
    Window,
    gradient_windows,
    input_windows,
    input_windows_by_column,
    pad,
    resolve_padding,
)


@pytest.mark.parametrize(
    ("padding", "kernel", "dilation", "expected"),
    [
        ("valid", (3, 3), (1, 1), (0, 0, 0, 0)),
        ((1, 2), (3, 3), (1, 1), (1, 1, 2, 2)),
        ("same", (3, 5), (1, 1), (1, 1, 2, 2)),
        ("same", (2, 4), (1, 1), (0, 1, 1, 2)),
        ("same", (2, 2), (3, 2), (1, 2, 1, 1)),
        ("same", (1, 1), (4, 4), (0, 0, 0, 0)),
    ],
)
def test_padding_of_torch(padding, kernel, dilation, expected) -> None:
    assert resolve_padding(padding, kernel, dilation) == expected


@pytest.mark.parametrize(
    ("window", "expected"),
    [
        (Window(kernel=(3, 3)), (5, 6)),
        (Window(kernel=(3, 3), stride=(2, 3)), (3, 2)),
        (Window(kernel=(3, 3), dilation=(3, 2), padding=(0, 1, 2, 0)), (2, 6)),
        (Window(kernel=(8, 1)), (0, 8)),
    ],
)
def test_output_size(window, expected) -> None:
    assert window.output_size(7, 8) == expected


def test_channels_are_innermost() -> None:
    # Channel 0 holds 1 2 / 3 4, channel 1 the same times ten.
    x = torch.tensor([[[[1, 2], [3, 4]], [[10, 20], [30, 40]]]], dtype=torch.int8)
    [matrix] = input_windows(x, Window(kernel=(2, 2), padding=(0, 0, 0, 1)))
    assert matrix.tolist() == [[1, 10, 2, 20, 3, 30, 4, 40], [2, 20, 0, 0, 4, 40, 0, 0]]
    first, second = input_windows(x, Window(kernel=(1, 2), groups=2))
    assert first.tolist() == [[1, 2], [3, 4]]
    assert second.tolist() == [[10, 20], [30, 40]]


@pytest.mark.parametrize(
    ("shape", "window"),
    [
        ((2, 4, 5, 6), Window(kernel=(3, 2), stride=(2, 1), dilation=(1, 2), padding=(1, 0, 2, 1), groups=2)),
        ((3, 6, 7), Window(kernel=(3,), stride=(2,), dilation=(1,), padding=(1, 1), groups=3)),
        ((1, 2, 3, 4, 3), Window(kernel=(2, 1, 3), stride=(1, 2, 1), dilation=(1,) * 3, padding=(0, 1) * 3)),
    ],
    ids=["image", "line", "volume"],
)
def test_windows_by_column_are_the_same_matrices(shape, window) -> None:
    x = torch.randint(-128, 128, shape, dtype=torch.int8, generator=torch.Generator().manual_seed(0))
    for matrix, expected in zip(input_windows_by_column(x, window), input_windows(x, window), strict=True):
        assert torch.equal(matrix, expected)
        assert matrix.t().is_contiguous()


def test_the_gradients_that_an_input_reaches() -> None:
    # A kernel of three, stride two, on five inputs: g0 comes from inputs 0 1 2, g1 from 2 3 4.
    g = torch.tensor([7, 9], dtype=torch.int8).reshape(1, 1, 1, 2)
    [matrix] = gradient_windows(g, Window(kernel=(1, 3), stride=(1, 2)), 1, 5)
    assert matrix.tolist() == [[7, 0, 0], [0, 7, 0], [9, 0, 7], [0, 9, 0], [0, 0, 9]]


def test_padding_shifts_the_gradients() -> None:
    g = torch.tensor([7, 9], dtype=torch.int8).reshape(1, 1, 2, 1)
    # One zero above, none below: input row h is padded row h + 1.
    [matrix] = gradient_windows(g, Window(kernel=(2, 1), padding=(1, 0, 0, 0)), 2, 1)
    assert matrix.tolist() == [[9, 7], [0, 9]]


def test_gradients_that_no_input_reaches_are_cropped() -> None:
    # Padding of three before a kernel of two: output row 0 lies in the zeros alone, so that input row 0 meets none.
    g = torch.tensor([7], dtype=torch.int8).reshape(1, 1, 1, 1)
    [matrix] = gradient_windows(g, Window(kernel=(2, 1), stride=(3, 1), padding=(3, 0, 0, 0)), 1, 1)
    assert matrix.tolist() == [[0, 0]]


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize(("before", "after"), [(-2, 3), (3, -2), (-1, 1), (-3, 0), (-1, -1), (-4, 9)])
def test_crops_may_reach_into_the_zeros(before: int, after: int, channels_last: bool) -> None:
    row = [0] * 10 + [1, 2, 3] + [0] * 10
    expected = row[10 - before : 13 + after]
    x = torch.tensor([1, 2, 3], dtype=torch.int8).reshape((1, 1, 3, 1) if channels_last else (1, 1, 1, 3))
    found = pad(x, (0, before), (0, after), channels_last)
    assert found.flatten().tolist() == expected


@pytest.mark.parametrize("dtype", [torch.int8, torch.int16, torch.int32, torch.uint8])
def test_codes_keep_their_type(dtype) -> None:
    x = torch.ones(1, 2, 3, 3, dtype=dtype)
    assert input_windows(x, Window(kernel=(2, 2), padding=(1, 1, 1, 1)))[0].dtype == dtype
    assert gradient_windows(x, Window(kernel=(2, 2)), 4, 4)[0].dtype == dtype
