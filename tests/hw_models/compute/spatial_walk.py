"""A spatial array walked step by step, with the numbers in it: the slow and obvious twin of `compute.spatial`.

A convolution comes as images [groups, images, channels, height, width] and filters [groups, filters, channels, kernel
height, kernel width]; `as_convolution` lays out each role of a layer like that. In each cycle every tree adds the
products of one step to the sums of its filter, at each pixel. Nothing here uses a formula: what is read and written
is counted where it happens.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import product

import numpy as np
import torch

from lowbit_sim.trace import ConvGeometry, Role


@dataclass(frozen=True, kw_only=True)
class Laid:
    """A convolution of any role: its operands, and the steps between windows and inside one."""

    images: np.ndarray
    filters: np.ndarray
    stride: int
    dilation: int


@dataclass(kw_only=True)
class Walked:
    """What a walk found: results [groups, images, filters, height, width], and counts over all groups."""

    result: np.ndarray
    cycles: int = 0
    image_reads: int = 0
    filters_read: set[tuple[int, ...]] = field(default_factory=set)
    writes: int = 0
    partial_reads: int = 0


@dataclass(frozen=True, kw_only=True)
class Trees:
    """An array's size, and how many steps each unit of output stays."""

    rows: int
    columns: int
    pixels: tuple[int, int]
    packed: int
    padded_to: int


Tree = tuple[int, int]  # a group and one of its filters
Step = tuple[int, int, range] | None  # a position of the kernel and some channels; None is padding


def groups_in_turn(groups: int, filters: int, columns: int) -> list[list[Tree]]:
    """Which trees work at the same time: those of one group."""
    chunks = [range(f, min(f + columns, filters)) for f in range(0, filters, columns)]
    return [[(group, f) for f in chunk] for group in range(groups) for chunk in chunks]


def groups_side_by_side(groups: int, filters: int, columns: int, rows: int) -> list[list[Tree]]:
    """The same where groups are added until the columns or the broadcast channels are used up."""
    assert filters <= columns
    rounds: list[list[Tree]] = []
    for group in range(groups):
        trees = [(group, f) for f in range(filters)]
        known = {g for g, _ in rounds[-1]} if rounds else set()
        if rounds and len(rounds[-1]) + filters <= columns and len(known) < rows:
            rounds[-1] += trees
        else:
            rounds.append(trees)
    return rounds


def steps_of_a_unit(kernel: tuple[int, int], channels: int, at_once: int, padded_to: int) -> list[Step]:
    """The steps over a kernel: channels innermost or positions innermost, each run of them padded; the shorter."""
    positions = list(product(range(kernel[0]), range(kernel[1])))
    slices = [range(c, min(c + at_once, channels)) for c in range(0, channels, at_once)]
    depth_first: list[Step] = []
    for y, x in positions:
        depth_first += _padded([(y, x, part) for part in slices], padded_to)
    part_kernel_first: list[Step] = []
    for part in slices:
        part_kernel_first += _padded([(y, x, part) for y, x in positions], padded_to)
    return min(depth_first, part_kernel_first, key=len)


def _padded(steps: list[Step], multiple: int) -> list[Step]:
    while len(steps) % multiple:
        steps.append(None)
    return steps


def walk(laid: Laid, output: tuple[int, int], trees: Trees, *, side_by_side: bool) -> Walked:
    """All groups of a convolution with results of a size."""
    groups, images, channels = laid.images.shape[:3]
    filters, kernel = laid.filters.shape[1], laid.filters.shape[3:]
    if side_by_side:
        rounds = groups_side_by_side(groups, filters, trees.columns, trees.rows)
    else:
        rounds = groups_in_turn(groups, filters, trees.columns)
    at_once = trees.packed if side_by_side else trees.rows * trees.packed
    steps = steps_of_a_unit((kernel[0], kernel[1]), channels, at_once, trees.padded_to)
    found = Walked(result=np.zeros((groups, images, filters, *output), dtype=np.int64))
    corners = product(range(0, output[0], trees.pixels[0]), range(0, output[1], trees.pixels[1]))
    for working, (top, left), image in product(rounds, list(corners), range(images)):
        pixels = list(
            product(
                range(top, min(top + trees.pixels[0], output[0])),
                range(left, min(left + trees.pixels[1], output[1])),
            )
        )
        first = True
        for step in steps:
            found.cycles += 1
            if step is not None:
                _one_cycle(laid, trees, found, working, pixels, image, step, first)
                first = False
    return found


def _one_cycle(
    laid: Laid,
    trees: Trees,
    found: Walked,
    working: list[Tree],
    pixels: list[tuple[int, int]],
    image: int,
    step: tuple[int, int, range],
    first: bool,
) -> None:
    ky, kx, channels = step
    for y, x in pixels:
        broadcast = {}
        for group, f in working:
            for channel in channels:
                at = (y * laid.stride + ky * laid.dilation, x * laid.stride + kx * laid.dilation)
                broadcast[group, channel] = laid.images[group, image, channel, *at]
                weight = laid.filters[group, f, channel, ky, kx]
                found.filters_read.add((group, f, channel, ky, kx))
                found.result[group, image, f, y, x] += broadcast[group, channel] * weight
            found.writes += 1
            found.partial_reads += not first
        assert len(broadcast) <= trees.rows * trees.packed  # as wide as what is broadcast to all columns
        found.image_reads += len(broadcast)


def as_convolution(role: Role, conv: ConvGeometry, x: np.ndarray, w: np.ndarray, g: np.ndarray) -> Laid:
    """A role's operands as in the table of `compute.convolution`; x, w and g = dL/dy of a layer without padding."""
    groups, stride = conv.groups, conv.stride[0]
    x = x.reshape(conv.batch, groups, -1, *x.shape[2:]).transpose(1, 0, 2, 3, 4)
    g = g.reshape(conv.batch, groups, -1, *g.shape[2:]).transpose(1, 0, 2, 3, 4)
    w = w.reshape(groups, -1, *w.shape[1:])
    if role == "output":
        return Laid(images=x, filters=w, stride=stride, dilation=1)
    if role == "grad_weight":
        turned = [operand.transpose(0, 2, 1, 3, 4) for operand in (x, g)]
        return Laid(images=turned[0], filters=turned[1], stride=1, dilation=stride)
    spread = np.zeros(
        (*g.shape[:3], conv.in_height + conv.kernel_height - 1, conv.in_width + conv.kernel_width - 1),
        dtype=np.int64,
    )
    bottom, right = conv.kernel_height - 1, conv.kernel_width - 1
    spread[
        ...,
        bottom : bottom + stride * conv.out_height : stride,
        right : right + stride * conv.out_width : stride,
    ] = g
    return Laid(images=spread, filters=w[..., ::-1, ::-1].transpose(0, 2, 1, 3, 4), stride=1, dilation=1)


def operands(conv: ConvGeometry) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """x, w and g of a layer, small whole numbers."""
    numbers = np.random.default_rng(conv.in_channels * 100 + conv.out_channels * 10 + conv.batch)
    kernel = (conv.kernel_height, conv.kernel_width)
    x = numbers.integers(-9, 9, (conv.batch, conv.in_channels, conv.in_height, conv.in_width))
    w = numbers.integers(-9, 9, (conv.out_channels, conv.in_channels // conv.groups, *kernel))
    g = numbers.integers(-9, 9, (conv.batch, conv.out_channels, conv.out_height, conv.out_width))
    return x, w, g


def by_torch(role: Role, conv: ConvGeometry, x: np.ndarray, w: np.ndarray, g: np.ndarray) -> np.ndarray:
    """A role's result [groups, images, filters, height, width] by PyTorch's convolution and its gradients."""
    inputs, weights = (torch.tensor(a, dtype=torch.float64, requires_grad=True) for a in (x, w))
    output = torch.nn.functional.conv2d(inputs, weights, stride=conv.stride, groups=conv.groups)
    if role == "output":
        found = output.detach().numpy()
    else:
        of = inputs if role == "grad_input" else weights
        (gradient,) = torch.autograd.grad(output, of, torch.tensor(g, dtype=torch.float64))
        found = gradient.numpy()
    if role == "grad_weight":
        return found.reshape(conv.groups, -1, *w.shape[1:]).transpose(0, 2, 1, 3, 4)
    return found.reshape(conv.batch, conv.groups, -1, *found.shape[2:]).transpose(1, 0, 2, 3, 4)
