"""One wording for every unknown name: what it is, what is known, which known name is nearest."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

#: Names of which a list is still read: behind more of them the message names the nearest ones only.
_MANY = 30

#: The nearest names that stand in place of a long list.
_NEAREST = 5

#: Where the names are that are too many for a message, by what they name.
_LISTED_IN = {"format": "docs/formats.md"}


def unknown(what: str, name: object, known: Iterable[str]) -> str:
    """The message of an error for a name that is not among the known ones."""
    names = sorted(known)
    if len(names) > _MANY:
        hint = _hint(_nearest(name, names, _NEAREST))
        return f"unknown {what} {name!r}{hint}{' ' if hint else '; '}{_where(what, names)}"
    return f"unknown {what} {name!r}: known are {', '.join(names)}{did_you_mean(name, names)}"


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """The end of a message: "; did you mean 'apple'?", or "" where no known name is near."""
    return _hint(_nearest(name, sorted(known), 1))


def _nearest(name: object, names: list[str], count: int) -> list[str]:
    """At most `count` names: those that begin with the name, the shortest first; those whose words begin with its
    letters, as learning_rate with those of lr; then those that are spelt alike.
    """
    longer = sorted((known for known in names if name and known.startswith(str(name))), key=len)
    short = [known for known in names if "_" in known and _initials(known) == name]
    alike = difflib.get_close_matches(str(name), names, n=count, cutoff=0.4)
    return list(dict.fromkeys([*longer, *short, *alike]))[:count]


def _initials(name: str) -> str:
    return "".join(word[:1] for word in name.split("_"))


def _hint(nearest: list[str]) -> str:
    if not nearest:
        return ""
    *others, last = map(repr, nearest)
    return f"; did you mean {', '.join(others)}{' or ' if others else ''}{last}?"


def _where(what: str, names: list[str]) -> str:
    place = _LISTED_IN.get(what)
    return f"{place} lists all {len(names)}" if place else f"{len(names)} are known"
