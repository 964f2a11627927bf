import json
from pathlib import Path

import pytest

import hw_models
from lowbit_sim.study.arms import priced_arm
from lowbit_sim.study.data import load
from lowbit_sim.study.errors import StudyError
from lowbit_sim.study.repricing import step_costs
from lowbit_sim.study.run import run_study
from lowbit_sim.study.run_folder import RunFolder
from tests.study.examples import study

BOX = hw_models.parse(hw_models.template("box"), "box.toml")


LINKED = hw_models.parse(
    hw_models.template("box")
    + """
[interconnect]
source = "assumption: round numbers"
topology = "ring"
link_bandwidth_bytes_per_second = 1_000_000_000
links_per_device = 2
latency_s = 1e-6
pj_per_bit = 10.0
""",
    "box.toml",
)
RECORD = {"study": json.loads(json.dumps(study().model_dump(exclude_none=True)))}


def record_of(chosen) -> dict[str, object]:
    """As a record holds its study: a table without what is left out."""
    return {"study": json.loads(json.dumps(chosen.model_dump(exclude_none=True)))}


def test_the_arms_cost_what_their_study_would_cost_today():
    chosen = study()
    data = load("digits", limit=64, test_limit=50)
    costs = step_costs(record_of(chosen), BOX, folder=Path())
    assert list(costs) == [arm.name for arm in chosen.arms]
    for arm in chosen.arms:
        [expected] = priced_arm(chosen, arm, data, [BOX]).prices
        [found] = costs[arm.name]
        assert expected.cost is not None
        assert found.machine == "box"
        assert found.seconds == expected.cost.seconds
        energies = (found.energy_low_pj, found.energy_pj, found.energy_high_pj)
        assert energies == (
            expected.cost.energy_low_pj,
            expected.cost.energy_pj,
            expected.cost.energy_high_pj,
        )


def test_the_machines_of_the_study_are_not_needed():
    record = record_of(study(profiles=["gone.toml"]))
    assert step_costs(record, BOX, folder=Path())


def test_an_arm_that_the_machine_can_t_run_has_the_reason():
    text = hw_models.template("box").replace("operand_bits = 8", "operand_bits = 4")
    narrow = hw_models.parse(text.replace('format = "int8"', 'format = "int4"'), "box.toml")
    costs = step_costs(record_of(study()), narrow, folder=Path())
    assert "int8" in costs["int8"][0].refusal
    assert costs["fp32"][0].refusal == ""


def test_a_record_without_its_study_is_refused():
    with pytest.raises(StudyError, match="does not hold its study"):
        step_costs({"arms": []}, BOX, folder=Path())


def of_batch(size: int) -> dict[str, object]:
    chosen = json.loads(json.dumps(RECORD))
    chosen["study"]["training"]["batch_size"] = size
    return chosen


def test_two_machines_share_the_batch_and_add_their_gradients():
    half = step_costs(of_batch(16), LINKED, folder=Path())
    shared = step_costs(of_batch(32), LINKED, folder=Path(), devices=2)
    for arm in half:
        assert shared[arm][0].seconds > half[arm][0].seconds
        assert shared[arm][0].energy_pj > 2 * half[arm][0].energy_pj


def test_a_batch_that_machines_can_not_share_is_refused():
    with pytest.raises(StudyError, match="3 machines can't share the record's batch of 32 evenly"):
        step_costs(of_batch(32), LINKED, folder=Path(), devices=3)


def test_the_objective_chooses_the_mappings():
    fast, frugal = (step_costs(RECORD, LINKED, folder=Path(), objective=o) for o in ("cycles", "energy"))
    for arm in fast:
        assert frugal[arm][0].energy_pj <= fast[arm][0].energy_pj
        assert frugal[arm][0].seconds >= fast[arm][0].seconds


@pytest.mark.parametrize("record", [{}, {"study": None}])
def test_without_a_study_there_is_nothing_to_price_anew(record):
    with pytest.raises(
        StudyError, match="does not hold its study, so there is no training step to price anew"
    ):
        step_costs(record, LINKED, folder=Path())


def test_a_recipes_work_and_an_arms_own_batch_are_in_the_price(tmp_path):
    arms = [
        {"name": "plain", "format": "int4"},
        {"name": "corrected", "format": "int4", "recipes": [{"name": "metagrad"}]},
        {"name": "half", "format": "int4", "training": {"batch_size": 16}},
    ]
    outcome = run_study(study(arms=arms, profiles=["edge_npu"]), out=tmp_path)
    record = RunFolder(path=outcome.folder).record(outcome.result)
    costs = step_costs(record, hw_models.load("edge_npu"), folder=outcome.folder)
    plain, corrected, half = (costs[arm["name"]][0].seconds for arm in arms)
    assert corrected > plain > half
    recorded = [price.cost.seconds for arm in outcome.result.arms for price in arm.prices]
    assert [plain, corrected, half] == recorded
    with pytest.raises(StudyError, match="32 machines can't share the record's batch of 16 evenly"):
        step_costs(record, hw_models.load("edge_npu"), folder=outcome.folder, devices=32)
