"""The gradient of a convolution's weight from windows of a few images at a time.

The windows of a block are shifts of its images on a grid (`grid.py`), grad_output lies on the same grid with zeros
where no output is, and both are read along its positions by one library product:

    sums [C T, O U], T U = R S:   T = S shifts of the input, U = R shifts of grad_output, or T = R S and U = 1

Sums of blocks are added in int32.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lowbit_sim.arith.backends.torch_exact import exact_product, int_mm_is_sound
from lowbit_sim.numerics.memory import empty
from lowbit_sim.ops.direct_conv.grid import Shifts, shifts_of
from lowbit_sim.ops.im2col import Sizes, Window

#: Bytes of windows that are laid out at a time.
_BLOCK_BYTES = 1 << 20

#: Positions below which adding the blocks' sums costs too much beside their products.
_BLOCK_POSITIONS = 1024


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """How the images are laid out: `rows` and `columns` of a product, for so many `images`."""

    shifts: Shifts
    rows: int
    columns: int
    images: int

    def length(self, images: int) -> int:
        """The product's reduction."""
        return images * self.shifts.inputs.positions + self.shifts.margin


@functools.lru_cache(maxsize=4096)
def _plan(x_shape: Sizes, g_shape: Sizes, window: Window) -> _Plan:
    shifts = shifts_of(window, x_shape[2:], g_shape[2:], x_shape[1], g_shape[1])
    rows, columns = x_shape[1] * len(shifts.inputs.taps), g_shape[1] * len(shifts.gradients.taps)
    positions = shifts.inputs.positions
    images = max(_BLOCK_BYTES // ((rows + columns) * positions), -(-_BLOCK_POSITIONS // positions), 1)
    return _Plan(shifts=shifts, rows=rows, columns=columns, images=min(images, x_shape[0]))


def weight_gradient(g: Tensor, x: Tensor, scale: Tensor, w_shape: Sizes, window: Window) -> Tensor | None:
    """fp32(sums) * scale, float32 [O, C, R, S]; None for groups, or where the library product is not exact.

    Args:
        g: int8 [N, O, H', W'], contiguous.
        x: int8 [N, C, H, W], contiguous.
        scale: float32, broadcasts against the result.
        w_shape: [O, C, R, S].
        window: The geometry.
    """
    if window.groups != 1 or not int_mm_is_sound():
        return None
    plan = _plan(tuple(x.shape), tuple(g.shape), window)
    shifts = plan.shifts
    parts = _sums(g.numpy(), x.numpy(), plan, window).reshape(
        w_shape[1], len(shifts.inputs.taps), w_shape[0], len(shifts.gradients.taps)
    )
    result = torch.empty(w_shape, dtype=torch.float32, device="cpu")
    ordered = parts.permute(2, 0, 3, 1)  # [O, C, U, T]
    torch.mul(ordered, scale, out=result.view(ordered.shape))
    return result


def _sums(g: np.ndarray, x: np.ndarray, plan: _Plan, window: Window) -> Tensor:
    """int32 [C T, O U]."""
    from lowbit_sim.ops.direct_conv import layout_kernel

    longest, shifts = plan.length(plan.images), plan.shifts
    cpu = torch.device("cpu")
    windows = empty((plan.rows * longest,), torch.int8, cpu)
    gradients = empty((plan.columns * longest,), torch.int8, cpu)
    layout_kernel.share(windows.numel())
    total: Tensor | None = None
    for start in range(0, len(x), plan.images):
        stop = min(start + plan.images, len(x))
        length = plan.length(stop - start)
        a, b = (
            memory[: count * length].view(count, length)
            for memory, count in ((windows, plan.rows), (gradients, plan.columns))
        )
        layout_kernel.shifted_rows(x[start:stop], window.stride, shifts.inputs, a.numpy())
        layout_kernel.shifted_rows(g[start:stop], (1, 1), shifts.gradients, b.numpy())
        sums = exact_product(a, b.t())
        total = sums if total is None else total.add_(sums)
    assert total is not None
    return total
