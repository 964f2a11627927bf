"""The keys of a profile, and the profiles that come along, as the Markdown tables of `README.md`.

python -m hw_models.key_tables      writes them into README.md
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from hw_models.load import load, profile_names
from hw_models.profile import HardwareProfile
from hw_models.schema.base import Figure, Sourced
from hw_models.schema.fields import is_repeated, nested_table, values_of
from hw_models.schema.memory import Memory, OffChip, OnChip
from lowbit_sim.config.elementwise_config import ElementwiseTable
from lowbit_sim.config.layer_tables import GemmTable
from lowbit_sim.config.mac_config import FloatMacTable, MacTable
from lowbit_sim.config.quantizer_config import GranularityTable, QuantizerTable
from lowbit_sim.config.tables import RoundingTable
from lowbit_sim.config.toml_text import toml_value

README = Path(__file__).parent / "README.md"
_SOURCES = ("source", "sources")

#: The tables of numerics that stand inside [arithmetic], by what is written before their keys.
_NUMERICS: dict[str, type[BaseModel]] = {
    "tensors between modules: `activations`": ElementwiseTable,
    "a rounding: `gradient_rounding`, `lhs_rounding`, ...": RoundingTable,
    "a GEMM: `output`, `grad_input`, `grad_weight`": GemmTable,
    "an operand: `lhs`, `rhs`": QuantizerTable,
    "a granularity": GranularityTable,
    "an integer `mac`": MacTable,
    "a floating-point `mac`, and `across`": FloatMacTable,
}


def key_tables() -> str:
    """Every table of a profile and what its keys mean, as Markdown."""
    parts = [f"{_heading('every table')}\n{_rows(Sourced)}"]
    for key, field in HardwareProfile.model_fields.items():
        model = nested_table(field)
        assert model is not None
        if model is Memory:
            parts += _tables("[memory.NAME]", OnChip, optional=False)
            parts += _tables("[memory.dram]", OffChip, optional=False)
        else:
            parts += _tables(f"[{key}]", model, optional=not field.is_required())
        if key == "arithmetic":
            parts += [
                f"{_heading(f'[arithmetic]: {name}')}\n{_rows(table)}" for name, table in _NUMERICS.items()
            ]
    parts.append(f"{_heading('a figure with a range')}\n{_rows(Figure)}")
    return "\n\n".join(parts)


def _heading(title: str) -> str:
    return f"### {title}\n"


def _tables(title: str, model: type[BaseModel], *, optional: bool) -> Iterator[str]:
    about = " ".join((model.__doc__ or "").partition("\n\n")[0].split())
    note = " May be left out." if optional else ""
    yield f"{_heading(title)}\n{about}{note}\n\n{_rows(model, without=_SOURCES)}"
    for key, field in model.model_fields.items():
        inner = nested_table(field)
        if inner is not None and is_repeated(field):
            repeated = f"[{title.strip('[]')}.{key}]"
            yield f"{_heading(f'[{repeated}]')}\n{_rows(inner, without=_SOURCES)}"


def _rows(model: type[BaseModel], *, without: tuple[str, ...] = ()) -> str:
    rows = ["| key | value | meaning |", "|---|---|---|"]
    for key, field in model.model_fields.items():
        if key in without:
            continue
        values = "repeated tables" if is_repeated(field) else values_of(field) or "table"
        rows.append(f"| `{key}` | {values}{_left_out(field)} | {field.description} |")
    return "\n".join(rows)


def _left_out(field: FieldInfo) -> str:
    """What holds without a key."""
    if field.is_required():
        return ""
    plain = isinstance(field.default, bool | int | float | str)
    return f"; left out: {toml_value(field.default)}" if plain else " (may be left out)"


def profile_table() -> str:
    """The profiles of the package: name, machine, and what each was compared with."""
    rows = ["| name | machine | validation |", "|---|---|---|"]
    for name in profile_names():
        machine = load(name).machine
        rows.append(f"| `{name}` | {machine.description} | {machine.validation} |")
    return "\n".join(rows)


def with_tables(readme: str) -> str:
    """The README's text with the tables as they are now."""
    for part, tables in (("keys", key_tables()), ("profiles", profile_table())):
        begin, end = f"<!-- {part}: begin -->", f"<!-- {part}: end -->"
        before, _, rest = readme.partition(begin)
        readme = f"{before}{begin}\n\n{tables}\n\n{end}{rest.partition(end)[2]}"
    return readme


if __name__ == "__main__":
    README.write_text(with_tables(README.read_text(encoding="utf-8")), encoding="utf-8")
