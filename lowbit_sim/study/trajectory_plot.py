"""Trajectories as an interactive page: a panel for each quantity, a line with its band for each arm.

plotly draws it; it is an extra of the package (`plot`) and imported here alone. It writes pages only: its pictures
would need a browser, so `trajectory_picture` draws those.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from lowbit_sim.study.errors import StudyError
from lowbit_sim.study.results import ArmResult
from lowbit_sim.study.trajectory import Point, plotted_names, trajectory

if TYPE_CHECKING:
    from plotly.graph_objects import Figure, Scatter

#: Okabe and Ito's colours, which readers with any colour vision tell apart, as red, green, blue.
_COLOURS = ((0, 114, 178), (213, 94, 0), (0, 158, 115), (204, 121, 167), (230, 159, 0), (86, 180, 233))

#: Further arms take the colours again with another dash.
_DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")

_PANEL_PIXELS = 320


def trajectory_html(title: str, arms: Mapping[str, ArmResult], names: Sequence[str] = ()) -> str:
    """The trajectories as one HTML page, plotly's script included.

    Args:
        title: The page's title.
        arms: The arms by the names that their lines bear.
        names: Measurements, or those of `trajectory.ALWAYS`; by default all measurements of the arms' recipes.

    Raises:
        StudyError: plotly is not installed, nothing was measured, or a name is not known.
    """
    return trajectory_figure(title, arms, names).to_html(include_plotlyjs=True, full_html=True)


def trajectory_figure(title: str, arms: Mapping[str, ArmResult], names: Sequence[str] = ()) -> Figure:
    """The plotly figure of `trajectory_html`.

    Raises:
        StudyError: As there.
    """
    if importlib.util.find_spec("plotly") is None:
        raise StudyError("a page of trajectories needs plotly: pip install 'lowbit-sim[plot]'")
    from plotly.subplots import make_subplots

    chosen = plotted_names(list(arms.values()), names)
    figure = make_subplots(rows=len(chosen), shared_xaxes=True, vertical_spacing=0.25 / len(chosen))
    in_the_legend: set[str] = set()
    for row, name in enumerate(chosen, start=1):
        for scatter in _panel(arms, name, in_the_legend):
            figure.add_trace(scatter, row=row, col=1)
        figure.update_yaxes(title=name, row=row, col=1)
    figure.update_xaxes(title="epochs", row=len(chosen), col=1)
    figure.update_layout(title=title, template="plotly_white", height=120 + _PANEL_PIXELS * len(chosen))
    return figure


def _panel(arms: Mapping[str, ArmResult], name: str, in_the_legend: set[str]) -> Iterator[Scatter]:
    """The band and the line of each arm that has values; a legend's entry switches the arm in all panels."""
    from plotly.graph_objects import Scatter

    measured = {label: points for label, arm in arms.items() if (points := trajectory(arm, name))}
    for number, (label, points) in enumerate(measured.items()):
        red, green, blue = _COLOURS[number % len(_COLOURS)]
        dash = _DASHES[number // len(_COLOURS) % len(_DASHES)]
        x = [p.epoch for p in points]
        yield Scatter(
            x=[*x, *reversed(x)],
            y=[*(p.mean + p.deviation for p in points), *(p.mean - p.deviation for p in reversed(points))],
            fill="toself",
            fillcolor=f"rgba({red}, {green}, {blue}, 0.18)",
            line={"width": 0},
            hoverinfo="skip",
            showlegend=False,
            legendgroup=label,
        )
        yield Scatter(
            x=x,
            y=[p.mean for p in points],
            mode="lines+markers",
            name=label,
            text=[_hover(p) for p in points],
            line={"color": f"rgb({red}, {green}, {blue})", "dash": dash},
            legendgroup=label,
            showlegend=label not in in_the_legend,
        )
        in_the_legend.add(label)


def _hover(point: Point) -> str:
    return f"± {point.deviation:.3g} over {point.runs} run{'s' if point.runs > 1 else ''}"
