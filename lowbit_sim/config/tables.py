"""What the tables of TOML files are made of: strict models, choices by name, and tables made from signatures.

A *choice* is a name, or a table whose key names the choice and whose other keys are its parameters:

    scale = "percentile"                   scale = { rule = "percentile", percentile = 99.9 }

The parameters are those of the class or function that the name stands for, with its defaults.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, Literal, TypeVar, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model, model_validator

from lowbit_sim.numerics.catalog import parse_format
from lowbit_sim.numerics.formats import FloatFormat
from lowbit_sim.numerics.rounding import MODE_CODES, Overflow, Rounding
from lowbit_sim.numerics.suggest import unknown

#: The rounding modes, as editors offer them.
MODES: list[Any] = [str(mode) for mode in MODE_CODES]


class Strict(BaseModel):
    """A table: unknown keys, converted types, NaN and infinity are errors."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", allow_inf_nan=False)


@dataclass(frozen=True)
class JsonForm:
    """How an editor's JSON schema writes a type that a validator of ours reads: a change of what pydantic says."""

    change: Callable[[dict[str, Any]], dict[str, Any]]

    def __get_pydantic_json_schema__(self, core: Any, handler: Any) -> dict[str, Any]:
        """Called by pydantic."""
        return self.change(handler(core))


AnyTable = TypeVar("AnyTable", bound=Strict)


class KeyedError(ValueError):
    """What is wrong with one key of a table, found where the whole table is checked.

    Attributes:
        key: The key as a path inside the table.
    """

    def __init__(self, key: tuple[str | int, ...], reason: str) -> None:
        super().__init__(reason)
        self.key = key


class TableError(ValueError):
    """What is wrong with a table that a validator has read by itself.

    Attributes:
        model: The table's type.
        error: The errors, with locations inside the table.
    """

    def __init__(self, model: type[Strict], error: ValidationError) -> None:
        super().__init__("; ".join(_in_words(dict(e)) for e in error.errors()))
        self.model, self.error = model, error


def _in_words(error: dict[str, Any]) -> str:
    where = ".".join(map(str, error["loc"]))
    return f"{where}: {error['msg']}" if where else error["msg"]


def table_of(model: type[AnyTable], value: Any) -> AnyTable:
    """A table of a type.

    Raises:
        TableError: Keys or values that can't be.
    """
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise TableError(model, error) from None


def checked(build: Callable[[], Any]) -> None:
    """Build the real object, so that what can't be is found when a file is read.

    Raises:
        ValueError: It can't be built.
    """
    try:
        build()
    except TypeError as error:  # which pydantic would not take for a wrong value
        raise ValueError(str(error)) from error


class RoundingTable(Strict):
    """A rounding; the keys are those of `Rounding`."""

    mode: str = Field(description="rounding mode", examples=["stochastic"], json_schema_extra={"enum": MODES})
    random_bits: int = Field(default=0, description="random bits of a stochastic rounding", examples=[8])
    overflow: Overflow | None = Field(
        default=None,
        description="what becomes of values beyond the largest: left out, operands saturate and float "
        "accumulators go to infinity",
    )

    @model_validator(mode="after")
    def _is_valid(self) -> RoundingTable:
        self.build()
        return self

    def build(self, overflow: Overflow = "saturate") -> Rounding:
        """The rounding, with the overflow of the place where it stands if the table gives none."""
        return Rounding(self.mode, random_bits=self.random_bits, overflow=self.overflow or overflow)

    @staticmethod
    def of(rounding: Rounding, usual: Overflow | None = None) -> RoundingTable:
        """The table of a rounding; it does not mention the overflow that is usual in its place."""
        overflow = None if rounding.overflow == usual else rounding.overflow
        return RoundingTable(mode=str(rounding.mode), random_bits=rounding.random_bits, overflow=overflow)


def format_name(name: str) -> str:
    """A format's name as it is.

    Raises:
        ValueError: There is no such format.
    """
    parse_format(name)
    return name


def float_name(name: str) -> str:
    """The name of a floating-point format.

    Raises:
        ValueError: There is none of that name.
    """
    if not isinstance(parse_format(name), FloatFormat):
        raise ValueError(
            f"{name!r} is no floating-point format, as a float accumulator and its products have"
        )
    return name


class Built(Strict):
    """A table whose keys are the parameters of a class or function; made by `signature_table`."""

    builder: ClassVar[Callable[..., Any]]
    key: ClassVar[str]

    def build(self) -> Any:
        """What the class or function makes of the parameters."""
        return type(self).builder(**{name: getattr(self, name) for name in type(self).parameters()})

    @classmethod
    def parameters(cls) -> list[str]:
        """The keys that are parameters."""
        return list(inspect.signature(cls.builder).parameters)

    @model_validator(mode="after")
    def _is_valid(self) -> Built:
        checked(self.build)
        return self


def signature_table(key: str, name: str, build: Callable[..., Any], shared: Mapping[str, Any]) -> type[Built]:
    """The table type of a choice.

    Args:
        key: The key that holds the name of the choice.
        name: That name.
        build: A class or function whose parameters are plain values.
        shared: Type and default of the keys that are not its parameters.
    """
    hints = get_type_hints(build)
    # The key has no default, so that it is written even where defaults are left out.
    fields: dict[str, Any] = {key: (Literal[name], ...)}
    for parameter in inspect.signature(build).parameters.values():
        default = ... if parameter.default is parameter.empty else parameter.default
        fields[parameter.name] = (hints[parameter.name], default)
    model = create_model(f"{name}_{key}_table", __base__=Built, **fields, **shared)
    # `staticmethod`, as a function that is a class's attribute would be bound.
    model.builder, model.key = staticmethod(build), key
    return model


class Choice:
    """A key that takes a name or a table; used as a validator, it leaves names as they are and reads tables.

    Args:
        what: What is chosen, in words.
        key: The key of the table that holds the name.
        builders: The class or function of each name.
        shared: Type and default of the keys that all the tables have beside these parameters.
    """

    def __init__(
        self,
        what: str,
        key: str,
        builders: Mapping[str, Callable[..., Any]],
        shared: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        self.what, self.key, self.builders = what, key, dict(builders)
        self.tables = {name: signature_table(key, name, build, shared) for name, build in builders.items()}

    def __call__(self, value: Any) -> Any:
        """A name that needs no parameters, a table of this choice, or None.

        Raises:
            ValueError: Anything else.
        """
        if isinstance(value, dict):
            if self.key not in value:
                raise ValueError(f"the key {self.key!r} is missing: the {self.what}, {self._known()}")
            return table_of(self._type(value[self.key]), value)
        if isinstance(value, str):
            self.table(value)
        elif value is not None and not isinstance(value, tuple(self.tables.values())):
            raise ValueError(
                f"expected the name of a {self.what} or a table with the key {self.key!r}, got {value!r}"
            )
        return value

    def __get_pydantic_json_schema__(self, core: Any, handler: Any) -> dict[str, Any]:
        """For editors: the names that need no parameters, and the table of each name. Called by pydantic."""
        plain = [name for name, table in self.tables.items() if not self._needed(table)]
        tables = [handler(table.__pydantic_core_schema__) for table in self.tables.values()]
        return {"anyOf": [{"enum": plain}, *tables]}

    def _needed(self, model: type[Built]) -> list[str]:
        return [n for n, field in model.model_fields.items() if field.is_required() and n != self.key]

    def _known(self) -> str:
        return f"one of {', '.join(sorted(self.tables))}"

    def _type(self, name: object) -> type[Built]:
        if not isinstance(name, str) or name not in self.tables:
            raise ValueError(unknown(self.what, name, self.tables))
        return self.tables[name]

    def table(self, value: str | Strict) -> Any:
        """The table of a choice, with its defaults.

        Raises:
            ValueError: An unknown name, or one that needs parameters.
        """
        if not isinstance(value, str):
            return value
        model = self._type(value)
        if needed := self._needed(model):
            keys = ", ".join(f"{name} = ..." for name in needed)
            raise ValueError(
                f"{self.what} {value!r} has parameters: write {{ {self.key} = {value!r}, {keys} }}"
            )
        return model(**{self.key: value})

    def build(self, value: str | Strict) -> Any:
        """What a choice stands for."""
        return self.table(value).build()

    def written(self, value: str | Strict) -> str | Strict:
        """A choice with its defaults written out: a table, or the name where it has no parameter with a value."""
        table = self.table(value)
        rest = table.model_dump(exclude_none=True, exclude={self.key})
        return table if rest else getattr(table, self.key)

    def value_of(self, built: Any) -> str | Strict:
        """The choice that an object of one of the classes stands for, written out."""
        name = next(name for name, build in self.builders.items() if build is type(built))
        return self.written(self.tables[name](**{self.key: name}, **vars(built)))
