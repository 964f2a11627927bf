import json
import math
import tomllib

import numpy as np
import pytest
import torch

import hw_models
from lowbit_sim.arith.mac import MacUnit
from lowbit_sim.study.errors import StudyError
from lowbit_sim.study.load_study import load_study
from lowbit_sim.study.records import profile_text, require_writable, write_json
from lowbit_sim.study.run_folder import create_run_folder
from tests.study.examples import ARMS, arm, metrics, result, run, study


def test_the_folder_is_named_after_time_and_title(tmp_path):
    folder = create_run_folder(tmp_path / "runs", study(title="My study: INT8/INT4!")).path
    assert folder.parent == tmp_path / "runs"
    assert folder.name.endswith("-my-study-int8-int4")


def test_two_runs_in_one_second_have_two_folders(tmp_path):
    folders = {create_run_folder(tmp_path, study()).path for _ in range(3)}
    assert len(folders) == 3


def test_every_profile_is_copied_and_the_copied_study_uses_the_copies(tmp_path):
    mine = tmp_path / "here" / "tpu_v1.toml"  # a file with the name of a packaged profile
    mine.parent.mkdir()
    mine.write_text(hw_models.template("mine"))
    arms = [*ARMS, {"name": "machine", "profile": "edge_npu"}]
    subject = study(profiles=["tpu_v1", str(mine)], arms=arms)
    folder = create_run_folder(tmp_path / "runs", subject).path
    loaded = load_study(folder / "study.toml")
    assert [hw_models.load(p) for p in loaded.profiles] == [hw_models.load(p) for p in subject.profiles]
    assert loaded.arms[2].profile == str(folder / "profiles" / "edge_npu.toml")
    assert sorted(p.name for p in (folder / "profiles").iterdir()) == [
        "edge_npu.toml",
        "tpu_v1-2.toml",
        "tpu_v1.toml",
    ]


def products(profile: str) -> torch.Tensor:
    """The products of a profile's MAC unit."""
    spec = hw_models.load(profile).gemm_spec("output")
    assert spec is not None
    assert isinstance(spec.mac, MacUnit)
    assert spec.mac.products is not None
    return torch.tensor(spec.mac.products.table.tolist())


def test_a_profiles_files_of_products_are_copied_with_it(tmp_path):
    folders = [tmp_path / "one", tmp_path / "two"]
    codes = np.arange(-8, 8)
    for sign, folder in zip((1, -1), folders, strict=True):
        folder.mkdir()
        np.save(folder / "products.npy", sign * np.outer(codes, codes))
        text = hw_models.template(folder.name).replace('format = "int8"', 'format = "int4"')
        mac = 'mac = { products = "products.npy" }'
        (folder / "mine.toml").write_text(text.replace('#mac = { accumulator = "fp32" }', mac))
    subject = study(profiles=[str(folder / "mine.toml") for folder in folders])
    tables = [products(name) for name in subject.profiles]
    run_folder = create_run_folder(tmp_path / "runs", subject).path
    for folder in folders:
        (folder / "products.npy").unlink()
    copied = [products(name) for name in load_study(run_folder / "study.toml").profiles]
    assert all(torch.equal(a, b) for a, b in zip(copied, tables, strict=True))
    assert not torch.equal(*copied)


def test_the_environment_names_versions_and_machine(tmp_path):
    folder = create_run_folder(tmp_path, study()).path
    environment = json.loads((folder / "environment.json").read_text())
    assert environment["packages"]["torch"]
    assert environment["torch_threads"] >= 1
    assert {"started_utc", "python", "platform", "processor", "logical_cores"} <= environment.keys()
    assert {"commit", "uncommitted_changes"} <= environment.keys()


def test_a_result_holds_the_study_that_led_to_it(tmp_path):
    folder = create_run_folder(tmp_path, study(profiles=["tpu_v1"]))
    folder.write_result(result(arm()))
    written = json.loads((folder.path / "result.json").read_text())["study"]
    assert written == tomllib.loads((folder.path / "study.toml").read_text())
    assert written["training"]["momentum"] == 0.9
    assert written["profiles"] == ["profiles/tpu_v1.toml"]
    assert written["arms"][1]["accumulator_bits"] == 16


def test_metrics_are_one_line_each_as_they_come(tmp_path):
    folder = create_run_folder(tmp_path, study())
    for epoch in range(2):
        folder.append_metrics("int8", 5, metrics(epoch))
        lines = (folder.path / "metrics.jsonl").read_text().splitlines()
        assert len(lines) == epoch + 1
        assert json.loads(lines[-1])["epoch"] == epoch
        assert json.loads(lines[-1])["seed"] == 5


def test_the_result_is_replaced_as_a_whole(tmp_path):
    folder = create_run_folder(tmp_path, study())
    folder.write_result(result(arm(), status="running"))
    folder.write_result(result(arm(runs=(run(),)), status="completed"))
    assert json.loads((folder.path / "result.json").read_text())["status"] == "completed"
    assert not list(folder.path.glob("*.partial"))


def test_what_json_can_not_spell_is_null(tmp_path):
    write_json(tmp_path / "x.json", {"a": [math.inf, math.nan, 1.5], "b": (1, None)})
    assert json.loads((tmp_path / "x.json").read_text()) == {"a": [None, None, 1.5], "b": [1, None]}


def test_places_that_can_not_be_written_are_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StudyError, match="can't make a run folder in .*file"):
        create_run_folder(tmp_path / "file", study())
    with pytest.raises(StudyError, match="can't write .*x.json"):
        write_json(tmp_path / "absent" / "x.json", {})
    for path in (tmp_path / "absent" / "x.json", tmp_path / "file" / "x.json", tmp_path):
        with pytest.raises(StudyError, match=f"can't write {path}"):
            require_writable(path)


def test_asking_whether_a_file_can_be_written_leaves_no_trace(tmp_path):
    (tmp_path / "old.json").write_text("old")
    require_writable(tmp_path / "new.json")
    require_writable(tmp_path / "old.json")
    assert [p.read_text() for p in tmp_path.iterdir()] == ["old"]


@pytest.mark.parametrize("name", hw_models.profile_names())
def test_a_packaged_profiles_text_is_the_profile(name):
    assert hw_models.parse(profile_text(name), name) == hw_models.load(name)
