"""What the schema wants of a value, in the words of the reference: "expected an integer > 0"."""

from __future__ import annotations

from pydantic import BaseModel

from hw_models.schema.fields import table_at, values_of

#: Pydantic's names of errors about values that are not of a key's kind.
_WRONG_KINDS = (
    *("int_type", "int_parsing", "int_from_float", "float_type", "float_parsing"),
    *("bool_type", "bool_parsing", "string_type"),
)

#: Those for which no value of another key can make up.
HOPELESS = (*_WRONG_KINDS, "literal_error")

#: And about values beyond its bounds.
_BEYOND_BOUNDS = ("greater_than", "greater_than_equal", "less_than", "less_than_equal", "finite_number")


def expected(root: type[BaseModel], place: tuple[str | int, ...], kind: str) -> str:
    """What a value should be; "" where more is wrong with it than its kind or its bounds.

    Args:
        root: The type of the table that was read.
        place: Keys and positions in lists, from that table on.
        kind: Pydantic's name of the error.
    """
    if kind not in (*_WRONG_KINDS, *_BEYOND_BOUNDS) or not place or "sources" in place:
        return ""
    field = table_at(root, place[:-1]).model_fields.get(str(place[-1]))
    values = values_of(field) if field else ""
    return f"expected {_article(values)}{values}" if values else ""


def _article(values: str) -> str:
    match values.split()[0]:
        case "integer":
            return "an "
        case "number" | "list":
            return "a "
        case _:
            return ""
