import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st
from pydantic import ValidationError

import lowbit_sim as lb
from lowbit_sim.config.quantizer_config import QuantizerTable
from lowbit_sim.study.load_study import default_study_path, load_study, parse_study, study_toml
from lowbit_sim.study.models import MODELS
from lowbit_sim.study.numerics_config import GEMM_ROLES, op_spec
from lowbit_sim.study.resolve import resolved
from tests.study.examples import study
from tests.study.tables import ELEMENTWISE, NUMERICS, STOCHASTIC, UPDATES

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
#: Those of `lowbit-sim compare`; studies of graph hypernetworks are `lowbit-sim ghn`'s.
STUDIES = sorted(p for p in EXPERIMENTS.glob("*.toml") if not p.stem.startswith("ghn_"))


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
        "optimizer": "sgd",
        "momentum": 0.9,
        "second_moment_decay": 0.999,
        "weight_decay": 0.0,
        "schedule": "cosine",
        "accumulation": 1,
        "recalibration_batches": 0,
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
        "recipes": [],
    }


def test_an_arms_recipes_and_its_own_training_are_written():
    recipes = [{"name": "clip_gradient_norm", "max_norm": 2.0}]
    written = resolved_arm(native=True, recipes=recipes, training={"learning_rate": 0.3})
    assert written["recipes"] == recipes
    assert written["training"] == {"learning_rate": 0.3}


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
    *NUMERICS,
]


def same_arithmetic(one: lb.OpSpec | None, other: lb.OpSpec | None) -> bool:
    """Equal, where an outer accumulator of the inner one's kind may be named or left out."""

    def unit(mac: lb.MacUnit | lb.FloatMacUnit) -> object:
        result = mac.result_bits if isinstance(mac, lb.MacUnit) else mac.result_format
        rounding = None if isinstance(mac, lb.MacUnit) else (mac.rounding, mac.rounding_of_products)
        return (str(mac), result, rounding, mac.additions(100))

    def facts(spec: lb.OpSpec | None) -> object:
        gemms = [getattr(spec, role) for role in GEMM_ROLES] if spec else []
        return [g and (g.lhs, g.rhs, unit(g.mac), unit(g.across), g.transform, g.samples) for g in gemms]

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


_SCALES = st.sampled_from(
    ["absmax", "power_of_two", {"rule": "percentile", "percentile": 90.0}, {"rule": "absmax", "top": 8.0}]
)
_FORMATS = st.sampled_from(["int4", "int8", "int16", "fixed<8,4>", "bf16", "fp8_e5m2", "mxfp4", "bfp<6>"])
_ROUNDINGS = st.sampled_from([STOCHASTIC, {"mode": "up"}, {"mode": "down", "random_bits": 0}])
_OPERANDS = st.one_of(
    _FORMATS,
    st.fixed_dictionaries({"format": _FORMATS}, optional={"scale": _SCALES, "rounding": _ROUNDINGS}),
)
_MACS: dict[str, Any] = {
    "accumulator_bits": st.integers(8, 64),
    "overflow": st.sampled_from(["wrap", "saturate", "saturate_symmetric"]),
    "chunk": st.integers(0, 40),
    "outer_bits": st.integers(8, 64),
}
_MAC_TABLES = st.one_of(
    st.fixed_dictionaries({}, optional={**_MACS, "order": st.sampled_from(["sequential", "tree"])}),
    st.fixed_dictionaries(
        {"accumulator": st.sampled_from(["fp16", "bf16", "fp32"])},
        optional={"chunk": st.integers(0, 40), "kahan": st.booleans(), "rounding": _ROUNDINGS},
    ),
)
_GEMMS = st.one_of(
    st.just({"native": True}),
    st.fixed_dictionaries(
        {}, optional={"lhs": _OPERANDS, "rhs": _OPERANDS, "lhs_rounding": _ROUNDINGS, **_MACS}
    ),
    st.fixed_dictionaries({"mac": _MAC_TABLES}, optional={"lhs": _OPERANDS, "rhs": _OPERANDS}),
)
_TABLES = st.fixed_dictionaries(
    {"format": _FORMATS},
    optional={
        "scale": _SCALES,
        "granularity": st.sampled_from(["tensor", "channel", "sample", {"block": 4}]),
        "gradient_rounding": _ROUNDINGS,
        "gradient": st.sampled_from(["luq", "psq", {"name": "dorefa", "bits": 10}]),
        "mac": _MAC_TABLES,
        "samples": st.integers(1, 3),
        **_MACS,
        **dict.fromkeys(GEMM_ROLES, _GEMMS),
    },
)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
@given(_TABLES)
def test_any_table_that_can_be_computes_the_same_once_resolved_and_reads_back(keys):
    try:
        before = study(arms=[{"name": "arm", **keys}])
    except ValidationError:
        reject()
    after = resolved(before)
    assert same_arithmetic(op_spec(after.arms[0]), op_spec(before.arms[0]))
    assert parse_study(tomllib.loads(study_toml(after)), "s.toml", Path()) == after
    assert resolved(after) == after


@pytest.mark.parametrize("update", UPDATES, ids=str)
@pytest.mark.parametrize("elementwise", ELEMENTWISE, ids=str)
def test_update_and_element_wise_rules_are_spelled_out(update, elementwise):
    rules = [{"path": "*", "elementwise": elementwise}]
    before = study(arms=[{"name": "arm", "native": True, "update": update, "rules": rules}])
    after = resolved(before)
    one, other = after.arms[0], before.arms[0]
    assert one.update is not None
    assert other.update is not None
    assert one.update.build() == other.update.build()
    assert one.rules[0].elementwise is not None
    assert other.rules[0].elementwise is not None
    assert one.rules[0].elementwise.build() == other.rules[0].elementwise.build()
    assert isinstance(one.update.weight, QuantizerTable)
    assert parse_study(tomllib.loads(study_toml(after)), "s.toml", Path()) == after
    assert resolved(after) == after


def test_the_defaults_of_named_choices_and_units_are_written():
    arm = resolved_arm(
        format="fp8_e4m3fn",
        scale="percentile",
        gradient="luq",
        mac={"accumulator": "fp16", "chunk": 8},
        transform="householder",
    )
    assert arm["scale"] == {"rule": "percentile", "percentile": 99.9}
    assert arm["gradient"] == {"name": "luq", "exponent_bits": 3, "random_bits": 8, "samples": 1}
    assert arm["transform"] == "householder"
    assert arm["mac"] == {
        "accumulator": "fp16",
        "rounding": {"mode": "nearest_even", "random_bits": 0, "overflow": "infinity"},
        "chunk": 8,
        "outer": "fp16",
        "order": "sequential",
        "kahan": False,
    }
    assert "gradient_rounding" not in arm
    assert resolved_arm(format="bf16")["scale"] == {"rule": "fixed", "value": 1.0}
    assert resolved_arm(format="int16")["accumulator_bits"] == 48
    assert {"scale", "granularity"} & resolved_arm(format="mxfp4").keys() == set()
    assert resolved_arm(format="mxfp4")["across"]["accumulator"] == "fp32"


@pytest.mark.parametrize("path", [default_study_path(), *STUDIES], ids=lambda p: p.stem)
def test_the_studies_that_come_along_read_back_resolved(path, tmp_path):
    after = resolved(load_study(path))
    (tmp_path / "study.toml").write_text(study_toml(after), encoding="utf-8")
    assert load_study(tmp_path / "study.toml") == after
