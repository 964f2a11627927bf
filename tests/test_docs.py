"""The documentation: its Python and its commands run, its links lead somewhere, its tables are what the code has."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from typer.testing import CliRunner

import lowbit_sim as lb
from lowbit_sim.cli import app
from lowbit_sim.numerics.catalog import CATALOG

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md"))

#: Checked by a test of its own: checks that fail are what this page is about.
ELSEWHERE = {"testing-your-quantiser.md": "testing/test_docs.py"}


def text_of(page: str) -> str:
    return (DOCS / page).read_text(encoding="utf-8")


def blocks(page: str) -> list[str]:
    return [block for language, block in examples(page) if language == "python"]


def examples(page: str) -> list[tuple[str, str]]:
    """Blocks that run, with their languages: Python, and console sessions of `$ lowbit-sim ...`."""
    return re.findall(r"^```(python|console)\n(.*?)^```", text_of(page), re.DOTALL | re.MULTILINE)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("page", [p for p in PAGES if examples(p) and p not in ELSEWHERE])
def test_examples_run(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The blocks of a page run in order in one folder, and those of Python share their names."""
    monkeypatch.chdir(tmp_path)
    if re.search(r"^(import|from) transformers", text_of(page), re.MULTILINE):
        pytest.importorskip("transformers")
    names: dict[str, Any] = {"__name__": page}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for number, (language, block) in enumerate(examples(page)):
            if language == "console":
                run_session(block)
            else:
                exec(compile(block, f"{page}, block {number}", "exec"), names)


def run_session(block: str) -> None:
    """Run each command and find the lines shown under it in its output, in that order; "..." skips some.

    Exit code 1 is `diverge`'s word for two runs that part; 2 is an error.
    """
    for command, *shown in (part.splitlines() for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]):
        program, *arguments = shlex.split(command)
        assert program == "lowbit-sim", command
        result = CliRunner().invoke(app, arguments, env={"COLUMNS": "100"}, catch_exceptions=False)
        assert result.exit_code in (0, 1), f"{command}: {result.output}"
        printed = iter([line.rstrip() for line in result.output.splitlines()])
        for line in shown:
            assert line == "..." or line.rstrip() in printed, f"{command}: no {line!r} in\n{result.output}"


def test_pages_can_fail() -> None:
    for page in PAGES:
        if page in ELSEWHERE:
            assert (ROOT / "tests" / ELSEWHERE[page]).exists()
        elif blocks(page) and page != "index.md":
            assert any("assert " in block for block in blocks(page)), page


def test_sessions_can_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run_session("$ lowbit-sim profiles list\n...\n")
    for wrong in ("$ lowbit-sim profiles list\nno such line\n", "$ lowbit-sim profiles show nothing\n"):
        with pytest.raises((AssertionError, ValueError)):
            run_session(wrong)


def nav_pages(entry: Any) -> list[str]:
    if isinstance(entry, str):
        return [entry]
    inside = entry.values() if isinstance(entry, dict) else entry
    return [page for part in inside for page in nav_pages(part)]


def test_the_navigation_has_every_page_once() -> None:
    nav = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]
    assert sorted(nav_pages(nav)) == PAGES


def anchors(page: str) -> set[str]:
    """The headings as Python-Markdown's toc makes anchors of them."""
    prose = re.sub(r"^```.*?^```", "", text_of(page), flags=re.DOTALL | re.MULTILINE)
    headings = [re.sub(r"[`*]", "", h) for h in re.findall(r"^#+ (.*)$", prose, re.MULTILINE)]
    kept = [re.sub(r"[^\w\s-]", "", h).strip().lower() for h in headings]
    return {re.sub(r"[-\s]+", "-", h) for h in kept}


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", text_of(page)):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (DOCS / page).parent / path if path else DOCS / page
        assert target.is_file(), f"{page}: {link}"
        if anchor:
            assert anchor in anchors(target.resolve().relative_to(DOCS).as_posix()), f"{page}: {link}"


def test_the_paths_that_pages_name_exist() -> None:
    for page in PAGES:
        for path in re.findall(r"`((?:tests|lowbit_sim|experiments)/[\w/]+(?:\.\w+|/))`", text_of(page)):
            assert (ROOT / path).exists(), f"{page}: {path}"


def number(value: float | None) -> str:
    if value is None:
        return "-"
    exponent = torch.frexp(torch.tensor(value, dtype=torch.float64)).exponent.item() - 1
    if value == 2.0**exponent and not 1 <= value < 1e6:
        return f"2^{exponent}"
    return f"{int(value)}" if value == int(value) and value < 1e6 else f"{value:.5g}"


def what(fmt: lb.Format) -> str:
    """A format's parameters in a few words."""
    match fmt:
        case lb.FloatFormat():
            special = [s for s, has in (("infinity", fmt.has_infinity), ("NaN", fmt.has_nan)) if has]
            fields = f"1-{fmt.exponent_bits}-{fmt.mantissa_bits}, bias {fmt.bias}"
            return f"{fields}, {' and '.join(special) or 'numbers only'}"
        case lb.LogFormat():
            return f"radix {fmt.radix}{', odd powers of two' if fmt.odd else ''}"
        case lb.PositFormat():
            return f"{fmt.exponent_bits} exponent bits"
        case lb.BlockFormat():
            tensor = ", and one for the tensor" if fmt.tensor_scale else ""
            return f"`{fmt.element}`, one `{fmt.scale}` scale for every {fmt.block}{tensor}"
        case _:
            return "powers of two, the scales of MX"


def test_the_catalogue_s_table() -> None:
    rows = [
        f"| `{name}` | {fmt.bits} | {number(fmt.max_value)} | {number(fmt.unit)} | {what(fmt)} |"
        for name, fmt in CATALOG.items()
        if not isinstance(fmt, lb.IntFormat)
    ]
    [table] = re.findall(
        r"<!-- catalogue -->\n(.*?)<!-- end of catalogue -->", text_of("formats.md"), re.DOTALL
    )
    assert table.strip().split("\n")[2:] == rows, "the table should be:\n" + "\n".join(rows)


def test_every_integer_of_the_catalogue_is_named() -> None:
    integers = {name for name, fmt in CATALOG.items() if isinstance(fmt, lb.IntFormat)}
    shapes = re.findall(r"`(u?int)2(\w*)` to\s+`u?int16\w*`", text_of("formats.md"))
    assert integers == {f"{kind}{bits}{suffix}" for kind, suffix in shapes for bits in range(2, 17)}


def names_in(page: str, start: str, end: str) -> set[str]:
    """What stands in code type in the part of a page from one heading to another."""
    part = text_of(page).split(start, 1)[1].split(end, 1)[0]
    return set(re.findall(r"`([A-Za-z_]\w*)", part))


def test_every_kind_mode_rule_and_granularity_has_its_line() -> None:
    from typing import get_args

    from lowbit_sim.arith.float_mac import FloatMacUnit
    from lowbit_sim.arith.mac import MacUnit
    from lowbit_sim.quant.granularity import Granularity
    from lowbit_sim.quant.scaling import ScaleRule

    assert {kind.__name__ for kind in get_args(lb.Format)} <= names_in(
        "formats.md", "## The kinds", "## Names"
    )
    assert {mode.value for mode in lb.RoundingMode} <= names_in("formats.md", "## Rounding", "## Overflow")
    rules, granularities = ({kind.__name__ for kind in get_args(union)} for union in (ScaleRule, Granularity))
    assert rules <= names_in("quantisers.md", "## Scale rules", "## Rules with a memory")
    assert granularities <= names_in("quantisers.md", "## Granularity", "## Scale rules")
    for unit, start, end in (
        (MacUnit, "## Integer MacUnits", "## Floating-point MacUnits"),
        (FloatMacUnit, "## Floating-point MacUnits", "## Block-scaled GEMMs"),
    ):
        assert set(unit.__dataclass_fields__) <= names_in("accumulators.md", start, end)


def test_every_layer_with_a_twin_and_every_refused_function_is_named() -> None:
    from lowbit_sim.nn.products import PRODUCTS, REFUSED
    from lowbit_sim.nn.registry import EMULATED, MULTIPLYING

    page = text_of("operators.md")
    for kind in (*EMULATED, *(k for k in MULTIPLYING if not k.__name__.startswith("_"))):
        assert re.search(rf"`(nn\.)?{kind.__name__}`", page) or kind.__name__ in ("RNNBase", "RNNCellBase")
    for name in (*PRODUCTS, *REFUSED):
        shown = re.sub(r"[123]d$", "1d", name)
        assert name.startswith("_") or f"`{shown}`" in page or f"`{name}`" in page, name
