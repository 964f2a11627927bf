"""SAT and PACT in study files."""

from pathlib import Path

import pytest

import lowbit_sim as lb
from lowbit_sim.nn.learned_clip import learned_clips
from lowbit_sim.study.arms import prepared_arm, priced_arm
from lowbit_sim.study.data import load
from lowbit_sim.study.errors import StudyError
from lowbit_sim.study.load_study import load_study, parse_study, study_toml
from lowbit_sim.study.recipes import RECIPES, RecipeContext
from lowbit_sim.study.recipes.pact import PACTTable
from lowbit_sim.study.recipes.sat import SATTable
from lowbit_sim.study.resolve import resolved
from lowbit_sim.study.run import run_study
from lowbit_sim.training.pact import PACT
from lowbit_sim.training.sat import SAT
from lowbit_sim.training.settings import TrainingSettings
from lowbit_sim.training.weighted_layers import weighted_layers
from tests.study.examples import study, study_table

CONTEXT = RecipeContext(
    seed=3, steps=10, settings=TrainingSettings(epochs=1, batch_size=1, learning_rate=0.1)
)
ARM = {
    "name": "SAT, LUQ, 20 bits",
    "format": "int4",
    "gradient": "luq",
    "accumulator_bits": 20,
    "overflow": "saturate",
    "recipes": [{"name": "sat", "bits": 4}, {"name": "pact", "bits": 4, "linear_alpha": 3.0}],
}


def test_they_are_known_by_their_names():
    assert (RECIPES["sat"], RECIPES["pact"]) == (SATTable, PACTTable)


def test_the_tables_defaults_are_the_recipes():
    sat, pact = SATTable(name="sat").build(CONTEXT), PACTTable(name="pact").build(CONTEXT)
    for built, own in ((sat, SAT()), (pact, PACT())):
        fields = [name for name in type(own).__dataclass_fields__ if not name.startswith("_")]
        assert {name: getattr(built, name) for name in fields} == {
            name: getattr(own, name) for name in fields
        }
    assert SATTable(name="sat", bits=2).described() == "sat (bits 2)"


def test_sat_luq_and_a_20_bit_accumulator_are_one_arm_of_a_study(tmp_path):
    subject = study(arms=[{"name": "fp32", "native": True}, ARM], profiles=["rapid_training"])
    (tmp_path / "study.toml").write_text(study_toml(resolved(subject)))
    assert load_study(tmp_path / "study.toml") == resolved(subject)
    model, _ = prepared_arm(subject, subject.arms[1], load("digits", limit=64), 0)
    for layer in weighted_layers(model).values():
        spec = layer.emulation.op_spec
        for gemm in (spec.output, spec.grad_input, spec.grad_weight):
            assert gemm.mac == lb.MacUnit(accumulator_bits=20, overflow="saturate")
        assert spec.grad_input.lhs == spec.grad_weight.lhs == lb.luq()
        assert spec.output.rhs.format.bits in (4, 8)
        assert spec.output.rhs == spec.grad_input.rhs
    assert len(learned_clips(model)) == 2
    outcome = run_study(subject, out=tmp_path)
    own = outcome.result.arms[1]
    assert own.runs[0].training.status == "completed"
    measured = own.runs[0].training.epochs[-1].measurements
    assert {"sat.last_factor", "sat.last_logit_variance", "pact.alpha_mean"} <= measured.keys()
    assert own.recipes == "sat, pact (linear_alpha 3.0)"
    [price] = own.prices
    assert price.cost is not None


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        (
            {"name": "sat", "scheme": "centred"},
            "scheme = 'centred': expected 'original', .*did you mean 'centered'",
        ),
        ({"name": "sat", "bits": 20}, "DoReFa's weights have 1 to 16 bits, got bits=20"),
        ({"name": "sat", "layers": []}, "layers is empty"),
        ({"name": "sat", "layers": "fc"}, r'expected a list, as in \["fc"\]'),
        ({"name": "pact", "bits": 0}, "1 to 16 bits, got bits=0"),
        ({"name": "pact", "gradient": "lsq"}, "gradient = 'lsq': expected 'pact' or 'cg_pact'"),
        ({"name": "pact", "linear_alpha": 0.0}, "linear_alpha = 0.0: Input should be greater than 0"),
    ],
)
def test_errors_say_where(recipe, message):
    table = study_table(arms=[{**ARM, "recipes": [recipe]}])
    with pytest.raises(StudyError, match=message):
        parse_study(table, "s.toml", Path())


@pytest.mark.parametrize(
    ("arm", "message"),
    [
        (
            {"recipes": [{"name": "pact", "layers": ["1"]}]},
            r"layer '1' has negative inputs.*two_sided = \[\"1\"\]",
        ),
        ({"recipes": [{"name": "pact", "layers": ["7"]}]}, "unknown layer '7': known are 1, 3, 5"),
        ({"weights": {"preprocessing": "dorefa"}}, "weight of layer '1' is pre-processed already"),
        ({"scale": "learned"}, "learned"),
    ],
)
def test_what_does_not_fit_the_model_names_the_arm_before_a_run(arm, message):
    subject = study(arms=[{**ARM, **arm}])
    with pytest.raises(StudyError, match=f"arm 'SAT, LUQ, 20 bits'.*{message}"):
        priced_arm(subject, subject.arms[0], load("digits", limit=64), [])
