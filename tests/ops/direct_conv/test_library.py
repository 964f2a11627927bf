"""Which sums the library's int8 convolution may take."""

import torch

import lowbit_sim as lb
from lowbit_sim.ops.direct_conv import library
from lowbit_sim.ops.im2col import Window
from tests.ops.cases import run_conv
from tests.ops.direct_conv.ways import direct_roles


def test_sums_that_leave_float32_are_refused() -> None:
    row = torch.full((1, 1, 1, 519), 127, dtype=torch.int8)  # 519 * 127 * 255 > 2^24
    assert not library.fits_float32(row, largest=127, zero_point=128)
    assert library.fits_float32(row[..., 1:], largest=127, zero_point=128)
    assert library.fits_float32(row, largest=7, zero_point=8)
    row[..., ::2] = -127
    assert library.fits_float32(row, largest=127, zero_point=128)


def test_large_sums_take_matrices_and_are_exact() -> None:
    # Each sum is beyond 2^24, where float32 has no odd integers.
    x, w = torch.full((1, 1200, 1, 1), 127.0), torch.full((2, 1200, 1, 1), 127.0)
    x[0, 0], w[1, 0] = 126.0, -3.0
    spec = lb.OpSpec.uniform(lb.INT8, scale=lb.FixedScale(1.0))
    with direct_roles() as roles:
        y, _, _ = run_conv(x, w, torch.ones(1, 2, 1, 1), Window(kernel=(1, 1)), spec)
    assert "output" not in roles
    exact = (x.long() * w.long()).sum((1, 2, 3))
    assert torch.equal(y.flatten(), exact.to(torch.float32))
