"""The tool that fits a codebook to a study's gradients: its line is what an arm reads."""

import sys
import tomllib
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "tools"))

from fit_codebook import arm_of, main  # noqa: E402

from lowbit_sim.config.gradient_config import GRADIENTS  # noqa: E402
from lowbit_sim.study.load_study import load_study  # noqa: E402

STUDY = """
title = "toy"
seeds = [0]

[data]
name = "digits"
limit = 64
test_limit = 10

[model]
name = "mlp"
width = 8

[training]
epochs = 1
batch_size = 16
learning_rate = 0.05

[[arms]]
name = "fp32"
native = true

[[arms]]
name = "INT8"
format = "int8"
"""


@pytest.fixture
def study(tmp_path: Path) -> Path:
    path = tmp_path / "toy.toml"
    path.write_text(STUDY, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("options", "levels", "top"),
    [([], 15, 127.0), (["--arm", "INT8", "--levels", "7", "--value-bits", "6", "--nearest"], 7, 31.0)],
)
def test_the_line_is_an_arm_s(study, capsys, options, levels, top):
    main([str(study), *options])
    line, comment = capsys.readouterr().out.splitlines()
    table = tomllib.loads(line)["gradient"]
    operands = GRADIENTS.build(GRADIENTS(table))
    assert len(table["values"]) == levels
    assert table["top"] == top
    assert operands.grad_input.rounding.is_stochastic == ("--nearest" not in options)
    assert comment.startswith("# mean squared error ")


def test_seeds_that_the_study_reports_are_refused(study, capsys):
    with pytest.raises(SystemExit):
        main([str(study), "--seed", "0"])
    assert "seed 0 is one of those that the study reports, [0]" in capsys.readouterr().err


def test_unknown_arms_are_refused(study):
    with pytest.raises(ValueError, match="unknown arm 'int8': known are INT8, fp32"):
        arm_of(load_study(study), "int8")
