"""The page and the tables that show the comparisons."""

from rich.console import Console

from hw_models.validation.document import console_tables, markdown
from hw_models.validation.table import Comparison
from tests.hw_models.validation.test_table import point

POINTS = [
    point(100, 90, note="a | b"),
    point(200, 220, workload="other"),
    point(5, 9, limit="at least", quantity="q"),
]
PLAIN = {"x": Comparison(title="A chip: silicon", about="What is compared.", points=lambda: POINTS)}
SUMMARISED = {"x": Comparison(title="A tool", about="Many.", points=lambda: POINTS[:2], summarised=True)}


def test_the_page_has_an_overview_and_a_row_a_point():
    page = markdown(PLAIN)
    assert "| A chip | m | cycles | 2 | 0 | 10.0 | 10.0 |" in page
    assert "| A chip | m | q | 1 | 1 of 1 limits kept |  |  |" in page
    assert "## A chip: silicon\n\nWhat is compared.\n" in page
    assert "| m | net: layer | cycles | 100 | 90 | cycles | -10.0 | a / b |" in page
    assert "| m | net: layer | q | at least 5 | 9 | cycles | kept |  |" in page


def test_a_broken_limit_says_so():
    broken = {"x": Comparison(title="A", about="", points=lambda: [point(5, 4, limit="at least")])}
    assert "| at least 5 | 4 | cycles | broken |  |" in markdown(broken)


def test_limits_among_errors_have_a_row_of_their_own():
    points = [point(100, 90), point(5, 9, limit="at least"), point(5, 4, limit="at least")]
    page = markdown({"x": Comparison(title="A", about="", points=lambda: points)})
    assert (
        "| A | m | cycles | 1 | 0 | 10.0 | 10.0 |\n| A | m | cycles | 2 | 1 of 2 limits kept |  |  |" in page
    )


def test_a_summarised_comparison_has_a_row_a_suite():
    page = markdown(SUMMARISED)
    assert "| m | net | 1 | 0 | 10.0 | 10.0 |" in page
    assert "net: layer" not in page


def test_the_console_has_statistics_or_every_point():
    console = Console(width=160, record=True)
    for table in console_tables(PLAIN):
        console.print(table)
    text = console.export_text()
    assert "A chip: silicon" in text
    assert "net: layer" not in text
    for table in console_tables(PLAIN, every_point=True):
        console.print(table)
    assert "net: layer" in console.export_text()
