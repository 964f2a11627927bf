"""The JSON schema of a profile, for editors that complete and check TOML (Taplo, Even Better TOML).

It says what a key may hold; what keys must agree on is said by `load` and `check`.
"""

from __future__ import annotations

import json
from typing import Any

from hw_models.profile import HardwareProfile

#: The dialect that pydantic writes.
DIALECT = "https://json-schema.org/draft/2020-12/schema"


def json_schema() -> dict[str, Any]:
    """The schema as a JSON value. Levels of the memory may have any name."""
    schema = HardwareProfile.model_json_schema(mode="validation")
    title = {"$schema": DIALECT, "title": "A machine's profile of lowbit-sim"}
    return title | {key: _without_null(value) for key, value in schema.items() if key != "title"}


def json_schema_text() -> str:
    """The schema as the text of a file."""
    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"


def _without_null(value: Any) -> Any:
    """A schema without nulls, which TOML does not have: a key without a value is left out."""
    if isinstance(value, list):
        return [_without_null(item) for item in value if item != {"type": "null"}]
    if not isinstance(value, dict):
        return value
    kept = {k: _without_null(v) for k, v in value.items() if not (k == "default" and v is None)}
    choices = kept.get("anyOf")
    if isinstance(choices, list) and len(choices) == 1:
        only = kept.pop("anyOf")[0]
        return {**only, **kept}
    return kept
