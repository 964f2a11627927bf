"""One wording for every unknown name: what it is, what is known, which known name is nearest."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

#: Names of which a list no longer is read to its end.
_MANY = 20


def unknown(what: str, name: object, known: Iterable[str]) -> str:
    """The message of an error for a name that is not among the known ones."""
    names = sorted(known)
    longer = sorted((known for known in names if name and known.startswith(str(name))), key=len)
    nearest = longer or difflib.get_close_matches(str(name), names, n=1, cutoff=0.4)
    if len(names) > _MANY and nearest:  # the hint would be lost behind them
        return f"unknown {what} {name!r}; did you mean {nearest[0]!r}? Known are {', '.join(names)}"
    hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
    return f"unknown {what} {name!r}: known are {', '.join(names)}{hint}"
