import pytest

import hw_models
from lowbit_sim.study import workload_source
from lowbit_sim.study.errors import StudyError
from lowbit_sim.study.models import MODELS
from lowbit_sim.study.price import gemm_trace

BOX = hw_models.parse(hw_models.template("box"), "box.toml")


def test_a_gemm_has_the_machines_numerics_or_a_format():
    source = workload_source.gemm((4, 5, 6), None)
    assert source.title == "GEMM 4,5,6"
    assert source.trace(BOX).events == gemm_trace(4, 5, 6, BOX.op_spec()).events
    [event] = workload_source.gemm((4, 5, 6), "int4").trace(BOX).gemms
    assert (event.lhs.format, event.lhs.bits) == ("int4", 4)


def test_models_for_imagenet_have_its_images_and_classes():
    assert set(workload_source.IMAGENET) <= set(MODELS)
    source = workload_source.model("resnet18", None, batch=2, shape=None, classes=None)
    assert source.title == "One training step of resnet18, 2 images of 3,224,224"
    gemms = [event for event in source.trace(BOX).gemms if event.role == "output"]
    assert gemms[0].conv is not None
    assert (gemms[0].conv.batch, gemms[0].conv.in_height) == (2, 224)
    assert (gemms[-1].M, gemms[-1].N) == (2, 1000)


def test_other_models_have_small_ones_and_options_win():
    assert workload_source.model("mlp", None, batch=None, shape=None, classes=None).title.endswith(
        "32 images of 3,32,32"
    )
    source = workload_source.model("mlp", None, batch=3, shape=(1, 8, 8), classes=7)
    last = [event for event in source.trace(BOX).gemms if event.role == "output"][-1]
    assert (last.M, last.N) == (3, 7)


def test_a_file_is_read_for_the_machine(tmp_path):
    path = tmp_path / "list.csv"
    path.write_text("layer,M,N,K\nfc,8,4,16\n")
    forward = workload_source.file(path, None, training=False, batch=None)
    assert forward.title == "The forward pass of list.csv"
    assert [(e.M, e.N, e.K) for e in forward.trace(BOX).gemms] == [(8, 4, 16)]
    step = workload_source.file(path, "int4", training=True, batch=None).trace(BOX)
    assert {event.role for event in step.gemms} >= {"output", "grad_weight"}
    assert {event.rhs.format for event in step.gemms} == {"int4"}


@pytest.mark.parametrize(("name", "text"), [("absent.csv", None), ("bad.csv", "a,b\n1,2\n"), ("x.txt", "")])
def test_a_file_that_is_no_workload_is_a_users_error(tmp_path, name, text):
    path = tmp_path / name
    if text is not None:
        path.write_text(text)
    with pytest.raises(StudyError, match=name):
        workload_source.file(path, None, training=True, batch=None).trace(BOX)


def test_a_batch_that_a_file_does_not_take_is_a_users_error(tmp_path):
    path = tmp_path / "list.csv"
    path.write_text("M,N,K\n8,4,16\n")
    with pytest.raises(StudyError, match="leave the batch out"):
        workload_source.file(path, None, training=True, batch=4).trace(BOX)


def test_the_inference_of_a_model_keeps_nothing_and_reads_batch_norms_once():
    source = workload_source.model("resnet20", None, batch=2, shape=None, classes=None, training=False)
    assert source.title == "The inference of resnet20, 2 images of 3,32,32"
    trace = source.trace(BOX)
    assert {event.role for event in trace.gemms} == {"output"}
    assert not any(event.kept_bytes for event in trace.events)
    norms = [event for event in trace.vectors if event.kind == "batch_norm"]
    assert len(norms) == 19
    assert all(event.read_bytes == event.write_bytes == 4 * event.elements for event in norms)


def test_an_inference_takes_a_single_value_for_each_channel():
    source = workload_source.model("resnet20", None, batch=1, shape=(3, 4, 4), classes=None, training=False)
    assert source.trace(BOX).gemms


def test_a_file_has_the_machines_activations(tmp_path):
    path = tmp_path / "list.csv"
    path.write_text("layer,M,N,K\nfc,8,4,16\nfc2,8,2,4\n")
    machine = hw_models.load("rapid_hfp8")
    source = workload_source.file(path, None, training=True, batch=None)
    moved = sum(e.read_bytes for e in source.trace(machine).vectors if e.kind == "scale_reduction")
    read = {"x": 8 * 16 + 8 * 4, "g": 8 * 4 + 8 * 2, "w": 16 * 4 + 4 * 2}  # elements, each read once
    assert moved == 2 * (read["x"] + read["g"]) + 4 * read["w"]
    native = workload_source.file(path, "fp32", training=True, batch=None).trace(machine)
    assert not [e for e in native.vectors if e.kind == "quantize"]
