"""Values as TOML writes them."""

from __future__ import annotations

import json
from typing import Any


def toml_value(value: Any) -> str:
    """A string, number, boolean, list or table as it stands behind a key's equals sign.

    Args:
        value: The value; TOML has no null, so no None is in it.
    """
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {toml_value(inner)}" for key, inner in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(toml_value, value)) + "]"
    # JSON's strings, numbers and booleans are TOML's too, but for the escape of characters above U+FFFF and the
    # delete character, which TOML does not take as it is.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
