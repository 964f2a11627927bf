"""The best static codebook: the levels that minimise the expected squared error of rounding to them.

    nearest:     E = sum_x min_i (x - v_i)^2                 (Lloyd-Max)
    stochastic:  E = sum_x (x - low)(high - x)               low <= x <= high the neighbouring levels

Both are sums over the intervals between neighbouring levels, so a cheapest path through the candidates for levels is
a global optimum (dynamic programming), where Lloyd's iteration may end in a local one:

    best_k(j) = min_i best_{k-1}(i) + cost(i, j)

`grid_codebook` takes its candidates from the whole numbers of a few bits, as a table in front of an integer
multiplier holds them. `real_codebook` has no grid. For stochastic rounding its candidates are the samples: between
two samples the error is linear in a level, so that some optimum has its levels at samples. For nearest rounding the
path runs through the borders of clusters, whose levels are their means.

Sources: Lloyd, "Least squares quantization in PCM", IEEE Trans. Information Theory 28, 1982; Max, "Quantizing for
minimum distortion", IRE Trans. Information Theory 6, 1960; Wu, "Optimal quantization by matrix searching", J.
Algorithms 12, 1991 (dynamic programming); Zhang et al., "ZipML", ICML 2017, section 4 (the variance of stochastic
rounding, levels at data points).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lowbit_sim.numerics.whole import is_whole

#: Distinct samples that `real_codebook` tells apart; the cost of all pairs takes 32 MB.
MAX_POINTS = 2048


@dataclass(frozen=True, kw_only=True)
class Codebook:
    """Levels for tensors that are scaled so that their largest magnitude is `top`.

    Attributes:
        values: The levels in ascending order, float32 values.
        top: 1, or the largest number of the grid. With stochastic rounding it is a level, so that nothing is clipped;
            with rounding to nearest what lies beyond the largest level becomes that level.
        error: Mean squared error of the samples, in units of the squared largest magnitude.
    """

    values: tuple[float, ...]
    top: float
    error: float


@dataclass(frozen=True, eq=False)
class _Samples:
    """Sorted samples with their numbers, and the sums of the powers 0, 1 and 2 of the first i of them."""

    points: np.ndarray
    counts: np.ndarray
    sums: np.ndarray  # [3, n + 1]

    @staticmethod
    def of(points: np.ndarray, counts: np.ndarray) -> _Samples:
        powers = counts * points ** np.arange(3)[:, None]
        return _Samples(points, counts, np.pad(np.cumsum(powers, axis=1), ((0, 0), (1, 0))))

    def error(self, start: np.ndarray, stop: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Sum of (x - a)(x - b) over the samples from index `start` to `stop`, of arrays that broadcast."""
        count, first, second = self.sums[:, stop] - self.sums[:, start]
        return second - (a + b) * first + a * b * count


def grid_codebook(
    samples: Tensor, levels: int = 15, *, value_bits: int = 8, stochastic: bool = True, symmetric: bool = True
) -> Codebook:
    """The best levels among the whole numbers of `value_bits` bits, for samples of any scale.

    Args:
        samples: Numbers whose largest magnitude maps to 2^(value_bits - 1) - 1, of any shape.
        levels: How many levels, at least 2.
        value_bits: Width of the levels as signed integers, 2 to 12.
        stochastic: Whether to minimise the error of stochastic rounding, else of rounding to nearest.
        symmetric: Whether each level's negative is one too, and zero; the samples' signs do not matter then.

    Raises:
        ValueError: Sizes out of range, samples that are all zero or not finite, or more levels than the grid has.
    """
    if not is_whole(value_bits, 2, 12):
        raise ValueError(f"value_bits is from 2 to 12, got {value_bits!r}")
    top = (1 << (value_bits - 1)) - 1
    found = _samples(samples, levels, symmetric, top)
    candidates = np.arange(0 if symmetric else -top, top + 1, dtype=float)
    nodes = _nodes(levels, symmetric)
    if nodes > len(candidates):
        raise ValueError(f"{levels} levels do not fit into whole numbers of {value_bits} bits")
    return _codebook(
        _best(found, candidates, nodes, stochastic, symmetric), found, top, stochastic, symmetric
    )


def real_codebook(
    samples: Tensor, levels: int = 15, *, stochastic: bool = True, symmetric: bool = True
) -> Codebook:
    """The best levels among all numbers, rounded to float32, for samples of any scale.

    Args:
        samples: Numbers whose largest magnitude maps to 1, of any shape. Where more than `MAX_POINTS` are distinct
            they are first merged into the means of that many bins of equal width.
        levels: How many levels, at least 2.
        stochastic: As in `grid_codebook`.
        symmetric: As in `grid_codebook`.

    Raises:
        ValueError: Too few levels, samples that are all zero or not finite, or fewer distinct samples than levels.
    """
    exact = _samples(samples, levels, symmetric, 1)
    found = exact if len(exact.points) <= MAX_POINTS else _binned(exact, MAX_POINTS)
    nodes = _nodes(levels, symmetric)
    # A level at a number that no sample needs saves nothing, so that levels would coincide.
    needed = np.union1d(found.points, [0.0, 1.0] if symmetric else [-1.0, 1.0] if stochastic else [])
    if nodes > len(needed):
        raise ValueError(f"{levels} levels need more distinct samples than {len(exact.points)}")
    if stochastic:
        values = _best(found, needed, nodes, stochastic, symmetric)
    else:
        values = _cluster_means(found, nodes, symmetric)
    return _codebook(values.astype(np.float32).astype(float), exact, 1, stochastic, symmetric)


def squared_error(samples: Tensor, values: tuple[float, ...], *, stochastic: bool) -> float:
    """Expected mean squared error of rounding samples to levels, sample by sample: what the codebooks minimise.

    Args:
        samples: In the levels' units, of any shape.
        values: Ascending levels.
        stochastic: Stochastic rounding, else to nearest; what lies beyond the ends becomes the end.
    """
    x, v = samples.detach().double().flatten().cpu().numpy(), np.asarray(values, dtype=float)
    i = np.clip(np.searchsorted(v, x, side="right") - 1, 0, len(v) - 2)
    low, high = v[i], v[i + 1]
    nearest = np.minimum((x - low) ** 2, (high - x) ** 2)
    inside = (low <= x) & (x <= high)
    return float(np.where(inside & stochastic, (x - low) * (high - x), nearest).mean())


def _samples(samples: Tensor, levels: int, symmetric: bool, top: int) -> _Samples:
    if not is_whole(levels, 2, 1 << 12):
        raise ValueError(f"a codebook has 2 to 4096 levels, got {levels!r}")
    if symmetric and levels % 2 == 0:
        raise ValueError(f"a symmetric codebook has an odd number of levels, as zero is one, got {levels}")
    x = samples.detach().double().flatten().cpu()
    largest = float(x.abs().max()) if x.numel() else 0.0
    if not 0 < largest < np.inf:
        raise ValueError(
            f"samples are finite numbers that are not all zero; the largest magnitude is {largest}"
        )
    points, counts = torch.unique((x.abs() if symmetric else x) / largest * top, return_counts=True)
    return _Samples.of(points.numpy(), counts.double().numpy())


def _nodes(levels: int, symmetric: bool) -> int:
    """Levels to be chosen: of a symmetric codebook those that are not negative."""
    return (levels + 1) // 2 if symmetric else levels


def _binned(samples: _Samples, bins: int) -> _Samples:
    edges = np.linspace(samples.points[0], samples.points[-1], bins + 1)
    found = np.searchsorted(samples.points, edges[1:-1])
    counts, first, _ = np.diff(samples.sums[:, [0, *found, len(samples.points)]], axis=1)
    filled = counts > 0
    return _Samples.of(first[filled] / counts[filled], counts[filled])


def _best(
    samples: _Samples, candidates: np.ndarray, nodes: int, stochastic: bool, symmetric: bool
) -> np.ndarray:
    """The best levels among ascending candidates; a symmetric codebook starts at the first one, zero."""
    low, high = candidates[:, None], candidates[None, :]
    at = np.searchsorted(samples.points, candidates)
    n = len(samples.points)
    if stochastic:
        cost = -samples.error(at[:, None], at[None, :], low, high)
        # Without levels at both ends something of some tensor would be clipped, which is a bias.
        start, end = _only(0, len(candidates)), _only(-1, len(candidates))
    else:
        middle = np.searchsorted(samples.points, (low + high) / 2)
        cost = samples.error(at[:, None], middle, low, low) + samples.error(middle, at[None, :], high, high)
        start = samples.error(np.zeros_like(at), at, candidates, candidates)
        end = samples.error(at, np.full_like(at, n), candidates, candidates)
    if symmetric:
        start = _only(0, len(candidates))
    cost = np.where(low < high, cost, np.inf)
    return candidates[_cheapest_path(start, cost, end, nodes)]


def _cluster_means(samples: _Samples, nodes: int, symmetric: bool) -> np.ndarray:
    """The means of the best clusters; the first cluster of a symmetric codebook stands around zero."""
    n = len(samples.points)
    at = np.arange(n + 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        count, first, _ = samples.sums[:, None, :] - samples.sums[:, :, None]
        means = np.where(count > 0, first / count, 0.0)
    cost = np.where(count > 0, samples.error(at[:, None], at[None, :], means, means), np.inf)
    zero = np.zeros(())
    start = samples.error(np.zeros_like(at), at, zero, zero) if symmetric else _only(0, n + 1)
    borders = _cheapest_path(start, cost, _only(-1, n + 1), nodes + (not symmetric))
    found = means[borders[:-1], borders[1:]]
    return np.concatenate([[0.0], found]) if symmetric else found


def _only(node: int, nodes: int) -> np.ndarray:
    """The cost of one node that is free where the others can't be."""
    cost = np.full(nodes, np.inf)
    cost[node] = 0.0
    return cost


def _cheapest_path(start: np.ndarray, cost: np.ndarray, end: np.ndarray, nodes: int) -> np.ndarray:
    """The `nodes` nodes i < j < ... with the least start[i] + cost[i, j] + ... + end[last]."""
    best, before = start, []
    for _ in range(nodes - 1):
        total = best[:, None] + cost
        before.append(total.argmin(axis=0))
        best = total.min(axis=0)
    path = [int((best + end).argmin())]
    for step in reversed(before):
        path.append(int(step[path[-1]]))
    return np.array(path[::-1])


def _codebook(values: np.ndarray, samples: _Samples, top: int, stochastic: bool, symmetric: bool) -> Codebook:
    if symmetric:
        values = np.concatenate([-values[:0:-1], values])
    levels = tuple(float(v) for v in values)
    points = torch.from_numpy(np.repeat(samples.points, samples.counts.astype(int)))
    error = squared_error(points, levels, stochastic=stochastic) / top**2
    return Codebook(values=levels, top=float(top), error=error)
