"""What the schema says about a key: the type of the table that it holds, and the table that a place lies in."""

from __future__ import annotations

from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from hw_models.schema.base import Figure
from hw_models.schema.memory import Memory, OnChip


def nested_table(field: FieldInfo) -> type[BaseModel] | None:
    """The class of the table, or of the repeated tables, that a key holds; None for a plain value."""
    return next(_tables(field.annotation), None)


def is_repeated(field: FieldInfo) -> bool:
    """Whether a key holds repeated tables."""
    return nested_table(field) is not None and getattr(field.annotation, "__origin__", None) is tuple


def _tables(annotation: Any) -> Any:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _tables(inner)


def table_at(root: type[BaseModel], location: tuple[str | int, ...]) -> type[BaseModel]:
    """The type of the table that a location (keys and positions in lists) in a table of type `root` lies in."""
    model = root
    for part in location:
        if isinstance(part, str) and part in model.model_fields:
            model = nested_table(model.model_fields[part]) or model
        elif isinstance(part, str) and issubclass(model, Memory):
            model = OnChip
    return model


def values_of(field: FieldInfo) -> str:
    """The values that a key takes, in words: "integer > 0", '"ws" or "os"', "true or false",
    'list of "lhs", "rhs"'; "" for tables.
    """
    if nested_table(field) is Figure:
        return "number >= 0, or a figure"
    kind = _plain(field.annotation)
    if get_origin(kind) is tuple and get_origin(_plain(get_args(kind)[0])) is Literal:
        choices = get_args(_plain(get_args(kind)[0]))
        return "list of " + ", ".join(f'"{choice}"' for choice in choices)
    if get_origin(kind) is Literal:
        return " or ".join(f'"{choice}"' for choice in get_args(kind))
    word = {bool: "true or false", int: "integer", float: "number", str: "text"}.get(kind, "")
    limits = [
        f"{sign} {limit:g}"
        for part in (*field.metadata, *_metadata(field.annotation))
        for name, sign in (("gt", ">"), ("ge", ">="), ("lt", "<"), ("le", "<="))
        if (limit := getattr(part, name, None)) is not None
    ]
    return " ".join([word, " and ".join(limits)]).strip() if word in ("integer", "number") else word


def _parts(annotation: Any) -> list[Any]:
    """What an optional type is when it is given."""
    union = get_origin(annotation) in (Union, UnionType)
    return [part for part in get_args(annotation) if part is not NoneType] if union else [annotation]


def _plain(annotation: Any) -> Any:
    first = _parts(annotation)[0]
    return _plain(get_args(first)[0]) if get_origin(first) is Annotated else first


def _metadata(annotation: Any) -> list[Any]:
    first = _parts(annotation)[0]
    inner = get_args(first)[1:] if get_origin(first) is Annotated else ()
    return [part for each in inner for part in (getattr(each, "metadata", None) or [each])]
