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
