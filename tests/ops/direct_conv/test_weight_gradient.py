"""Both ways to lay the windows out, and blocks of images, have the sums of torch's float64 convolution."""

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from lowbit_sim.ops.direct_conv import weight_gradient as module
from lowbit_sim.ops.direct_conv.grid import shifts_of
from lowbit_sim.ops.im2col import Window, pad


def codes(*shape: int) -> torch.Tensor:
    return torch.randint(-128, 128, shape, dtype=torch.int8, generator=torch.Generator().manual_seed(1))


def expected(g: torch.Tensor, x: torch.Tensor, w_shape: tuple[int, ...], window: Window) -> torch.Tensor:
    """By torch, in float64, which holds every sum."""
    padded = pad(x.double(), window.before, window.after, channels_last=False)
    weight = torch.zeros(w_shape, dtype=torch.float64, requires_grad=True)
    y = torch.nn.functional.conv2d(padded, weight, None, window.stride, 0, window.dilation)
    (y * g.double()).sum().backward()
    assert weight.grad is not None
    return weight.grad.float()


PAIRS = st.tuples(st.integers(1, 4), st.integers(1, 4))


@given(
    in_size=st.tuples(st.integers(1, 9), st.integers(1, 40)),
    channels=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    images=st.integers(1, 5),
    kernel=PAIRS,
    stride=st.tuples(st.integers(1, 2), st.integers(1, 3)),
    dilation=PAIRS,
    padding=st.tuples(*[st.integers(-2, 5)] * 4),
    one_each=st.booleans(),
)
@settings(max_examples=150, deadline=None)
def test_any_geometry(in_size, channels, images, kernel, stride, dilation, padding, one_each) -> None:
    window = Window(kernel=kernel, stride=stride, dilation=dilation, padding=padding)
    padded = (in_size[0] + padding[0] + padding[1], in_size[1] + padding[2] + padding[3])
    assume(min(padded) >= 1 and min(window.output_size(*in_size)) >= 1)
    x, g = codes(images, channels[0], *in_size), codes(images, channels[1], *window.output_size(*in_size))
    w_shape = (channels[1], channels[0], *kernel)
    scale = torch.arange(1.0, 1 + channels[1]).reshape(-1, 1, 1, 1) if one_each else torch.full((1,) * 4, 0.5)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_BLOCK_POSITIONS", 1)
        patch.setattr(module, "_BLOCK_BYTES", 4000)
        module._plan.cache_clear()
        found = module.weight_gradient(g, x, scale, w_shape, window)
    module._plan.cache_clear()
    assert found is not None
    assert found.is_contiguous()
    assert torch.equal(found, expected(g, x, w_shape, window) * scale)


@pytest.mark.parametrize(
    ("window", "channels", "taps"),
    [
        (Window(kernel=(3, 3), padding=(1, 1, 1, 1)), (16, 16), (3, 3)),
        (Window(kernel=(5, 2), dilation=(2, 1)), (16, 16), (2, 5)),
        (Window(kernel=(3, 3), padding=(1, 1, 1, 1)), (3, 64), (9, 1)),
        (Window(kernel=(3, 3), stride=(2, 1)), (16, 16), (9, 1)),
        (Window(kernel=(1, 1)), (16, 16), (1, 1)),
    ],
    ids=["square", "tall", "many outputs", "strided rows", "single tap"],
)
def test_the_way_that_copies_less(window: Window, channels: tuple[int, int], taps: tuple[int, int]) -> None:
    shifts = shifts_of(window, (12, 12), window.output_size(12, 12), *channels)
    assert (len(shifts.inputs.taps), len(shifts.gradients.taps)) == taps
