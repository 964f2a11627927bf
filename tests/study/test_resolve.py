import tomllib
from pathlib import Path

import pytest

import lowbit_sim as lb
from lowbit_sim.study.load_study import default_study_path, load_study, study_toml
from lowbit_sim.study.models import MODELS
from lowbit_sim.study.numerics_config import GEMM_ROLES, op_spec
from lowbit_sim.study.resolve import resolved
from tests.study.examples import study

STOCHASTIC = {"mode": "stochastic", "random_bits": 8}
EXPERIMENTS = Path(__file__).parents[2] / "experiments"


def resolved_arm(**keys):
    """The arm as the written file has it."""
    written = tomllib.loads(study_toml(resolved(study(arms=[{"name": "arm", **keys}]))))
    return written["arms"][0]


def test_what_all_arms_share_is_written_with_its_defaults():
    table = tomllib.loads(study_toml(resolved(study(model={"name": "small_cnn"}))))
    assert table["training"] == {
        "epochs": 2,
        "batch_size": 32,
        "learning_rate": 0.1,
        "momentum": 0.9,
        "weight_decay": 0.0,
        "schedule": "cosine",
    }
    assert table["model"] == {"name": "small_cnn", "width": 16}


@pytest.mark.parametrize("name", MODELS)
def test_the_models_own_width_is_filled_in_and_a_given_one_is_kept(name):
    assert resolved(study(model={"name": name})).model.width == MODELS[name][1]
    assert resolved(study(model={"name": name, "width": 3})).model.width == 3


def test_an_arm_that_names_a_format_alone_is_spelled_out():
    assert resolved_arm(format="int8") == {
        "name": "arm",
        "native": False,
        "format": "int8",
        "gradient_rounding": {"mode": "nearest_even", "random_bits": 0},
        "granularity": "tensor",
        "scale": "absmax",
        "accumulator_bits": 32,
        "overflow": "wrap",
        "chunk": 0,
        "rules": [],
    }


def test_chunks_have_the_width_of_their_outer_accumulator():
    assert resolved_arm(format="int8", accumulator_bits=16, chunk=32)["outer_bits"] == 16
    assert resolved_arm(format="int8", accumulator_bits=16, chunk=32, outer_bits=24)["outer_bits"] == 24


def test_a_gemm_that_differs_is_spelled_out():
    arm = resolved_arm(
        format="int8",
        gradient_rounding=STOCHASTIC,
        chunk=16,
        grad_weight={"rhs": "int4", "overflow": "saturate"},
    )
    assert arm["grad_weight"] == {
        "native": False,
        "lhs": "int8",
        "rhs": "int4",
        "lhs_rounding": STOCHASTIC,
        "accumulator_bits": 32,
        "overflow": "saturate",
        "chunk": 16,
        "outer_bits": 32,
    }


def test_rules_are_spelled_out():
    arm = resolved_arm(native=True, rules=[{"path": "1", "format": "int4", "scale": "power_of_two"}])
    assert (arm["native"], "scale" in arm) == (True, False)
    [rule] = arm["rules"]
    assert (rule["scale"], rule["granularity"], rule["accumulator_bits"]) == ("power_of_two", "tensor", 32)


ARMS = [
    {"native": True},
    {"profile": "rapid_training"},
    {"format": "int8"},
    {"format": "int4", "gradient_rounding": STOCHASTIC, "granularity": "channel", "scale": "power_of_two"},
    {"format": "int8", "accumulator_bits": 16, "overflow": "saturate", "chunk": 32},
    {"format": "int8", "outer_bits": 40},
    {"format": "int8", "chunk": 32, "accumulator_bits": 16, "grad_weight": {"accumulator_bits": 24}},
    {"format": "int8", "chunk": 32, "accumulator_bits": 16, "grad_weight": {"chunk": 0}},
    {"format": "int8", "chunk": 32, "outer_bits": 40, "grad_weight": {"chunk": 0}},
    {"format": "int8", "grad_input": {"chunk": 8}, "output": {"native": True}},
    {"format": "int8", "grad_input": {"native": True}, "grad_weight": {"native": True}},
    {"format": "int8", "output": {"lhs_rounding": {"mode": "up"}}, "gradient_rounding": STOCHASTIC},
]


def same_arithmetic(one: lb.OpSpec | None, other: lb.OpSpec | None) -> bool:
    """Equal, where an outer accumulator of the inner one's width may be named or left out."""

    def facts(spec: lb.OpSpec | None) -> object:
        gemms = [getattr(spec, role) for role in GEMM_ROLES] if spec else []
        return [g and (g.lhs, g.rhs, str(g.mac), g.mac.result_bits, g.mac.additions(100)) for g in gemms]

    return facts(one) == facts(other)


@pytest.mark.parametrize("keys", ARMS, ids=str)
def test_a_resolved_arm_computes_the_same_and_reads_back(keys, tmp_path):
    before = study(arms=[{"name": "arm", **keys, "rules": [{"path": "1", **keys}]}])
    after = resolved(before)
    assert same_arithmetic(op_spec(after.arms[0]), op_spec(before.arms[0]))
    for rule, original in zip(after.arms[0].rules, before.arms[0].rules, strict=True):
        assert same_arithmetic(op_spec(rule), op_spec(original))
    (tmp_path / "study.toml").write_text(study_toml(after))
    assert load_study(tmp_path / "study.toml") == after
    assert resolved(after) == after


@pytest.mark.parametrize(
    "path", [default_study_path(), *sorted(EXPERIMENTS.glob("*.toml"))], ids=lambda p: p.stem
)
def test_the_studies_that_come_along_read_back_resolved(path, tmp_path):
    after = resolved(load_study(path))
    (tmp_path / "study.toml").write_text(study_toml(after), encoding="utf-8")
    assert load_study(tmp_path / "study.toml") == after
