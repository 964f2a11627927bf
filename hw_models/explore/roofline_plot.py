"""A roofline as an interactive page: log-log, hover for each GEMM, all in one file that needs no network.

plotly draws it; it is an extra of the package (`plot`) and imported here alone.
"""

from __future__ import annotations

import html
import importlib.util
import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

from hw_models.explore.roofline import DRAM, GemmPoint, Roofline
from lowbit_sim.trace import ROLES

if TYPE_CHECKING:
    from plotly.graph_objects import Figure, Scatter

#: Okabe and Ito's colours, which readers with any colour vision tell apart.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_DASHES = ("solid", "dash", "dot", "dashdot")
_SYMBOLS = ("circle", "diamond", "square", "triangle-up", "cross", "x")

#: Decades that the lines reach beyond the points and the knees.
_MARGIN = 10**0.5


class PlotUnavailableError(ValueError):
    """plotly is not installed."""


def require_plotly() -> None:
    """Raise PlotUnavailableError if plotly is not installed."""
    if importlib.util.find_spec("plotly") is None:
        raise PlotUnavailableError(
            "a roofline page needs plotly: pip install 'lowbit-sim[plot]', or choose a .csv file, which needs nothing"
        )


def roofline_figure(line: Roofline) -> Figure:
    """The roofline as a plotly figure: a line for each roof and each slope, and a trace of points for each memory
    and role. The points at the memory outside are shown at first; those at the others come with a click.

    Raises:
        PlotUnavailableError: plotly is not installed.
    """
    require_plotly()
    from plotly.graph_objects import Figure

    figure = Figure([*_lines(line), *_points(line)])
    figure.update_layout(
        title=f"Roofline of {line.machine}",
        template="plotly_white",
        hovermode="closest",
        legend={"groupclick": "toggleitem"},
    )
    figure.update_xaxes(type="log", title="arithmetic intensity in MAC/byte at the memory's port")
    figure.update_yaxes(type="log", title="MAC/s")
    return figure


def roofline_html(line: Roofline) -> str:
    """The roofline as one HTML page, plotly's script included.

    Raises:
        PlotUnavailableError: plotly is not installed.
    """
    return roofline_figure(line).to_html(include_plotlyjs=True, full_html=True)


def _lines(line: Roofline) -> Iterable[Scatter]:
    from plotly.graph_objects import Scatter

    left, right = _span(line)
    highest = max(roof.macs_per_second for roof in line.roofs)
    for roof in line.roofs:
        yield Scatter(
            x=[left, right],
            y=[roof.macs_per_second] * 2,
            mode="lines",
            name=f"{roof.mode}: {roof.macs_per_second:.3g} MAC/s",
            line={"color": "black"},
            legendgroup="roofs",
            legendgrouptitle={"text": "peak of a mode"},
        )
    for slope, dash in zip(line.slopes, _cycled(_DASHES, len(line.slopes)), strict=True):
        end = highest / slope.bytes_per_second
        yield Scatter(
            x=[min(left, end), end],
            y=[min(left, end) * slope.bytes_per_second, highest],
            mode="lines",
            name=f"{slope.level}: {slope.bytes_per_second:.3g} B/s",
            line={"color": "grey", "dash": dash},
            legendgroup="slopes",
            legendgrouptitle={"text": "bandwidth of a memory"},
        )


def _span(line: Roofline) -> tuple[float, float]:
    """The intensities that the picture covers: all points and all knees."""
    knees = [line.balance(roof, slope) for roof in line.roofs for slope in line.slopes]
    shown = [x for point in line.points for x in point.intensity.values()] + knees
    return min(shown) / _MARGIN, max(shown) * _MARGIN


def _cycled(values: tuple[str, ...], count: int) -> list[str]:
    return (list(values) * math.ceil(count / len(values)))[:count]


def _points(line: Roofline) -> Iterable[Scatter]:
    from plotly.graph_objects import Scatter

    levels = [slope.level for slope in line.slopes]
    for level, symbol in zip(levels, _cycled(_SYMBOLS, len(levels)), strict=True):
        for role, colour in zip(ROLES, _cycled(_COLOURS, len(ROLES)), strict=True):
            points = [p for p in line.points if p.event.role == role and level in p.intensity]
            if not points:
                continue
            yield Scatter(
                x=[p.intensity[level] for p in points],
                y=[p.macs_per_second for p in points],
                mode="markers",
                name=f"{role} at {level}",
                text=[_hover(p, level) for p in points],
                hoverinfo="text",
                marker={"color": colour, "symbol": symbol, "size": 8},
                visible=True if level == DRAM else "legendonly",
                legendgroup=level,
                legendgrouptitle={"text": f"GEMMs at {level}"},
            )


def _hover(point: GemmPoint, level: str) -> str:
    e = point.event
    times = f"{e.count} x " if e.count > 1 else ""
    return "<br>".join(
        [
            f"<b>{html.escape(e.layer) or 'GEMM'}</b>, {e.role}",
            f"{times}M, N, K = {e.M}, {e.N}, {e.K}; {e.lhs.format} x {e.rhs.format} ({point.mode})",
            f"{point.macs:.3g} MACs in {point.seconds:.3g} s: {point.macs_per_second:.3g} MAC/s",
            f"{point.intensity[level]:.3g} MAC/byte at {level}; bound by {point.bound_by}",
        ]
    )
