"""Names with parameters."""

import pytest

from lowbit_sim.numerics import catalog
from lowbit_sim.numerics.block_formats import block_floating_point
from lowbit_sim.numerics.catalog import parse_format
from lowbit_sim.numerics.families import FAMILIES, parse_family
from lowbit_sim.numerics.formats import FixedFormat, FloatFormat, LogFormat, PositFormat


@pytest.mark.parametrize(
    ("name", "fmt"),
    [
        ("fixed<8,6>", FixedFormat(word_length=8, fraction_length=6)),
        (" Fixed< 8 , -2 > ", FixedFormat(word_length=8, fraction_length=-2)),
        (
            "float<6,9>",
            FloatFormat(exponent_bits=6, mantissa_bits=9, bias=31, name="float<6,9>"),
        ),
        (
            "float<4,3,10>",
            FloatFormat(exponent_bits=4, mantissa_bits=3, bias=10, name="float<4,3,10>"),
        ),
        ("fixed<8,6,symmetric>", FixedFormat(word_length=8, fraction_length=6, symmetric=True)),
        ("bfp<8>", block_floating_point(8)),
        ("bfp<8,32>", block_floating_point(8, 32)),
        ("bfp<8,dim=1>", block_floating_point(8, dim=1)),
        ("posit<8,1>", PositFormat(bits=8, exponent_bits=1)),
        ("posit<10>", PositFormat(bits=10)),
        ("posit<8,2>", catalog.POSIT8),
        ("log<3>", LogFormat(exponent_bits=3)),
        ("log<3,4>", LogFormat(exponent_bits=3, radix=4)),
        ("log<3,4,6,odd>", LogFormat(exponent_bits=3, radix=4, bias=6, odd=True)),
    ],
)
def test_names(name: str, fmt) -> None:
    assert parse_format(name) == fmt


@pytest.mark.parametrize(
    "name",
    [
        "block<fp4_e2m1,e8m0,block=16,even>",
        "block<fixed<8,6,symmetric>,e8m0,block=32,ceil>",
        "block<int8,float<5,2>,block=16,tensor_scale>",
        "block<int4,e8m0,dim=1>",
        "float<6,9>",
        "float<5,2,16>",
        "fixed<8,6>",
        "fixed<4,9,symmetric>",
        "bfp<8>",
        "bfp<8,16>",
        "bfp<5,dim=0>",
        "posit<8,1>",
    ],
)
def test_a_format_is_called_what_it_was_parsed_from(name: str) -> None:
    assert str(parse_format(name)) == name


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("block<int8,e8m0>", "should look like block<element,scale,block=n>"),
        ("block<int8,int8,block=4>", "a block's scale is ExponentFormat"),
        ("block<int8,e8m0,block=1>", "a block has 2 to"),
        ("float<9,2>", "1 to 8 exponent bits, got exponent_bits=9"),
        ("float<8,7,200>", "puts values outside float32"),
        ("fixed<8>", "should look like fixed<word_length,fraction_length> or .*: got 1 parameters"),
        ("fixed<8,6,5,4>", "got 4 parameters"),
        ("fixed<8,x>", "'fixed<8,x>' should look like .*'x'"),
        ("fixed<17,0>", "word_length=17"),
        ("fixed<8,6,full>", "'symmetric' or left out, got 'full'"),
        ("bfp<8,1>", "block=1"),
        ("bfp<>", "bfp<word_length>"),
        ("posit<8,9>", "exponent_bits=9"),
        ("log<3,5>", "radix=5"),
        ("log<3,4,3,even>", "'odd' or left out, got 'even'"),
    ],
)
def test_parameters_that_cannot_be(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_format(name)


@pytest.mark.parametrize("name", ["fixd<8,6>", "fixed(8,6)", "fixed<8,6", "zzz<1>"])
def test_no_familys_name(name: str) -> None:
    assert parse_family(name) is None
    with pytest.raises(ValueError, match="unknown format") as caught:
        parse_format(name)
    assert all(shape in str(caught.value) for shape in FAMILIES)
