"""Elements of tiles, compiled: the twin of `conv_tiles` and of `crossing.tile_elements`."""

from __future__ import annotations

import math

import numba
import numpy as np

from lowbit_sim.numerics.threads import prepare_numba

prepare_numba()

#: The dimension (of M, N, K) that lhs, rhs and result do not have, and the two that they have.
MISSING = np.array([1, 0, 2])
OWN = np.array([[0, 2], [2, 1], [0, 1]])


@numba.njit
def _extent(region, axis, windows):
    span = region.span[axis]
    covered = (windows - 1.0) * min(region.step[axis], span) + span
    return min(region.source[axis], math.ceil(covered / region.inserted[axis]))


@numba.njit
def _region_elements(region, pixels, columns):
    height, width = region.grid[0], region.grid[1]
    channels = math.ceil(columns / region.window)
    if pixels >= height * width:
        images = math.ceil(pixels / (height * width))
        area = images * _extent(region, 0, height) * _extent(region, 1, width)
    elif pixels >= width:
        area = _extent(region, 0, math.ceil(pixels / width)) * _extent(region, 1, width)
    else:
        area = _extent(region, 0, 1.0) * _extent(region, 1, pixels)
    return min(channels * area, pixels * columns)


@numba.njit
def elements(gemm, operand, a, b):
    """Elements of a tile of a x b of an operand's own dimensions."""
    if gemm.region.operand == operand:
        # Unfolded are the lhs, [pixels, columns], or grad_weight's rhs, which has the pixels first too.
        return _region_elements(gemm.region, a, b)
    if gemm.padded == operand:
        step_a, step_b = gemm.steps[OWN[operand, 0]], gemm.steps[OWN[operand, 1]]
        return math.ceil(a / step_a) * step_a * math.ceil(b / step_b) * step_b
    return a * b


@numba.njit
def plain(gemm, operand):
    """Whether the tiles of an operand are together its matrix."""
    return gemm.region.operand != operand and gemm.padded != operand


@numba.njit
def once(gemm, operand, around_a, around_b, a, b):
    """Elements of all tiles of an operand inside a part of it."""
    if plain(gemm, operand):
        return around_a * around_b
    many_a, many_b = around_a // a, around_b // b
    rest_a, rest_b = around_a - many_a * a, around_b - many_b * b
    total = many_a * many_b * elements(gemm, operand, a, b)
    if rest_a > 0:
        total += many_b * elements(gemm, operand, rest_a, b)
    if rest_b > 0:
        total += many_a * elements(gemm, operand, a, rest_b)
    if rest_a > 0 and rest_b > 0:
        total += elements(gemm, operand, rest_a, rest_b)
    return total


@numba.njit
def fits(gemm, machine, stage, tile):
    """Whether every memory of a stage holds its tiles."""
    for level in range(machine.levels):
        used = 0.0
        for operand in range(3):
            if machine.holds[stage, operand] == level:
                a, b = tile[OWN[operand, 0]], tile[OWN[operand, 1]]
                used += elements(gemm, operand, a, b) * gemm.widths[operand]
        if gemm.work.at_once * used > machine.capacity[level]:
            return False
    return True
