"""What the README shows runs, and what it quotes is on record."""

import json
import re
import tomllib
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from lowbit_sim.cli import app
from lowbit_sim.study.quantities import with_prefix

ROOT = Path(__file__).parent.parent
DEFAULT_STUDY = ROOT / "lowbit_sim" / "study" / "studies" / "digits.toml"
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


@pytest.mark.parametrize("code", blocks("python"), ids=["step", "parts"])
def test_python_examples_run(code, capsys):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        exec(code, {})
    printed = capsys.readouterr().out
    assert "cycles" in printed or "torch_exact" in printed


def test_there_are_examples():
    assert len(blocks("python")) == 2
    assert len(blocks("toml")) == 2


def test_the_arm_with_a_recipe_is_read(tmp_path):
    from lowbit_sim.study.load_study import parse_study

    arms = tomllib.loads(blocks("toml")[0])["arms"]
    study = parse_study({**tomllib.loads(DEFAULT_STUDY.read_text()), "arms": arms}, "README.md", tmp_path)
    [recipe] = study.arms[0].recipes
    assert recipe.name == "metagrad"


def test_the_machine_example_has_the_schemas_keys():
    import hw_models
    from hw_models.schema.array import Array

    shown = tomllib.loads(blocks("toml")[1])["array"]
    assert set(shown) <= set(Array.model_fields)
    mode = hw_models.load("tpu_v1").array.modes[0]
    Array(**shown, modes=(mode,))


def commands() -> list[list[str]]:
    lines = [line.split("#")[0].split() for line in README.splitlines() if line.startswith("lowbit-sim ")]
    return [line[1:] for line in lines]


@pytest.mark.parametrize("arguments", commands(), ids=" ".join)
def test_commands_exist(arguments):
    names = [word for word in arguments if not word.startswith("-")]
    command = names[: 2 if names[0] == "profiles" else 1]
    shown = CliRunner().invoke(app, [*command, "--help"], env={"COLUMNS": "200"})
    assert shown.exit_code == 0
    for option in (word for word in arguments if word.startswith("--")):
        assert option in shown.output


def test_the_table_is_the_record():
    [table] = re.findall(r"<!-- table: (.*?) -->\n```\n(.*?)```", README, re.DOTALL)
    record = json.loads((ROOT / table[0]).read_text(encoding="utf-8"))
    assert record["environment"]["packages"]["torch"]
    for arm in record["arms"]:
        mean, deviation = 100 * arm["mean_accuracy"], 100 * arm["accuracy_deviation"]
        assert f"{mean:.2f} ± {deviation:.2f}" in table[1]
        assert f"{arm['time_ratio_to_baseline']:.2f}x" in table[1]
        if arm["overflow_share"]:
            assert f"{100 * arm['overflow_share']:.3f} %" in table[1]
        for price in arm["prices"]:
            joules = with_prefix(price["cost"]["energy_pj"] * 1e-12, "J")
            assert f"{with_prefix(price['cost']['cycles'], smallest=0)} / {joules}" in table[1]


def test_the_five_seeds_are_on_record():
    record = json.loads((ROOT / "experiments/records/digits_5_seeds.json").read_text(encoding="utf-8"))
    assert [len(arm["runs"]) for arm in record["arms"]] == [5] * 4
    for arm in record["arms"]:
        assert f"{100 * arm['mean_accuracy']:.2f} ± {100 * arm['accuracy_deviation']:.2f}" in README


def test_files_that_are_linked_exist():
    for link in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / link).exists(), link


def test_the_table_of_formats_is_on_record():
    record = json.loads((ROOT / "experiments/records/formats.json").read_text(encoding="utf-8"))
    text = (ROOT / "experiments/README.md").read_text(encoding="utf-8")
    [table] = re.findall(r"<!-- formats -->\n(.*?)<!-- end of formats -->", text, re.DOTALL)
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]
    assert [row[0] for row in rows] == [arm["name"] for arm in record["arms"]]
    for row, arm in zip(rows, record["arms"], strict=True):
        lost = arm["operands_lost"]
        shares = [f"{100 * lost[k] / lost['elements']:.2f}" if lost["elements"] else "-" for k in LOST]
        accuracy = f"{100 * arm['mean_accuracy']:.2f} ± {100 * arm['accuracy_deviation']:.2f}"
        difference = f"{100 * arm['difference_to_baseline']:+.2f}"
        assert row[1:] == [accuracy, difference, *shares, f"{arm['time_ratio_to_baseline']:.1f}"]


LOST = ("underflowed", "clipped")
