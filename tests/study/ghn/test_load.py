import re
from pathlib import Path

import pytest

from lowbit_sim.study.errors import StudyError
from lowbit_sim.study.ghn.load import ghn_study_toml, load_ghn_study
from tests.study.ghn.examples import study, table

EXPERIMENTS = Path(__file__).parents[3] / "experiments"


@pytest.mark.parametrize("path", sorted(EXPERIMENTS.glob("ghn_*.toml")), ids=lambda path: path.stem)
def test_the_experiments_are_studies_and_read_back(path, tmp_path):
    found = load_ghn_study(path)
    (tmp_path / "again.toml").write_text(ghn_study_toml(found))
    assert load_ghn_study(tmp_path / "again.toml") == found


def test_a_study_with_everything_reads_back(tmp_path):
    found = study(
        profiles=["edge_npu"],
        arms=[
            {
                "name": "emulated",
                "strategy": "simquant",
                "precision": "W4A4",
                "edge_bits": 8,
                "numerics": {"format": "int8", "gradient": "luq", "accumulator_bits": 20},
            }
        ],
    )
    (tmp_path / "again.toml").write_text(ghn_study_toml(found))
    assert load_ghn_study(tmp_path / "again.toml") == found
    strategy = found.arms[0].build()
    assert strategy.numerics is not None
    assert strategy.numerics.output.mac.accumulator_bits == 20


def changed(name: str, **keys):
    return {name: {**table()[name], **keys}}


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"sedes": [1]}, "sedes: unknown key in the study 'sedes'.*did you mean 'seeds'"),
        (changed("space", layers=[2, 1]), "space.*layers goes from at least 1 to no less, got 2 to 1"),
        (changed("space", operators=["conv3x3"]), "unknown operator 'conv3x3'"),
        (changed("space", stem_kernels=[5]), "hypernetwork.kernel.*the space has kernels of 5x5"),
        (changed("hypernetwork", hidden=10), "multiple of 4, got 10"),
        (changed("training", milestones=[2.0]), "milestones are shares"),
        (changed("evaluation", precisions=["W4A40"]), "got W4A40"),
        (changed("evaluation", precisions=["W4A4", "W4A4"]), "precision 'W4A4' is given more than once"),
        (
            {"arms": [{"name": "a", "weight_scale": "sawb"}], **changed("evaluation", precisions=["W3A3"])},
            "arms.0..weight_scale.*int2, int4 and int8 only",
        ),
        (changed("evaluation", splits={}), "evaluation.splits.*give at least one"),
        (changed("evaluation", splits={"train": {"networks": 1}}), "split that is learned from"),
        (
            changed("evaluation", splits={"test": {"networks": 1, "nodes": [3, 2]}}),
            "evaluation.splits.test.*nodes goes from",
        ),
        (changed("fine_tuning", split="tset"), "fine_tuning.split.*known are test, deep"),
        (changed("fine_tuning", networks=3), "fine_tuning.networks.*has 2 networks"),
        ({"arms": [{"name": "a", "precision": "W4A4"}]}, "arms.0..precision.*strategy 'float' has none"),
        ({"arms": [{"name": "a", "edge_bits": 8}]}, "arms.0..edge_bits.*would have no effect"),
        ({"arms": [{"name": "a", "strategy": "simquant"}]}, "give the bits that simquant trains for"),
        (
            {
                "arms": [
                    {
                        "name": "a",
                        "strategy": "noisequant",
                        "precision": "W4A4",
                        "numerics": {"format": "int8"},
                    }
                ]
            },
            "numerics are those of simquant's GEMMs",
        ),
        (
            {"arms": [{"name": "a", "strategy": "simquant", "precision": "W4A4", "numerics": {"chunk": 4}}]},
            "numerics give a format",
        ),
        ({"arms": [{"name": "a"}, {"name": "a"}]}, "arm 'a' is given more than once"),
        ({"profiles": ["edge_nup"]}, "profiles.0. = 'edge_nup'.*edge_npu"),
    ],
)
def test_what_can_not_be_is_refused_with_its_place(keys, message):
    with pytest.raises(StudyError) as caught:
        study(**keys)
    assert re.search(message, " ".join(str(caught.value).split())), caught.value


def test_a_study_of_compare_is_told_apart(tmp_path):
    with pytest.raises(StudyError, match="is a study of `lowbit-sim compare`"):
        load_ghn_study(EXPERIMENTS / "formats.toml")
    with pytest.raises(StudyError, match="can't read the study"):
        load_ghn_study(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("a = ")
    with pytest.raises(StudyError, match="not valid TOML"):
        load_ghn_study(tmp_path / "bad.toml")
