import json
from pathlib import Path

import pytest

import hw_models
from lowbit_sim.cli.step_costs import step_costs
from lowbit_sim.study.errors import StudyError
from lowbit_sim.study.repricing import repriced
from tests.study.examples import study

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


def test_one_machine_for_cycles_costs_what_the_study_would_cost_today():
    assert step_costs(RECORD, LINKED, folder=Path()) == repriced(RECORD, LINKED, folder=Path())


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
def test_a_record_without_its_study_is_refused(record):
    with pytest.raises(
        StudyError, match="does not hold its study, so there is no training step to price anew"
    ):
        step_costs(record, LINKED, folder=Path())
