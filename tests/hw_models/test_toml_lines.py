"""The scanner finds what tomllib reads: the same keys, each in the line where it stands."""

import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import hw_models
from hw_models.toml_lines import line_of, toml_lines
from lowbit_sim.config.toml_text import toml_value

ROOT = Path(__file__).parents[2]
FILES = sorted(
    [*ROOT.glob("hw_models/profiles/*.toml"), *ROOT.glob("experiments/*.toml"), ROOT / "pyproject.toml"]
)


def paths_of(value: Any, path: tuple[str | int, ...] = ()) -> set[tuple[str | int, ...]]:
    """All paths in what tomllib reads."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found = {path} if path else set()
    for key, item in inner:
        found |= paths_of(item, (*path, key))
    return found


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_every_key_of_a_file_is_found_in_a_line_that_names_it(file):
    text = file.read_text()
    lines, rows = toml_lines(text), text.splitlines()
    assert set(lines) == paths_of(tomllib.loads(text))
    for path, line in lines.items():
        name = path[-1] if isinstance(path[-1], str) else path[-2] if isinstance(path[-2], str) else ""
        assert isinstance(path[-1], int) or str(name) in rows[line - 1], (path, rows[line - 1])


def test_the_template_is_scanned():
    text = hw_models.template("mine")
    assert set(toml_lines(text)) == paths_of(tomllib.loads(text))


def test_every_kind_of_value_and_key():
    text = "\n".join(  # noqa: FLY002
        [
            'a = "x # y" # comment',  # 1
            "'b.c' = '''",  # 2
            "[not.a.table]",
            "'''",
            'd."e f".g = [1, # one',  # 5
            "  { h = 2, i = [ ] },",  # 6
            '  """[x]',  # 7
            'y = 3 \\""""]',
            "[t]",  # 9
            "j = 1979-05-27T07:32:00Z",  # 10
            "[[t.k]]",  # 11
            "l = inf",
            "[[t.k]]",  # 13
            "[t.k.m]",  # 14
            "n = { o.p = true }",  # 15
            "[u.v]",  # 16
            "[u]",  # 17
        ]
    )
    lines = toml_lines(text + "\n")
    assert set(lines) == paths_of(tomllib.loads(text))
    assert lines["a",] == 1
    assert lines["b.c",] == 2
    assert lines["d", "e f", "g", 1, "h"] == 6
    assert lines["d", "e f", "g", 2] == 7
    assert lines["t", "j"] == 10
    assert (lines["t", "k", 0], lines["t", "k", 1]) == (11, 13)
    assert lines["t", "k", 1, "m", "n", "o", "p"] == 15
    assert lines["u", "v"] == 16
    assert lines["u",] == 17


def test_windows_line_ends():
    assert toml_lines("a = 1\r\n[b]\r\nc = 2\r\n") == {("a",): 1, ("b",): 2, ("b", "c"): 3}


def test_a_place_that_is_missing_is_the_table_around_it():
    lines = toml_lines("[a]\nb = 1\n[a.c]\nd = 2\n")
    assert line_of(lines, ("a", "x")) == 1
    assert line_of(lines, ("a", "c", "d", 0)) == 4
    assert line_of(lines, ("nowhere",)) == 1
    assert line_of(lines, ()) == 1


KEYS = st.text("abcXYZ019_-", min_size=1, max_size=4)
SCALARS = st.one_of(
    st.integers(-(2**63), 2**63 - 1),
    st.booleans(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=8),
).filter(lambda value: not isinstance(value, str) or all(ord(c) < 0xD800 for c in value))
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(KEYS, st.dictionaries(KEYS, VALUES, max_size=4), max_size=4))
def test_random_files(tables):
    rows = []
    for name, table in tables.items():
        rows += [
            f"[{name}]  # {len(rows)}",
            "",
            *(f"{key} = {toml_value(value)}" for key, value in table.items()),
        ]
    text = "\n".join(rows)
    assert tomllib.loads(text) == tables
    lines = toml_lines(text)
    assert set(lines) == paths_of(tables)
    for name, table in tables.items():
        for key in table:
            assert rows[lines[name, key] - 1].startswith(f"{key} = ")
