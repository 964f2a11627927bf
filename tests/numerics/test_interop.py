"""QPyTorch's numbers are known by name and module, without qtorch; its kernels are in `oracles/test_qtorch.py`."""

import subprocess
import sys

import pytest

import lowbit_sim as lb
from lowbit_sim.numerics.interop import is_qtorch


class FixedPoint:
    """Looks like qtorch's, as far as this project reads it."""

    def __init__(self, wl: int, fl: int, clamp: bool = True, symmetric: bool = False) -> None:
        self.wl, self.fl, self.clamp, self.symmetric = wl, fl, clamp, symmetric


class FloatingPoint:
    def __init__(self, exp: int, man: int) -> None:
        self.exp, self.man = exp, man


class BlockFloatingPoint:
    def __init__(self, wl: int, dim: int = -1) -> None:
        self.wl, self.dim = wl, dim


class Stranger(FixedPoint):
    pass


@pytest.fixture(autouse=True)
def _in_qtorch(monkeypatch) -> None:
    for kind in (FixedPoint, FloatingPoint, BlockFloatingPoint):
        monkeypatch.setattr(kind, "__module__", "qtorch.number")


def test_numbers_become_formats() -> None:
    assert lb.as_format(FixedPoint(8, 6)) == lb.parse_format("fixed<8,6>")
    assert lb.as_format(FixedPoint(8, 6, symmetric=True)) == lb.parse_format("fixed<8,6,symmetric>")
    assert lb.as_format(BlockFloatingPoint(8)) == lb.parse_format("bfp<8>")
    assert lb.as_format(BlockFloatingPoint(8, 1)) == lb.parse_format("bfp<8,dim=1>")
    assert lb.as_format(FloatingPoint(5, 2)) == lb.FloatFormat(
        exponent_bits=5, mantissa_bits=2, bias=15, has_infinity=False, has_nan=False
    )
    assert lb.as_format(FloatingPoint(8, 7)) == lb.FloatFormat(exponent_bits=8, mantissa_bits=7, bias=127)


def test_a_derived_class_is_one_too() -> None:
    assert lb.as_format(Stranger(8, 6)) == lb.parse_format("fixed<8,6>")


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (FixedPoint(8, 6, clamp=False), "no largest value"),
        (FixedPoint(32, 6), "word_length=32"),
        (BlockFloatingPoint(1), "word_length=1"),
    ],
    ids=["unclamped", "wide", "narrow"],
)
def test_numbers_without_an_equal(number, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        lb.as_format(number)


def test_the_name_alone_does_not_make_a_number(monkeypatch) -> None:
    monkeypatch.setattr(FixedPoint, "__module__", "elsewhere.qtorch")
    assert not is_qtorch(FixedPoint(8, 6))
    with pytest.raises(TypeError, match="a qtorch number or a name, got FixedPoint"):
        lb.as_format(FixedPoint(8, 6))


def test_a_quantizer_takes_one() -> None:
    assert lb.Quantizer(FixedPoint(8, 6)) == lb.Quantizer(lb.parse_format("fixed<8,6>"))
    assert lb.Quantizer(FixedPoint(8, 6)).format == lb.parse_format("fixed<8,6>")


def test_names_are_still_refused_by_a_quantizer() -> None:
    with pytest.raises(TypeError, match="pass parse_format"):
        lb.Quantizer("fixed<8,6>")


def test_qtorch_is_not_imported() -> None:
    code = "import sys, lowbit_sim as lb; lb.as_format('bfp<8>'); print('qtorch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
