import html.parser
import importlib.util
import math

import pytest

from hw_models.explore import roofline_plot
from hw_models.explore.roofline import Roofline, roofline
from hw_models.explore.roofline_plot import PlotUnavailableError, roofline_figure, roofline_html
from lowbit_sim.trace import GemmEvent, WorkloadTrace
from tests.hw_models.explore.test_sweep import PROFILE, gemm


def line() -> Roofline:
    backward = GemmEvent(**{**vars(gemm(48, 64, 80)), "role": "grad_input", "layer": "<b>fc</b>"})
    return roofline(WorkloadTrace([gemm(), gemm(512, 512, 512), backward]), PROFILE)


def traces(figure, group: str):
    return [trace for trace in figure.data if trace.legendgroup == group]


@pytest.fixture(scope="module")
def figure():
    pytest.importorskip("plotly")
    return roofline_figure(line())


def test_both_axes_are_logarithmic_and_have_their_units(figure):
    assert figure.layout.xaxis.type == figure.layout.yaxis.type == "log"
    assert "MAC/byte" in figure.layout.xaxis.title.text
    assert figure.layout.yaxis.title.text == "MAC/s"


def test_a_roof_for_each_mode_and_a_slope_for_each_memory(figure):
    known = line()
    [roof] = traces(figure, "roofs")
    assert set(roof.y) == {known.roofs[0].macs_per_second}
    slopes = traces(figure, "slopes")
    assert [trace.name.split(":")[0] for trace in slopes] == ["sram", "accumulator", "dram"]
    for trace, slope in zip(slopes, known.slopes, strict=True):
        for x, y in zip(trace.x, trace.y, strict=True):
            assert math.isclose(y, x * slope.bytes_per_second)
        assert max(trace.y) == known.roofs[0].macs_per_second  # a slope ends where it meets the highest roof


def test_points_by_role_and_memory_with_the_outside_shown_first(figure):
    outside = traces(figure, "dram")
    assert [(trace.name, len(trace.x), trace.visible) for trace in outside] == [
        ("output at dram", 2, True),
        ("grad_input at dram", 1, True),
    ]
    assert all(trace.visible == "legendonly" for trace in traces(figure, "sram"))
    assert list(outside[0].y) == [p.macs_per_second for p in line().points[:2]]
    assert list(outside[0].x) == [p.intensity["dram"] for p in line().points[:2]]


def test_all_points_lie_inside_the_span_of_the_roofs(figure):
    [roof] = traces(figure, "roofs")
    shown = [x for trace in figure.data if trace.mode == "markers" for x in trace.x]
    assert min(roof.x) < min(shown)
    assert max(shown) < max(roof.x)


def test_hovering_tells_layer_sizes_and_bound(figure):
    first = traces(figure, "dram")[0].text[0]
    assert first.startswith("<b>fc</b>, output<br>M, N, K = 64, 48, 80; int8 x int8 (8-bit integer)")
    assert f"bound by {line().points[0].bound_by}" in first


def test_names_from_a_model_are_no_markup(figure):
    assert "&lt;b&gt;fc&lt;/b&gt;" in traces(figure, "dram")[1].text[0]


class Scripts(html.parser.HTMLParser):
    """The addresses of a page's scripts and style sheets, and the text of its scripts."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.script = ""
        self.inside = False

    def handle_starttag(self, tag, attrs):
        self.inside = tag == "script"
        self.addresses += [value for name, value in attrs if name in ("src", "href") and value]

    def handle_data(self, data):
        self.script += data if self.inside else ""


def test_the_page_is_whole_and_needs_no_network():
    pytest.importorskip("plotly")
    page = roofline_html(line())
    found = Scripts()
    found.feed(page)
    assert found.addresses == []
    assert "Plotly.newPlot" in found.script
    assert "plotly.js v" in found.script
    assert "M, N, K = 512, 512, 512" in found.script


def test_without_plotly_the_error_names_the_extra(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for draw in (roofline_plot.roofline_figure, roofline_plot.roofline_html):
        with pytest.raises(PlotUnavailableError, match=r"pip install 'lowbit-sim\[plot\]'"):
            draw(line())
