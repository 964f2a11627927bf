"""Trajectories as a picture for a page or a paper: a panel for each quantity, a line with its band for each arm.

matplotlib draws it, without a window; like plotly it is an extra of the package (`plot`).
"""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from lowbit_sim.study.errors import StudyError
from lowbit_sim.study.results import ArmResult
from lowbit_sim.study.trajectory import plotted_names, trajectory

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: What a picture can be, by the end of the file's name.
PICTURE_FORMATS = ("pdf", "png", "svg")

#: Okabe and Ito's colours, which readers with any colour vision tell apart, then the same in other dashes.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
_DASHES = ("-", "--", ":", "-.")

_WIDTH_INCHES, _PANEL_INCHES = 7.0, 2.8


def trajectory_picture(
    title: str, arms: Mapping[str, ArmResult], names: Sequence[str] = (), *, format: str
) -> bytes:
    """The trajectories as the bytes of a picture; equal results give equal bytes.

    Args:
        title: What stands above it.
        arms: The arms by the names that their lines bear.
        names: Measurements, or those of `trajectory.ALWAYS`; by default all measurements of the arms' recipes.
        format: One of `PICTURE_FORMATS`.

    Raises:
        StudyError: matplotlib is not installed, nothing was measured, or a name is not known.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise StudyError("a picture of trajectories needs matplotlib: pip install 'lowbit-sim[plot]'")
    import matplotlib

    written = io.BytesIO()
    # Ids and dates are what else would differ from one run to the next.
    with matplotlib.rc_context({"svg.hashsalt": title, "svg.fonttype": "none"}):
        figure = _figure(title, arms, plotted_names(list(arms.values()), names))
        undated = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": {}}[format]
        figure.savefig(written, format=format, metadata=undated, bbox_inches="tight", dpi=150)
    return written.getvalue()


def _figure(title: str, arms: Mapping[str, ArmResult], names: Sequence[str]) -> Figure:
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(_WIDTH_INCHES, 0.6 + _PANEL_INCHES * len(names)))
    panels = figure.subplots(len(names), sharex=True, squeeze=False)[:, 0]
    for panel, name in zip(panels, names, strict=True):
        for number, (label, arm) in enumerate(arms.items()):
            _draw(panel, number, label, arm, name)
        panel.set_ylabel(name)
        panel.grid(alpha=0.3)
    panels[-1].set_xlabel("epochs")
    panels[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
    panels[0].set_title(title)
    by_label = {
        label: line for p in panels for line, label in zip(*p.get_legend_handles_labels(), strict=True)
    }
    panels[0].legend(
        by_label.values(), by_label.keys(), loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False
    )
    return figure


def _draw(panel: Axes, number: int, label: str, arm: ArmResult, name: str) -> None:
    """The line and the band of an arm, of the same look in every panel."""
    points = trajectory(arm, name)
    if not points:
        return
    colour = _COLOURS[number % len(_COLOURS)]
    dash = _DASHES[number // len(_COLOURS) % len(_DASHES)]
    x = [p.epoch for p in points]
    panel.plot(
        x, [p.mean for p in points], label=label, marker="o", markersize=3, color=colour, linestyle=dash
    )
    below, above = [p.mean - p.deviation for p in points], [p.mean + p.deviation for p in points]
    panel.fill_between(x, below, above, alpha=0.15, linewidth=0, color=colour)
