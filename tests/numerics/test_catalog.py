"""The catalogue's names and their parser."""

import pytest

from lowbit_sim.numerics import catalog
from lowbit_sim.numerics.catalog import CATALOG, as_format, parse_format
from lowbit_sim.numerics.formats import IntFormat


@pytest.mark.parametrize("name", CATALOG)
def test_name_and_format_agree(name: str) -> None:
    assert CATALOG[name].name == name
    assert parse_format(name) is CATALOG[name]
    assert parse_format(f" {name.upper()} ") is CATALOG[name]


def test_catalogue_holds_every_integer_width() -> None:
    for bits in range(2, 17):
        assert parse_format(f"int{bits}") == IntFormat(bits=bits)
        assert parse_format(f"int{bits}_full") == IntFormat(bits=bits, symmetric=False)
        assert parse_format(f"uint{bits}") == IntFormat(bits=bits, signed=False, symmetric=False)


@pytest.mark.parametrize(
    ("constant", "name"),
    [
        (catalog.INT2, "int2"),
        (catalog.INT4, "int4"),
        (catalog.INT8, "int8"),
        (catalog.INT16, "int16"),
        (catalog.UINT4, "uint4"),
        (catalog.UINT8, "uint8"),
        (catalog.FP8_E4M3FN, "fp8_e4m3fn"),
        (catalog.FP8_E5M2, "fp8_e5m2"),
        (catalog.FP4_E2M1, "fp4_e2m1"),
        (catalog.BF16, "bf16"),
        (catalog.FP16, "fp16"),
        (catalog.TF32, "tf32"),
    ],
)
def test_constants(constant, name: str) -> None:
    assert parse_format(name) == constant


@pytest.mark.parametrize(
    ("name", "nearest"),
    [("itn8", "int8"), ("fp8_e4m3", "fp8_e4m3fn"), ("bfloat16", "bf16"), ("e5m2", "fp8_e5m2")],
)
def test_unknown_name_names_the_nearest_and_where_all_are(name: str, nearest: str) -> None:
    with pytest.raises(ValueError, match="unknown format") as caught:
        parse_format(name)
    message = str(caught.value)
    assert repr(name) in message
    assert "docs/formats.md lists all" in message
    assert f"did you mean '{nearest}" in message


def test_a_name_like_no_other_gets_no_guess() -> None:
    with pytest.raises(ValueError, match="unknown format 'zzz'") as caught:
        parse_format("zzz")
    assert "did you mean" not in str(caught.value)


def test_as_format() -> None:
    assert as_format("int4") == catalog.INT4
    assert as_format(catalog.FP16) is catalog.FP16
    with pytest.raises(ValueError, match="unknown format 'int99'"):
        as_format("int99")
    with pytest.raises(TypeError, match="got float"):
        as_format(8.0)  # pyright: ignore[reportArgumentType]
