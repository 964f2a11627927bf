"""The line of every key of a TOML file: `tomllib` gives the values and not where they stand.

The scanner reads a text that `tomllib` has read already, so it looks for where things begin and end and checks
nothing. TOML 1.0.0, https://toml.io/en/v1.0.0.
"""

from __future__ import annotations

import re
import tomllib
from bisect import bisect_left

Path = tuple[str | int, ...]

_SPACE = re.compile(r"[ \t]*")
_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_STRING = re.compile(
    r'"""(?:\\.|[^\\])*?"""+|\'\'\'.*?\'\'\'+|"(?:\\.|[^"\\])*"|\'[^\']*\'',
    re.DOTALL,
)
_BARE = re.compile(r"[A-Za-z0-9_-]+")
_SCALAR = re.compile(r"[^,\]}\n#]*")


def toml_lines(text: str) -> dict[Path, int]:
    """The line, counted from 1, of each key, table and position in a list of a valid TOML text."""
    return _Scanner(text).document()


def line_of(lines: dict[Path, int], location: Path) -> int:
    """The line of a place, or of the nearest table around it that the file has; 1 for the whole file."""
    for length in range(len(location), 0, -1):
        if location[:length] in lines:
            return lines[location[:length]]
    return 1


class _Scanner:
    """Reads a text from front to back; every method leaves `at` behind what it has read."""

    def __init__(self, text: str) -> None:
        self.text, self.at = text, 0
        self.ends = [m.start() for m in re.finditer("\n", text)]
        self.lines: dict[Path, int] = {}
        self.repeated: dict[Path, int] = {}  # how many [[tables]] of a path have begun

    def document(self) -> dict[Path, int]:
        table: Path = ()
        self._skip(_BLANK)
        while self.at < len(self.text):
            if self.text[self.at] == "[":
                table = self._header()
            else:
                self._pair(table)
            self._skip(_BLANK)
        return self.lines

    def _skip(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self.text, self.at)
        assert match is not None
        self.at = match.end()
        return match.group()

    def _mark(self, path: Path, at: int) -> None:
        line = bisect_left(self.ends, at) + 1
        for length in range(1, len(path) + 1):
            self.lines.setdefault(path[:length], line)

    def _header(self) -> Path:
        at, brackets = self.at, 2 if self.text.startswith("[[", self.at) else 1
        self.at += brackets
        path: Path = ()
        keys = self._keys()
        for i, key in enumerate(keys):
            path = (*path, key)
            if brackets == 2 and i == len(keys) - 1:
                self.repeated[path] = self.repeated.get(path, 0) + 1
            if path in self.repeated:
                path = (*path, self.repeated[path] - 1)
        self._mark(path, at)
        self.lines[path] = bisect_left(self.ends, at) + 1  # a table inside it may have come first
        self.at += brackets
        return path

    def _keys(self) -> list[str]:
        keys: list[str] = []
        while True:
            self._skip(_SPACE)
            quoted = self.text[self.at] in "\"'"
            key = self._skip(_STRING if quoted else _BARE)
            keys.append(tomllib.loads(f"key = {key}")["key"] if quoted else key)
            self._skip(_SPACE)
            if self.text[self.at] != ".":
                return keys
            self.at += 1

    def _pair(self, table: Path) -> None:
        at = self.at
        path = (*table, *self._keys())
        self._mark(path, at)
        self.at += 1  # the equals sign
        self._skip(_SPACE)
        self._value(path)

    def _value(self, path: Path) -> None:
        self._mark(path, self.at)
        start = self.text[self.at]
        if start == "[":
            self._items(path, "]")
        elif start == "{":
            self._items(path, "}")
        else:
            self._skip(_STRING if start in "\"'" else _SCALAR)

    def _items(self, path: Path, end: str) -> None:
        self.at += 1
        self._skip(_BLANK)
        index = 0
        while self.text[self.at] != end:
            if end == "]":
                self._value((*path, index))
            else:
                self._pair(path)
            self._skip(_BLANK)
            if self.text[self.at] == ",":
                self.at += 1
                self._skip(_BLANK)
            index += 1
        self.at += 1
