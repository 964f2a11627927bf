"""RaPiD's share of the peak in a step traced from PyTorch: the bill follows the 16 bits, and less of it is fused."""

from pathlib import Path

import hw_models
from hw_models.validation.comparisons import COMPARISONS
from hw_models.validation.document import markdown
from hw_models.validation.rapid import CHIPS, sustained_percent
from hw_models.validation.table import Point
from lowbit_sim.study.price import model_trace
from lowbit_sim.study.validation import comparisons

PAGE = Path(__file__).parents[2] / "docs" / "validation.md"
HOW = "run: lowbit-sim validate --out docs/validation.md"


def traced() -> tuple[Point, Point]:
    own, casts = [p for p in comparisons(["rapid"])["rapid"].points() if "traced" in p.workload]
    return own, casts


def test_the_traced_shares_stand_beside_the_step_by_hand() -> None:
    """With a scale for each tensor the limit of 13.3 % is missed by less than a point; with casts it is kept."""
    own, casts = traced()
    assert 12 < own.modelled < own.published < casts.modelled < sustained_percent(fused=True)
    assert not own.keeps_limit
    assert casts.keeps_limit


def test_float32_activations_sustain_little_more_than_half() -> None:
    profile = hw_models.load("rapid_hfp8")
    wide = model_trace("resnet50", batch=128, shape=(3, 224, 224), classes=1000, spec=profile.op_spec())
    share = 100 * hw_models.estimate(wide, profile, devices=CHIPS).utilization
    assert 0.5 < share / traced()[0].modelled < 0.65


def test_the_page_in_docs_is_what_the_command_writes() -> None:
    written, fresh = PAGE.read_text().splitlines(), markdown(comparisons()).splitlines()
    assert [line for line in fresh if line not in set(written)][:3] == [], HOW
    assert len(written) == len(fresh), HOW


def test_other_comparisons_are_as_they_were() -> None:
    assert comparisons().keys() == COMPARISONS.keys()
