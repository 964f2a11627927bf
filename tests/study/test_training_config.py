"""What `[training]` says reaches the run, and the report shows what it adds."""

import io
import json
from typing import Any

import torch
from rich.console import Console

from lowbit_sim.study.arms import settings
from lowbit_sim.study.markdown_table import markdown_table
from lowbit_sim.study.report import study_table as shown_table
from lowbit_sim.study.run import run_study
from lowbit_sim.training.optimizers import AdamW
from lowbit_sim.training.settings import build_optimizer
from tests.study.examples import ARMS, study

TRAINING = {"epochs": 1, "batch_size": 32, "learning_rate": 0.1}


def subject(arms: list[dict[str, Any]] = ARMS, model: str = "mlp", **training: Any):
    return study(training={**TRAINING, **training}, arms=arms, model={"name": model, "width": 4})


def test_adam_and_its_decays():
    table = subject(optimizer="adamw", momentum=0.8, second_moment_decay=0.9, weight_decay=0.1)
    built = build_optimizer(torch.nn.Linear(2, 2), settings(table, table.arms[0], 0))
    assert type(built) is torch.optim.AdamW
    assert built.defaults["betas"] == (0.8, 0.9)
    assert built.defaults["weight_decay"] == 0.1


def test_adams_states_have_formats():
    arms = [{**ARMS[1], "update": {"second_moment": "bf16", "momentum": "bf16"}}]
    table = subject(arms, optimizer="adamw")
    built = build_optimizer(torch.nn.Linear(2, 2), settings(table, table.arms[0], 0))
    assert type(built) is AdamW
    spec = built.param_groups[0]["update"]
    assert str(spec.second_moment.format) == str(spec.momentum.format) == "bf16"
    assert spec.weight is None


def test_an_arm_may_have_another_optimizer():
    arms = [ARMS[0], {**ARMS[1], "training": {"optimizer": "adam", "learning_rate": 0.01}}]
    table = subject(arms)
    kinds = [type(build_optimizer(torch.nn.Linear(2, 2), settings(table, arm, 0))) for arm in table.arms]
    assert kinds == [torch.optim.SGD, torch.optim.Adam]


def test_a_study_with_adam_runs_and_is_priced_with_its_states(tmp_path):
    """Adam moves one state more than SGD with momentum."""
    costs = []
    for optimizer in ("sgd", "adam"):
        table = study(training={**TRAINING, "optimizer": optimizer}, arms=ARMS[1:], profiles=["edge_npu"])
        [arm] = run_study(table, out=tmp_path / optimizer).result.arms
        assert arm.runs[0].training.status == "completed"
        costs.append(arm.prices[0].cost.energy_pj)
    assert costs[1] > costs[0]


def test_the_report_shows_recalibrated_accuracies_beside_the_others(tmp_path):
    outcome = run_study(subject(model="small_cnn", recalibration_batches=2), out=tmp_path)
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(shown_table(outcome.result))
    assert "with recalibrated batch-norms, %" in console.export_text()
    heading, _, fp32, _ = markdown_table(outcome.result).splitlines()
    assert heading.startswith("| arm | accuracy, % | recalibrated, % |")
    record = json.loads((outcome.folder / "result.json").read_text())
    accuracy = record["arms"][0]["runs"][0]["epochs"][-1]["measurements"]["recalibrated_accuracy"]
    assert f" | {100 * accuracy:.2f} | " in fp32


def test_a_study_without_recalibration_shows_none(tmp_path):
    outcome = run_study(subject(model="small_cnn"), out=tmp_path)
    assert "recalibrated" not in markdown_table(outcome.result)
