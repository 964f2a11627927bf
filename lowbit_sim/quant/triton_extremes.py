"""Extremes of a tensor's regions on a GPU: one pass, which reads 4 bytes an element and meets the NaNs.

A program reduces a tile of neighbouring runs, or a tile of one long run; what is left, a number for 2048 elements or
for each run, torch reduces. The smallest element is minus the largest of -x, so that all are maxima, which do not
depend on the order. Importing this module imports Triton.
"""

# pyright: reportInvalidTypeForm=false, reportPrivateImportUsage=false, reportArgumentType=false, reportCallIssue=false
# pyright: reportAssignmentType=false, reportOperatorIssue=false

import math
from contextlib import nullcontext

import torch
import triton
import triton.language as tl
from torch import Tensor

from lowbit_sim.quant.granularity import Granularity, PerBlock, PerGroup, axis_of, scale_shape

#: Elements of a program.
TILE = 2048


@triton.jit(do_not_specialize=["blocks"])
def _tile_maxima(
    x,
    maxima,
    runs,
    length,
    block,
    blocks,
    chunks,
    MAGNITUDES: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Of each run's piece in the tile the largest |x|, or x and then -x: [1 or 2, runs, chunks].

    Infinities count as 0, and NaN as infinity. x is [runs / blocks, length], and a run is one of the `blocks` blocks
    of a row, whose last may be short.
    """
    program = tl.program_id(0).to(tl.int64)
    run = (program // chunks) * ROWS + tl.arange(0, ROWS)
    chunk = program % chunks
    row = run // blocks
    first = (run - row * blocks) * block
    column = chunk * COLUMNS + tl.arange(0, COLUMNS)
    count = tl.minimum(block, length - first)
    inside = (column[None, :] < count[:, None]) & (run < runs)[:, None]
    value = tl.load(x + (row * length + first)[:, None] + column[None, :], mask=inside, other=0.0)
    magnitude = tl.abs(value)
    place = maxima + run * chunks + chunk
    if MAGNITUDES:
        finite = tl.where(magnitude == float("inf"), 0.0, magnitude)
        _store_maxima(place, finite, value, inside, run < runs)
    else:
        finite = tl.where(magnitude == float("inf"), 0.0, value)
        _store_maxima(place, finite, value, inside, run < runs)
        _store_maxima(place + runs * chunks, -finite, value, inside, run < runs)


@triton.jit
def _store_maxima(place, finite, value, inside, exists):
    known = tl.where(value != value, float("inf"), finite)
    tl.store(place, tl.max(tl.where(inside, known, float("-inf")), axis=1), mask=exists)


def _run_maxima(x: Tensor, length: int, block: int, magnitudes: bool) -> Tensor:
    """[1 or 2, runs] of the runs of `block` elements of x, read as [rows, length]; a row's last may be shorter."""
    blocks = -(-length // block)
    runs = x.numel() // length * blocks
    columns = min(triton.next_power_of_2(block), TILE)
    rows, chunks = TILE // columns, -(-block // columns)
    maxima = torch.empty((1 if magnitudes else 2, runs, chunks), dtype=torch.float32, device=x.device)
    grid = (-(-runs // rows) * chunks,)
    sizes = (runs, length, block, blocks, chunks)
    with torch.cuda.device(x.device) if x.is_cuda else nullcontext():
        _tile_maxima[grid](x, maxima, *sizes, MAGNITUDES=magnitudes, ROWS=rows, COLUMNS=columns, num_warps=4)
    return maxima[:, :, 0] if chunks == 1 else maxima.amax(2)


def region_maxima(x: Tensor, granularity: Granularity, *, magnitudes: bool) -> Tensor:
    """Of every region the largest |x|, or x and then -x; infinities count as 0, and NaN as infinity.

    Args:
        x: float32 of any shape, with elements.
        granularity: Which elements share a scale.
        magnitudes: Whether |x| is meant.

    Returns:
        float32 [1 or 2, ...] with the shape of the scales behind the first axis.
    """
    x, shape = x.contiguous(), tuple(x.shape)
    axis = axis_of(granularity, shape)
    if axis is None:
        found = _run_maxima(x, x.numel(), x.numel(), magnitudes)
    elif isinstance(granularity, PerBlock):
        found = _run_maxima(x, shape[-1], granularity.size, magnitudes)
    else:
        inner = math.prod(shape[axis + 1 :])
        found = _run_maxima(x, inner, inner, magnitudes)
        if math.prod(shape[:axis]) > 1:
            found = found.reshape(len(found), -1, shape[axis]).amax(1)
    if isinstance(granularity, PerGroup):
        padded = torch.nn.functional.pad(found, (0, -found.shape[1] % granularity.size), value=-math.inf)
        groups = padded.unflatten(1, (-1, granularity.size)).amax(2)
        found = groups.repeat_interleave(granularity.size, dim=1)[:, : found.shape[1]]
    return found.reshape(len(found), *scale_shape(granularity, shape))
