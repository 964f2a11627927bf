"""The cost of the mean step of a run in stages."""

import pytest

import hw_models
from lowbit_sim.study.arms import TracedStage, price_stages, training_stages
from lowbit_sim.study.data import load
from lowbit_sim.study.mean_cost import mean_cost
from lowbit_sim.study.recorded import study_result
from lowbit_sim.study.results import to_dict
from lowbit_sim.study.run import run_study
from lowbit_sim.trace import WorkloadTrace
from tests.study.examples import arm, result, study

TWO_STEP = {"name": "two_step", "weight_bits": 2, "activation_bits": 2, "pretraining": 0.5}
ARM = {"name": "low", "format": "int8", "recipes": [TWO_STEP]}


def staged(**changes):
    return study(arms=[{"name": "fp32", "native": True}, {**ARM, **changes}], profiles=("rapid_training",))


def stages() -> list[TracedStage]:
    subject = staged()
    return training_stages(subject, subject.arms[1], load("digits", limit=64))


def test_figures_are_means_and_memory_is_the_largest():
    profile = hw_models.load("rapid_training")
    traced = stages()
    reports = [hw_models.estimate(stage.trace, profile) for stage in traced]
    shares = [stage.share for stage in traced]
    cost = mean_cost(list(zip(shares, reports, strict=True)))
    assert cost.energy_pj == pytest.approx(sum(s * r.energy_pj for s, r in zip(shares, reports, strict=True)))
    assert cost.energy_low_pj < cost.energy_pj < cost.energy_high_pj
    assert cost.cycles == round(sum(s * r.cycles for s, r in zip(shares, reports, strict=True)))
    assert min(r.cycles for r in reports) <= cost.cycles <= max(r.cycles for r in reports)
    values = cost.to_dict()
    assert values["footprint_bytes"]["activations"] == max(r.footprint.activations for r in reports)
    assert values["edp_js"] == pytest.approx(cost.energy_pj * 1e-12 * cost.seconds)
    useful = sum(s * r.cycles * r.utilization for s, r in zip(shares, reports, strict=True))
    whole = sum(s * r.cycles for s, r in zip(shares, reports, strict=True))
    assert values["utilization"] == pytest.approx(useful / whole)
    assert sum(part.energy_pj for part in cost.by_role.values()) == pytest.approx(cost.energy_pj)
    assert set(values["notes"]) == {note for r in reports for note in r.notes}


def test_one_stage_keeps_its_report():
    report = hw_models.estimate(WorkloadTrace(stages()[0].trace.events), hw_models.load("rapid_training"))
    assert mean_cost([(1.0, report)]) is report


def test_a_machine_that_can_not_run_one_stage_can_not_run_the_arm(monkeypatch):
    def refuse(trace, profile):
        if any(gemm.lhs.format == "uint2" for gemm in trace.gemms):
            raise hw_models.UnsupportedOperandError("no such mode")
        return hw_models.CostReport(machine="x", frequency_hz=1)

    monkeypatch.setattr(hw_models, "estimate", refuse)
    price = price_stages(stages(), hw_models.load("rapid_training"))
    assert (price.cost, price.refusal) == (None, "stage W2A2: no such mode")


def test_a_record_keeps_stages_and_inferences(tmp_path):
    outcome = run_study(staged(), out=tmp_path)
    [price] = outcome.result.arms[1].prices
    assert [stage.name for stage in price.stages] == ["W32A32", "W2A32", "W2A2"]
    read = study_result({**to_dict(outcome.result)}, "r.json")
    assert read.arms[1].prices[0].stages == price.stages
    [inference] = read.arms[1].inference
    assert inference.cost is not None
    assert price.cost is not None
    assert 0 < inference.cost.energy_pj < price.cost.energy_pj
    [plain] = read.arms[0].inference
    assert plain.cost is not None
    assert plain.cost.to_dict() == outcome.result.arms[0].inference[0].cost.to_dict()  # type: ignore[union-attr]


def test_an_older_record_has_no_inferences():
    record = to_dict(result(arm()))
    for each in record["arms"]:
        del each["inference"]
    assert all(each.inference == () for each in study_result(record, "r.json").arms)
