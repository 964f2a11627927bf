from pathlib import Path

import pytest

import hw_models
from lowbit_sim.config.mac_config import MacTable
from lowbit_sim.study.errors import StudyError
from lowbit_sim.study.load_study import (
    default_study_path,
    load_study,
    parse_study,
    profile_references,
    renamed_product_files,
    study_toml,
    with_profiles,
)
from tests.study.examples import ARMS, study_table
from tests.study.tables import NUMERICS, UPDATES

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
#: Those of `lowbit-sim compare`; studies of graph hypernetworks are `lowbit-sim ghn`'s.
STUDIES = sorted(p for p in EXPERIMENTS.glob("*.toml") if not p.stem.startswith("ghn_"))


def parse(**changes):
    return parse_study(study_table(**changes), "s.toml", Path())


def arms(**changes):
    return [ARMS[0], {**ARMS[1], **changes}]


@pytest.mark.parametrize("path", [default_study_path(), *STUDIES], ids=lambda p: p.stem)
def test_the_studies_that_come_along_load_and_ask_one_question(path):
    study = load_study(path)
    assert study.question.count("?") == 1
    assert len(study.profiles) > 0
    assert any(arm.native for arm in study.arms)


def test_the_default_study_is_the_four_arms_on_digits():
    study = load_study(default_study_path())
    assert study.data.name == "digits"
    assert [arm.native for arm in study.arms] == [True, False, False, False]
    assert (len(study.seeds), len(study.profiles)) == (2, 3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 3}, "epochs: unknown key in the study 'epochs': known are arms, "),
        (
            {"training": {"epoch": 1}},
            r"training.epoch: unknown key in \[training\] 'epoch'.*did you mean 'epochs'",
        ),
        (
            {"arms": arms(acumulator_bits=3)},
            r"arms\[1\].acumulator_bits: unknown key.*did you mean 'accumulator_bits'",
        ),
        (
            {"arms": arms(grad_weight={"lsh": "int4"})},
            r"arms\[1\].grad_weight.lsh: unknown key in \[arms\[1\].grad_weight\] 'lsh'.*did you mean 'lhs'",
        ),
        (
            {"arms": arms(rules=[{"path": "1", "nativ": True}])},
            r"arms\[1\].rules\[0\].nativ: unknown key.*did you mean 'native'",
        ),
        ({"data": {"name": "digit"}}, "data.name = 'digit': unknown data set 'digit'.*did you mean 'digits'"),
        ({"model": {"name": "resnet"}}, "model.name = 'resnet': unknown model.*did you mean 'resnet"),
        ({"arms": arms(format="int9x")}, r"arms\[1\].format = 'int9x': unknown format 'int9x'.*did you mean"),
        ({"arms": arms(overflow="clip")}, r"arms\[1\].overflow = 'clip': "),
        ({"profiles": ["tpu1"]}, r"profiles\[0\] = 'tpu1': unknown profile 'tpu1'.*did you mean 'tpu_v1'"),
        (
            {"arms": [{"name": "x", "profile": "tpu1"}]},
            r"arms\[0\].profile = 'tpu1': unknown profile 'tpu1'.*did you mean 'tpu_v1'",
        ),
        ({"profiles": ["absent.toml"]}, r"profiles\[0\] = 'absent.toml': can't read the profile absent.toml"),
        ({"seeds": []}, "seeds: .*at least 1"),
        ({"seeds": [0, -1]}, r"seeds\[1\] = -1: "),
        ({"seeds": [1, 1]}, "seed '1' is given more than once"),
        ({"arms": [ARMS[0], ARMS[0]]}, "arm 'fp32' is given more than once"),
        ({"arms": []}, "arms: .*at least 1"),
        ({"training": {"epochs": "3"}}, "training.epochs = '3': expected a whole number"),
        ({"title": None}, "title = None: expected a text in quotes"),
        (
            {"arms": arms(scale="percntile")},
            r"arms\[1\].scale = 'percntile': unknown scale rule 'percntile': known are absmax, .*'percentile'",
        ),
        (
            {"arms": arms(scale={"rule": "percntile"})},
            r"arms\[1\].scale: unknown scale rule 'percntile': known are absmax, .*did you mean 'percentile'",
        ),
        (
            {"arms": arms(scale={"rule": "percentile", "percentle": 3.0})},
            r"arms\[1\].scale.percentle: unknown key in \[arms\[1\].scale\] 'percentle': known are percentile, rule",
        ),
        (
            {"arms": arms(scale={"rule": "percentile", "percentile": 300.0})},
            r"arms\[1\].scale: a percentile is above 0 and at most 100, got 300.0",
        ),
        (
            {"arms": arms(grad_weight={"lhs": {"format": "int9x"}})},
            r"arms\[1\].grad_weight.lhs.format = 'int9x': unknown format 'int9x'",
        ),
        (
            {"arms": arms(grad_weight={"lhs": {"format": "int8", "scale": "ma"}})},
            r"arms\[1\].grad_weight.lhs.scale = 'ma': unknown scale rule 'ma'",
        ),
        (
            {"arms": arms(grad_weight={"lhs": {"scale": "mse"}})},
            r"arms\[1\].grad_weight.lhs.format: this key is missing",
        ),
        (
            {"arms": arms(gradient={"name": "luq", "bits": 3})},
            r"arms\[1\].gradient.bits: unknown key in \[arms\[1\].gradient\] 'bits': known are exponent_bits, ",
        ),
        (
            {"arms": arms(gradient={"name": "codebook", "values": [1.0, 2.0]})},
            r"arms\[1\].gradient: a gradient has elements of both signs: give levels below and above zero",
        ),
        (
            {"arms": [{"name": "x", "format": "int8", "mac": {"acumulator": "fp16"}}]},
            r"arms\[0\].mac.acumulator: unknown key in \[arms\[0\].mac\].*did you mean 'accumulator_bits'",
        ),
        (
            {"arms": [{"name": "x", "format": "int8", "mac": {"accumulator": "fp61"}}]},
            r"arms\[0\].mac.accumulator = 'fp61': unknown format 'fp61'.*did you mean 'fp16'",
        ),
        (
            {"arms": [{"name": "x", "format": "int8", "mac": {"products": "absent.npy"}}]},
            r"arms\[0\].mac: can't read the products absent.npy: No such file",
        ),
        (
            {"arms": [{"name": "x", "format": "bf16", "accumulator_bits": 16}]},
            r"arms\[0\]: output: lhs has format bf16.*a FloatMacUnit can",
        ),
        (
            {"arms": [{"name": "x", "native": True, "update": {"weigth": "bf16"}}]},
            r"arms\[0\].update.weigth: unknown key in \[arms\[0\].update\] 'weigth'.*did you mean 'weight'",
        ),
        (
            {"arms": [{"name": "x", "native": True, "elementwise": {"output": "bf16"}}]},
            r"arms\[0\].elementwise: unknown key",
        ),
        (
            {
                "arms": [
                    {"name": "x", "native": True, "rules": [{"path": "1", "elementwise": {"ouput": "bf16"}}]}
                ]
            },
            r"arms\[0\].rules\[0\].elementwise.ouput: unknown key in \[arms\[0\].rules\[0\].elementwise\]",
        ),
        (
            {"arms": [{"name": "x", "native": True, "rules": [{"path": "1"}]}]},
            r"arms\[0\].rules\[0\]: give exactly one of native = true, profile, format and elementwise, got none",
        ),
        (
            {
                "training": {"epochs": 1, "batch_size": 4, "learning_rate": 0.1, "momentum": 0.0},
                "arms": [{"name": "x", "native": True, "update": {"momentum": "bf16"}}],
            },
            "arm 'x': update.momentum would have no effect: training.momentum is 0",
        ),
    ],
)
def test_errors_name_file_key_value_and_what_would_be_right(changes, message):
    with pytest.raises(StudyError, match=f"(?m)^s.toml: {message}"):
        parse(**changes)


def test_a_missing_key_is_named():
    table = study_table()
    del table["data"]["name"]
    with pytest.raises(StudyError, match="s.toml: data.name: this key is missing"):
        parse_study(table, "s.toml", Path())


def test_every_error_has_its_line():
    with pytest.raises(StudyError) as caught:
        parse(data={"name": "digit"}, model={"name": "resnet"})
    assert len(str(caught.value).splitlines()) == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"title = ", "not valid TOML: Invalid value"),
        (b"title = 'a'\ntitle = 'b'", "not valid TOML: Cannot overwrite a value"),
        (b"\xff\xfe", "can't read the study .*expected a TOML file"),
    ],
)
def test_malformed_files_are_named(tmp_path, content, message):
    path = tmp_path / "bad.toml"
    path.write_bytes(content)
    with pytest.raises(StudyError, match=f"bad.toml.*{message}|{message}"):
        load_study(path)


def test_a_study_of_graph_hypernetworks_is_told_its_command():
    with pytest.raises(
        StudyError, match=r"ghn_digits.toml is a study of .*: lowbit-sim ghn run .*ghn_digits"
    ):
        load_study(EXPERIMENTS / "ghn_digits.toml")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(StudyError, match="can't read the study .*absent.toml"):
        load_study(tmp_path / "absent.toml")


def test_profile_files_are_relative_to_the_study(tmp_path):
    (tmp_path / "machines").mkdir()
    (tmp_path / "machines" / "mine.toml").write_text(hw_models.template("mine"))
    text = study_toml(with_profiles(parse(profiles=["tpu_v1"]), lambda _: "machines/mine.toml"))
    (tmp_path / "study.toml").write_text(text)
    study = load_study(tmp_path / "study.toml")
    assert study.profiles == (str(tmp_path / "machines" / "mine.toml"),)


FULL = [
    {"name": 'native "\u00e9\U0001f600"', "native": True, "clip_gradient_norm": 1e-05},
    {
        "name": "all keys",
        "format": "int8",
        "gradient_rounding": {"mode": "stochastic", "random_bits": 8},
        "granularity": "channel",
        "scale": "power_of_two",
        "accumulator_bits": 16,
        "overflow": "saturate",
        "chunk": 32,
        "outer_bits": 24,
        "grad_weight": {"lhs": "int4", "lhs_rounding": {"mode": "up"}, "chunk": 16},
        "rules": [{"path": "1", "native": True}, {"path": "*", "profile": "tpu_v1"}],
    },
    {"name": "a machine", "profile": "edge_npu"},
]


@pytest.mark.parametrize("keys", NUMERICS, ids=str)
def test_every_way_to_write_numerics_reads_back_equal(tmp_path, keys):
    study = parse(arms=[{"name": "x", **keys, "update": UPDATES[1]}])
    (tmp_path / "study.toml").write_text(study_toml(study), encoding="utf-8")
    assert load_study(tmp_path / "study.toml") == study


def test_files_of_products_are_relative_to_the_study(tmp_path):
    products = tmp_path / "products" / "mine.csv"
    products.parent.mkdir()
    products.write_text("\n".join(",".join(str(a * b) for b in range(4)) for a in range(4)))
    mac = {"products": "products/mine.csv", "product_signed": False}
    arm = {"name": "x", "format": "uint2", "rules": [{"path": "1", "native": True}], "output": {"mac": mac}}
    table = study_table(arms=[arm])
    study = parse_study(table, "s.toml", tmp_path)
    output = study.arms[0].output
    assert output is not None
    assert isinstance(output.mac, MacTable)
    assert output.mac.products == str(products)
    renamed = renamed_product_files(study, lambda file: Path(file).relative_to(tmp_path).as_posix())
    (tmp_path / "study.toml").write_text(study_toml(renamed))
    assert load_study(tmp_path / "study.toml") == study


@pytest.mark.parametrize("changes", [{}, {"arms": FULL, "profiles": ["tpu_v1"], "question": "Why?"}])
def test_what_is_written_reads_back_equal(tmp_path, changes):
    study = parse(**changes)
    (tmp_path / "study.toml").write_text(study_toml(study), encoding="utf-8")
    assert load_study(tmp_path / "study.toml") == study


def test_the_default_study_reads_back_equal(tmp_path):
    study = load_study(default_study_path())
    (tmp_path / "study.toml").write_text(study_toml(study))
    assert load_study(tmp_path / "study.toml") == study


def test_every_place_that_names_a_profile_is_found_and_renamed():
    study = parse(arms=FULL, profiles=["rapid_training"])
    assert profile_references(study) == [
        ("profiles[0]", "rapid_training"),
        ("arms[1].rules[1].profile", "tpu_v1"),
        ("arms[2].profile", "edge_npu"),
    ]
    renamed = with_profiles(study, str.upper)
    assert [name for _, name in profile_references(renamed)] == ["RAPID_TRAINING", "TPU_V1", "EDGE_NPU"]
    assert renamed.arms[1].rules[0].profile is None
