"""Clips: the magnitude of each region that maps to the format's largest value, where it is not the absmax.

Every function takes float32 x of any shape without NaN and a granularity, and returns float32 of the shape
`scale_shape(granularity, x.shape)`; 0 for regions of zeros. Infinite elements are left out (in sums they count as
0). Sums are those of `sums.py`, the same on every device.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

import torch
from torch import Tensor

from lowbit_sim.numerics.formats import BlockFormat, ElementFormat, Format, IntFormat
from lowbit_sim.numerics.rounding import Rounding
from lowbit_sim.quant.codes import to_codes
from lowbit_sim.quant.granularity import Granularity, PerAxis
from lowbit_sim.quant.qtensor import decode
from lowbit_sim.quant.regions import absmax, rows, spread
from lowbit_sim.quant.sums import row_means, row_sums

#: SAWB's c1 and c2 by the width of a symmetric integer.
_SAWB = {2: (2.6, 1.71), 4: (12.035, 12.03), 8: (31.76, 35.04)}

#: The clip's ratios to the largest magnitude that a search starts from.
_GRID = 32

#: What a search minimises: the float64 costs [regions] of x and its quantised values [regions, elements].
_Cost = Callable[[Tensor, Tensor], Tensor]


def percentile_clip(x: Tensor, granularity: Granularity, percentile: float) -> Tensor:
    """The ceil(p n / 100)-th smallest of a region's n finite magnitudes; see `PercentileScale`."""
    share = Fraction(str(percentile)) / 100
    found = [_order_statistic(part.abs(), share) for part in rows(x, granularity)]
    clip = spread(found, granularity, tuple(x.shape), empty=0.0, device=x.device)
    return torch.where(clip == 0, absmax(x, granularity), clip)


def _order_statistic(magnitudes: Tensor, share: Fraction) -> Tensor:
    count = torch.isfinite(magnitudes).sum(1)
    # On a GPU kthvalue is not among torch's deterministic algorithms, as its index is not.
    if not magnitudes.is_cuda and int(count.min()) == magnitudes.shape[1]:
        return magnitudes.kthvalue(math.ceil(share * magnitudes.shape[1]), dim=1).values
    # Infinities sort behind every finite magnitude.
    ranks = torch.tensor([max(math.ceil(share * n), 1) - 1 for n in count.tolist()], device=count.device)
    ordered = magnitudes.sort(dim=1).values.gather(1, ranks[:, None]).squeeze(1)
    return torch.where(count > 0, ordered, 0.0)


def sawb_coefficients(fmt: Format) -> tuple[float, float]:
    """SAWB's c1 and c2 for a format.

    Raises:
        ValueError: A format that none are published for.
    """
    if isinstance(fmt, IntFormat) and fmt.symmetric and fmt.bits in _SAWB:
        return _SAWB[fmt.bits]
    raise ValueError(f"SawbScale has coefficients for int2, int4 and int8 only, not for {fmt}")


def sawb_clip(x: Tensor, fmt: Format, granularity: Granularity) -> Tensor:
    """c1 sqrt(mean x^2) - c2 mean |x|, or the absmax where that is not positive; see `SawbScale`."""
    c1, c2 = sawb_coefficients(fmt)
    found = []
    for part in rows(x, granularity):
        magnitudes = _finite(part).abs().double()
        clip = c1 * row_means(magnitudes * magnitudes).sqrt() - c2 * row_means(magnitudes)
        found.append(clip.clamp(max=torch.finfo(torch.float32).max).to(torch.float32))
    clip = spread(found, granularity, tuple(x.shape), empty=0.0, device=x.device)
    return torch.where(clip <= 0, absmax(x, granularity), clip)


def mse_clip(x: Tensor, fmt: Format, granularity: Granularity) -> Tensor:
    """The clip with the least mean squared error; see `MseScale`."""
    return _searched(x, fmt, granularity, squared_error)


def cosine_clip(x: Tensor, fmt: Format, granularity: Granularity) -> Tensor:
    """The clip with the least 1 - cos(x, x'); see `DirectionSensitiveScale`."""
    return _searched(x, fmt, granularity, cosine_distance)


def squared_error(x: Tensor, quantized: Tensor) -> Tensor:
    """Mean of (x - x')^2 of each row: float64 [regions]."""
    difference = x.double() - quantized
    return row_means(difference * difference)


def cosine_distance(x: Tensor, quantized: Tensor) -> Tensor:
    """1 - <x, x'> / (|x| |x'|) of each row, 1 where a row is all zero: float64 [regions]."""
    a, b = x.double(), quantized.double()
    lengths = row_sums(a * a).sqrt() * row_sums(b * b).sqrt()
    return 1.0 - torch.where(lengths > 0, row_sums(a * b) / lengths, 0.0)


def _finite(part: Tensor) -> Tensor:
    return torch.where(torch.isfinite(part), part, 0.0)


def _searched(x: Tensor, fmt: Format, granularity: Granularity, cost: _Cost) -> Tensor:
    assert not isinstance(fmt, BlockFormat)
    found = [_search(_finite(part), fmt, cost) for part in rows(x, granularity)]
    return spread(found, granularity, tuple(x.shape), empty=0.0, device=x.device)


def _search(part: Tensor, fmt: ElementFormat, cost: _Cost) -> Tensor:
    """The best clip of each row of [regions, elements]."""
    largest = part.abs().amax(1)
    ratios = [i / _GRID for i in range(1, _GRID + 1)]
    costs = torch.stack([_cost_at(part, torch.full_like(largest, r) * largest, fmt, cost) for r in ratios])
    costs = costs.cpu().numpy()
    best = costs.argmin(0)  # numpy's gives the first of equal ones
    found = [
        _refine(part[i : i + 1], largest[i : i + 1], fmt, cost, ratios[k], float(costs[k, i]))
        for i, k in enumerate(best.tolist())
    ]
    return torch.tensor(found, dtype=torch.float32, device=part.device) * largest


def _refine(
    row: Tensor, largest: Tensor, fmt: ElementFormat, cost: _Cost, ratio: float, reached: float
) -> float:
    """The float32 ratio with the least cost met by Brent's method around a grid point."""
    from scipy.optimize import minimize_scalar

    def cost_of(r: float) -> float:
        return float(_cost_at(row, torch.full_like(largest, r) * largest, fmt, cost)[0])

    if not largest.item():
        return 1.0
    # The rounded cost has many local minima: a search that finds none keeps the grid's.
    bounds = (ratio - 1 / _GRID, min(ratio + 1 / _GRID, 1.0))
    found = minimize_scalar(cost_of, bounds=bounds, method="bounded", options={"maxiter": 30, "xatol": 1e-4})
    return float(found.x) if found.fun < reached else ratio


def _cost_at(part: Tensor, clip: Tensor, fmt: ElementFormat, cost: _Cost) -> Tensor:
    """The cost of each row when its clip maps to the format's largest value."""
    from lowbit_sim.quant.scaling import scale_of_clip

    part = part.contiguous()
    scale = scale_of_clip(clip, fmt)[:, None]
    codes = to_codes(part, scale, None, PerAxis(0), fmt, Rounding(), None)
    # In float64, as the product can exceed float32's range next to its largest number.
    return cost(part, decode(codes, fmt).double() * scale.double())
