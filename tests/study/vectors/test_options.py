import pytest
from typer.testing import CliRunner

from lowbit_sim.cli import app
from lowbit_sim.study.errors import StudyError
from lowbit_sim.study.vectors.options import spec_of_file, spec_of_options
from lowbit_sim.study.vectors.sample import model_sample, random_sample
from tests.study.vectors.cases import SPECS


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: random_sample("linear", "2,3", 0), "takes M,N,K"),
        (lambda: random_sample("conv2d", "1,1,3,3,2,2", 0), "kernel's size R is odd"),
        (lambda: random_sample("linear", "2,x,3", 0), "whole numbers with commas"),
        (lambda: spec_of_options({"format": "int8", "profile": "tpu_v1"}), "exactly one of"),
        (lambda: spec_of_options({"format": "int8", "accumulator_bits": 4}), "accumulator_bits = 4: "),
        (lambda: spec_of_options({"native": True}), "native float32 has no codes"),
        (
            lambda: model_sample("mlp", "9", SPECS["int8"], data="digits", batch=1, seed=0),
            "mlp has no linear or convolution layer '9'; it has 1, 3, 5",
        ),
    ],
    ids=["sizes", "kernel", "numbers", "two kinds", "bits", "native", "layer"],
)
def test_what_can_not_be_is_said(call, message):
    with pytest.raises(StudyError, match=message):
        call()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("format =", "can't read the numerics"),
        ('format = "int8"\nchnk = 3', "chnk: unknown key in the numerics 'chnk'.*did you mean 'chunk'"),
        ("format = 8", "format = 8: expected a text in quotes"),
        ("", "numerics.toml: give exactly one of"),
        (None, "numerics.toml: No such file"),
    ],
    ids=["syntax", "key", "type", "empty", "missing"],
)
def test_a_file_that_can_not_be_is_named(text, message, tmp_path):
    path = tmp_path / "numerics.toml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(StudyError, match=message) as error:
        spec_of_file(path)
    assert str(path) in str(error.value)


def test_a_file_of_numerics_is_the_whole_of_them(tmp_path):
    arguments = ["vectors", "--numerics", str(tmp_path / "a.toml"), "--chunk", "2"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2
    assert "--chunk" in result.output
