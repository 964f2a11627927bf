import csv
import importlib.util
import io
import json
from pathlib import Path

import pytest

import hw_models
from tests.cli.commands import invoke, run_main, words

ROOT = Path(__file__).parents[2]
RECORD = str(ROOT / "experiments/records/digits_5_seeds.json")

GEMM = ("estimate", "--profile", "tpu_v1", "--gemm", "64,32,16")
MODEL = (*"estimate --profile edge_npu --model small_cnn --batch 4 --data-shape 1,8,8".split(),)


def read_csv(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_text())))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--profile", "tpu", "--gemm", "1,2,3"], "unknown profile 'tpu'"),
        (["--profile", "tpu_v1", "--gemm", "1,2,3", "--format", "int88"], "unknown format 'int88'"),
        (["--profile", "tpu_v1", "--gemm", "1,2,3", "--format", "int16"], "but tpu_v1 multiplies integers"),
        (
            ["--profile", "tpu_v1", "--gemm", "100000000000000000000,2,3"],
            "a GEMM's sizes are 0 to 2^62, got M,N,K = 100000000000000000000,2,3",
        ),
        (["--profile", "tpu_v1", "--model", "vgg"], "unknown model 'vgg'"),
        (
            "--profile tpu_v1 --model small_cnn --batch 1 --data-shape 1,2,2".split(),
            "one value for each channel",
        ),
        (["--profile", "tpu_v1", "--gemm", "1,2,3", "--json", "absent/c.json"], "can't write absent"),
        (["--profile", "tpu_v1", "--gemm", "1,2,3", "--csv", "absent/c.csv"], "can't write absent"),
        (["--profile", "tpu_v1", "--gemm", "1,2,3", "--roofline", "absent/c.html"], "can't write absent"),
        (
            ["--profile", "tpu_v1", "--gemm", "1,2,3", "--csv", "absent/c.csv"],
            "can't write absent/c.csv: there is no folder absent; make it or name another\n",
        ),
        (["--profile", "tpu_v1", "--workload", "absent.csv"], "there is no file absent.csv: a workload is"),
        (["--profile", "tpu_v1", "--workload", "absent.onnx"], "there is no file absent.onnx: a workload is"),
        (["--profile", "tpu_v1", "--workload", "absent.txt"], "a workload is a topology of convolutions"),
        (["--profile", "tpu_v1", "--gemm", "1,2,3", "--sweep", "array.row=8"], "did you mean 'rows'"),
        (["--profile", "tpu_v1", "--gemm", "1,2,3", "--sweep", "array.rows"], "KEY=VALUE,VALUE"),
        (
            ["--profile", "tpu_v1", "--gemm", "1,2,3", "--sweep", "array.rows=0,-1"],
            "no point of the sweep has a cost: array.rows = 0",
        ),
        (
            ["--profile", "tpu_v1", "--gemm", "1,2,3", "--sweep", "array.rows=8", "--sweep", "array.rows=16"],
            "array.rows is swept more than once",
        ),
        (
            [
                "--profile",
                "tpu_v1",
                "--gemm",
                "1,2,3",
                "--sweep",
                f"array.rows={','.join(map(str, range(1, 1101)))}",
            ]
            + ["--sweep", f"array.columns={','.join(map(str, range(1, 1001)))}"],
            "a sweep has at most 1,000,000 points, got 1100 x 1000 = 1,100,000",
        ),
        (
            ["--record", "absent.json", "--accuracy", "97"],
            "can't read the record absent.json: there is no such file",
        ),
        (["--record", RECORD, "--accuracy", "0"], "above 0 and at most 100 %, got 0 %"),
    ],
)
def test_a_users_error_is_one_message_on_stderr_and_exit_code_2(
    monkeypatch, capsys, tmp_path, arguments, message
):
    monkeypatch.chdir(tmp_path)
    assert run_main(monkeypatch, "estimate", *arguments) == 2
    streams = capsys.readouterr()
    assert streams.out == ""
    assert streams.err.startswith("Error: ")
    assert message in streams.err
    assert "Traceback" not in streams.err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--profile", "tpu_v1"], "give one of --model NAME, --gemm M,N,K, --workload FILE or --record"),
        (["--profile", "tpu_v1", "--gemm", "1,2,3", "--model", "mlp"], "got --model and --gemm"),
        (["--gemm", "1,2,3"], "name the machine: --profile"),
        (["--profile", "tpu_v1", "--gemm", "1,2"], "three whole numbers"),
        (["--profile", "tpu_v1", "--gemm", "1,2,-3"], "three whole numbers, each at least 1"),
        (["--profile", "tpu_v1", "--gemm", "0,512,512"], "three whole numbers, each at least 1"),
        (
            ["--profile", "tpu_v1", "--gemm", "1,2,3", "--roofline", "x.png"],
            "a page (.html) or its points (.csv)",
        ),
        (["--profile", "tpu_v1", "--model", "mlp", "--data-shape", "a,b,c"], "three whole numbers"),
        (
            ["--profile", "tpu_v1", "--gemm", "1,2,3", "--classes", "3"],
            "--classes has no effect beside --gemm: leave it out",
        ),
        (
            ["--profile", "tpu_v1", "--gemm", "1,2,3", "--data-shape", "3,8,8", "--classes", "3"],
            "--data-shape and --classes have no effect beside --gemm: leave them out",
        ),
        (["--profile", "tpu_v1", "--gemm", "1,2,3", "--batch", "8"], "--batch has no effect beside --gemm"),
        (
            ["--profile", "tpu_v1", "--gemm", "1,2,3", "--forward-only"],
            "--forward-only has no effect beside --gemm",
        ),
        (["--profile", "tpu_v1", "--gemm", "1,2,3", "--accuracy", "9"], "--accuracy has no effect beside"),
        (["--profile", "tpu_v1", "--gemm", "1,2,3", "--objective", "speed"], "--objective is one of cycles"),
        (["--record", RECORD], "--record goes with --accuracy PERCENT"),
        (
            ["--record", RECORD, "--accuracy", "97", "--devices", "2"],
            "--devices beside --record: name the machine too",
        ),
        (
            ["--record", RECORD, "--accuracy", "97", "--objective", "speed", "--profile", "tpu_v1"],
            "--objective is one of cycles",
        ),
        (
            ["--record", RECORD, "--accuracy", "97", "--sweep", "array.rows=8"],
            "--sweep has no effect beside --record",
        ),
        (
            ["--profile", "tpu_v1", "--gemm", "1,2,3", "--sweep", "array.rows=8", "--per-layer"],
            "--per-layer has no effect beside --sweep",
        ),
        (["--profile", "tpu_v1", "--gemm", "1,2,3", "--devices", "0"], "Invalid value for '--devices'"),
    ],
)
def test_wrong_usage_exits_2(arguments, message):
    result = invoke("estimate", *arguments)
    assert result.exit_code == 2
    assert message in words(result)


def test_help_has_an_example_of_a_sweep():
    assert "--sweep array.rows=8,16,32" in words(invoke("estimate", "--help"))


def test_a_gemm_is_the_cost_models(tmp_path):
    result = invoke(*GEMM, "--json", str(tmp_path / "c.json"))
    assert result.exit_code == 0
    written = json.loads((tmp_path / "c.json").read_text())
    assert written["macs"] == 64 * 32 * 16
    assert f"{written['cycles']:,}" in result.output
    assert written["by_role"]["output"]["cycles"] == written["cycles"]
    assert written["energy_low_pj"] <= written["energy_pj"] <= written["energy_high_pj"]


def test_a_model(tmp_path):
    result = invoke(*MODEL, "--format", "int8", "--json", str(tmp_path / "c.json"))
    assert result.exit_code == 0
    assert "One training step of small_cnn, 4 images of 1,8,8 on edge_npu" in words(result)
    written = json.loads((tmp_path / "c.json").read_text())
    assert sum(part["cycles"] for part in written["by_role"].values()) == written["cycles"]
    one = invoke("estimate", "--profile", "edge_npu", "--model", "mlp", "--batch", "1", "--format", "int8")
    assert "One training step of mlp, 1 image of 3,32,32 on edge_npu" in words(one)


def test_a_large_batch_is_priced_without_its_memory():
    """The step is traced without its tensors: a million images would not fit."""
    result = invoke("estimate", "--profile", "tpu_v1", "--model", "mlp", "--batch", "1000000")
    assert result.exit_code == 0


def test_the_objective_decides_the_mappings(tmp_path):
    energies = {}
    for objective in ("cycles", "energy"):
        file = tmp_path / f"{objective}.json"
        assert invoke(*MODEL, "--objective", objective, "--json", str(file)).exit_code == 0
        energies[objective] = json.loads(file.read_text())
    assert energies["energy"]["energy_pj"] <= energies["cycles"]["energy_pj"]
    assert energies["energy"]["cycles"] >= energies["cycles"]["cycles"]


def test_per_layer_and_its_csv(tmp_path):
    result = invoke(
        *MODEL, "--per-layer", "--csv", str(tmp_path / "l.csv"), "--json", str(tmp_path / "c.json")
    )
    assert result.exit_code == 0
    rows = read_csv(tmp_path / "l.csv")
    gemms = [row for row in rows if row["M"]]
    assert {row["role"] for row in gemms} == {"output", "grad_input", "grad_weight"}
    for row in gemms:
        assert row["bound_by"]
        assert row["tiles"]
        assert row["loop_order"]
    report = json.loads((tmp_path / "c.json").read_text())
    assert sum(int(row["cycles"]) for row in rows) == report["cycles"]
    assert sum(float(row["energy_pj"]) for row in rows) == pytest.approx(report["energy_pj"])
    assert gemms[0]["layer"] in words(result)


def test_a_roofline_page_and_its_csv(tmp_path):
    pytest.importorskip("plotly")
    page, points = tmp_path / "r.html", tmp_path / "r.csv"
    assert invoke(*GEMM, "--roofline", str(page)).exit_code == 0
    assert "Plotly.newPlot" in page.read_text()
    assert invoke(*GEMM, "--roofline", str(points)).exit_code == 0
    assert [row["M"] for row in read_csv(points)] == ["64"]


def test_without_plotly_a_roofline_page_is_a_users_error_and_the_csv_is_not(monkeypatch, capsys, tmp_path):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "plotly" else find(name))
    assert invoke(*GEMM, "--roofline", str(tmp_path / "r.csv")).exit_code == 0
    capsys.readouterr()
    assert run_main(monkeypatch, *GEMM, "--roofline", str(tmp_path / "r.html")) == 2
    assert "pip install 'lowbit-sim[plot]'" in capsys.readouterr().err
    assert not (tmp_path / "r.html").exists()


def test_a_sweep(tmp_path):
    axes = ["--sweep", "array.rows=8,16,32,0", "--sweep", "memory.sram.kib=64,128"]
    files = ["--csv", str(tmp_path / "s.csv"), "--json", str(tmp_path / "s.json")]
    result = invoke("estimate", "--profile", "edge_npu", "--gemm", "256,256,256", *axes, *files)
    assert result.exit_code == 0
    assert result.stderr == ""
    assert "GEMM 256,256,256 on edge_npu, swept" in words(result)
    assert "No cost for 2 points, such as array.rows=0" in words(result)
    rows = read_csv(tmp_path / "s.csv")
    assert len(rows) == 8
    cycles = [int(row["cycles"]) for row in rows if row["cycles"]]
    assert cycles == sorted(cycles)
    assert any(row["pareto"] == "1" for row in rows)
    found = json.loads((tmp_path / "s.json").read_text())
    assert (found["machine"], found["objective"], len(found["points"])) == ("edge_npu", "cycles", 8)


def test_a_sweep_of_formats_traces_each(tmp_path):
    """A narrower format needs fewer bytes: the sweep prices what the machine would run, not one trace."""
    axis = ["--sweep", "arithmetic.format=int4,int8", "--csv", str(tmp_path / "s.csv")]
    assert invoke(*MODEL, *axis).exit_code == 0
    energies = {row["arithmetic.format"]: float(row["energy_pj"]) for row in read_csv(tmp_path / "s.csv")}
    assert energies["int4"] != energies["int8"]


def test_training_to_an_accuracy(tmp_path):
    result = invoke("estimate", "--record", RECORD, "--accuracy", "97", "--json", str(tmp_path / "a.json"))
    assert result.exit_code == 0
    assert "training to 97 % test accuracy" in words(result)
    arms = json.loads((tmp_path / "a.json").read_text())
    record = json.loads(Path(RECORD).read_text())
    assert [arm["arm"] for arm in arms] == [arm["name"] for arm in record["arms"]]
    assert [m["machine"] for m in arms[0]["machines"]] == [p["machine"] for p in record["arms"][0]["prices"]]


def test_training_to_an_accuracy_on_another_machine(tmp_path):
    """The arms of the record are priced anew."""
    hw_models_file = tmp_path / "box.toml"
    hw_models_file.write_text(hw_models.template("box"))
    csv_file = tmp_path / "a.csv"
    options = ["--accuracy", "97", "--profile", str(hw_models_file), "--csv", str(csv_file)]
    assert invoke("estimate", "--record", RECORD, *options).exit_code == 0
    rows = read_csv(csv_file)
    assert {row["machine"] for row in rows} == {"box"}
    assert len(rows) == 4 * 5
    assert all(float(row["energy_low_j"]) <= float(row["energy_j"]) for row in rows if row["energy_j"])


LINKS = """
[interconnect]
source = "assumption: round numbers"
topology = "ring"
link_bandwidth_bytes_per_second = 1_000_000_000
links_per_device = 2
latency_s = 1e-6
pj_per_bit = 10.0
"""


def test_several_machines_train_together(monkeypatch, capsys, tmp_path):
    box = tmp_path / "box.toml"
    box.write_text(hw_models.template("box"))
    step = ["estimate", "--profile", str(box), "--model", "mlp", "--batch", "4"]
    assert run_main(monkeypatch, *step, "--devices", "8") == 2
    assert "box has no [interconnect]" in capsys.readouterr().err
    box.write_text(hw_models.template("box") + LINKS)
    cycles = {}
    for devices in ("1", "8"):
        file = tmp_path / f"{devices}.json"
        result = invoke(*step, "--devices", devices, "--json", str(file))
        assert result.exit_code == 0
        cycles[devices] = json.loads(file.read_text())["cycles"]
    assert "One of 8 machines that train together" in words(result)
    assert cycles["8"] > cycles["1"]


def test_training_to_an_accuracy_on_several_machines(monkeypatch, capsys, tmp_path):
    box = tmp_path / "box.toml"
    box.write_text(hw_models.template("box") + LINKS)
    seconds = {}
    for devices in ("1", "8"):
        file = tmp_path / f"{devices}.json"
        options = ["--accuracy", "97", "--profile", str(box), "--devices", devices, "--objective", "energy"]
        result = invoke("estimate", "--record", RECORD, *options, "--json", str(file))
        assert result.exit_code == 0
        seconds[devices] = json.loads(file.read_text())[0]["machines"][0]["step_seconds"]
    assert "97 % test accuracy, 8 machines share each batch" in words(result)
    assert seconds["8"] != seconds["1"]
    box.write_text(hw_models.template("box"))
    assert run_main(monkeypatch, "estimate", "--record", RECORD, *options) == 2
    assert "--devices 8: box has no [interconnect]" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"arms": None},
            "r.json is not a record of lowbit-sim compare: arms holds null where a list belongs; give what compare "
            "--json wrote, or the result.json of a run folder",
        ),
        ({"arms": ...}, "r.json is not a record of lowbit-sim compare: it has no arms;"),
        ({"study": ...}, "does not hold its study, so there is no training step to price anew"),
    ],
    ids=["no list", "no arms", "no study"],
)
def test_a_record_without_what_is_needed_is_refused(monkeypatch, capsys, tmp_path, change, message):
    record = json.loads(Path(RECORD).read_text()) | change
    file = tmp_path / "r.json"
    file.write_text(json.dumps({key: value for key, value in record.items() if value is not ...}))
    profile = ["--profile", "edge_npu"] if "study" in change else []
    assert run_main(monkeypatch, "estimate", "--record", str(file), "--accuracy", "97", *profile) == 2
    assert message in capsys.readouterr().err


def test_a_sweep_tells_the_notes_of_its_machines_once(tmp_path):
    axis = ["--sweep", "array.rows=8,16"]
    result = invoke("estimate", "--profile", "tpu_v1", "--gemm", "8,8,8", "--format", "int4", *axis)
    assert words(result).count("4-bit operands run and are stored in 8 bits") == 1


def test_the_largest_gemm_has_figures_of_three_digits():
    largest = f"{1 << 62},{1 << 62},{1 << 62}"
    result = invoke("estimate", "--profile", "tpu_v1", "--gemm", largest)
    rows = [line for line in result.output.splitlines() if line.startswith("│")]
    assert [row.split("│")[1].strip() for row in rows] == ["output", "total"]
    for figure in rows[0].split("│")[2:]:
        assert len(figure.strip()) <= len("1.23e+40 - 1.23e+40 J"), figure
    assert result.exit_code == 0


def test_a_swept_value_of_the_wrong_kind_is_refused(monkeypatch, capsys):
    sweep = ["--sweep", "array.rows=8,a"]
    assert run_main(monkeypatch, "estimate", "--profile", "tpu_v1", "--gemm", "8,8,8", *sweep) == 2
    streams = capsys.readouterr()
    assert streams.out == ""
    assert "array.rows = 'a': expected an integer > 0" in streams.err


def test_the_inference_of_a_model_has_no_backward_pass_and_leaves_codes():
    result = invoke("estimate", "--profile", "tpu_v1", "--model", "resnet20", "--forward-only")
    assert "The inference of resnet20, 32 images of 3,32,32 on tpu_v1" in words(result)
    assert not any(word in result.output for word in ("grad_weight", "update", "keeps"))
    assert "dequantize" not in result.output


TOPOLOGY = """Layer name, IFMAP Height, IFMAP Width, Filter Height, Filter Width, Channels, Num Filter, Strides,
Conv1, 16, 16, 3, 3, 3, 8, 1,
FC, 1, 1, 1, 1, 128, 10, 1,
"""


def test_a_file_of_layers_forward_and_in_training(tmp_path):
    path = tmp_path / "net.csv"
    path.write_text(TOPOLOGY)
    whole = invoke("estimate", "--profile", "edge_npu", "--workload", str(path))
    assert "One training step of net.csv on edge_npu" in words(whole)
    assert "grad_weight" in whole.output
    forward = invoke("estimate", "--profile", "edge_npu", "--workload", str(path), "--forward-only")
    assert "The forward pass of net.csv on edge_npu" in words(forward)
    assert "grad_weight" not in forward.output
    more = invoke("estimate", "--profile", "edge_npu", "--workload", str(path), "--batch", "8")
    assert "One training step of net.csv, 8 images on edge_npu" in words(more)
