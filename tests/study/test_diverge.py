"""Two configurations side by side, and where they part."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import lowbit_sim as lb
from lowbit_sim.arith.backends import numba_cpu
from lowbit_sim.study.diverge import Setup, diverge, record_side, setup_for
from lowbit_sim.study.diverge_report import text
from lowbit_sim.study.divergence import Divergence, first_divergence
from lowbit_sim.study.errors import StudyError
from lowbit_sim.study.recordings import Recording, load_recording, save_recording

SETUP = Setup(model="mlp", width=8, batch_size=4, steps=2)
#: input, hidden and output layer of the network: three GEMMs each, but no gradient of the images.
GEMMS = 8


@pytest.fixture(scope="module")
def int8() -> Recording:
    return record_side("int8", SETUP)


def test_a_side_agrees_with_itself() -> None:
    report = diverge("int8", "int8", SETUP)
    assert (report.steps, report.gemms, report.divergence) == (2, 2 * GEMMS, None)
    assert text(report) == "int8 and int8 agree in 16 GEMMs of 2 training steps."


def test_a_machine_with_the_same_arithmetic_agrees() -> None:
    assert diverge("int8", "tpu_v1", SETUP).divergence is None


@pytest.mark.parametrize("backend", ["reference", "numba_cpu", "torch_exact"])
def test_backends_agree(backend) -> None:
    assert diverge("int8", f"int8@{backend}", SETUP).divergence is None


def test_a_broken_backend_is_caught_at_the_first_sum(monkeypatch) -> None:
    run = numba_cpu.run

    def off_by_one(mac, a, b, **options):
        result = run(mac, a, b, **options)
        result.values[1, 2] += 1
        return result

    monkeypatch.setattr(numba_cpu, "run", off_by_one)
    found = diverge("int8", "int8@numba_cpu", SETUP).divergence
    assert found is not None
    assert (found.step, found.gemm, found.role, found.what) == (0, 0, "output", "sum")
    assert (found.element, found.differing) == ((1, 2), 1)
    assert found.codes is not None
    assert found.codes[1] == found.codes[0] + 1


def test_other_codes_are_named_before_what_follows_from_them() -> None:
    report = diverge("int8", "int4", SETUP)
    found = report.divergence
    assert found is not None
    assert (found.step, found.gemm, found.what) == (0, 0, "lhs")
    assert found.codes is not None
    assert found.values is not None
    assert abs(found.codes[0]) <= 127
    assert abs(found.codes[1]) <= 7
    assert abs(found.values[0] - found.values[1]) < 1
    words = text(report)
    assert words.startswith("int8 (A) and int4 (B) part in step 0, layer ")
    assert "lhs (input), element [" in words


def test_native_is_compared_by_results() -> None:
    found = diverge("native", "int8", SETUP).divergence
    assert found is not None
    assert (found.what, found.codes) == ("result", None)


def test_a_tolerance_lets_small_differences_pass() -> None:
    assert diverge("native", "int16", replace(SETUP, steps=1), tolerance=0.01).divergence is None


def test_random_bits_part_by_seed_alone() -> None:
    narrow = Setup(model="mlp", width=8, batch_size=4)
    assert diverge("rapid_training", "rapid_training", narrow).divergence is None


def test_a_recording_reads_back(tmp_path, int8) -> None:
    path = tmp_path / "run.safetensors"
    save_recording(path, int8)
    again = load_recording(path)
    assert again.title == "int8"
    for step, other in zip(int8.steps, again.steps, strict=True):
        assert first_divergence(0, step, other) is None
        assert [g.numerics for g in step] == [g.numerics for g in other]
    assert diverge(str(path), "int8", SETUP).divergence is None


def test_a_changed_code_in_a_recording_is_found(tmp_path, int8) -> None:
    gemms = list(int8.steps[1])
    codes = gemms[3].rhs[0].clone()
    codes[2, 1] += 1
    gemms[3] = replace(gemms[3], rhs=(codes,))
    path = tmp_path / "run.safetensors"
    save_recording(path, replace(int8, steps=(int8.steps[0], tuple(gemms))))
    found = diverge("int8", str(path), SETUP).divergence
    assert found is not None
    assert (found.step, found.gemm, found.what, found.element) == (1, 3, "rhs", (2, 1))
    assert found.layer == gemms[3].layer


def test_other_gemms_are_named(int8) -> None:
    step = int8.steps[0]
    found = first_divergence(0, step, step[1:])
    assert isinstance(found, Divergence)
    assert (found.what, found.gemm) == ("order", 0)
    assert "A ran output of" in found.detail
    missing = first_divergence(5, step, step[:-1])
    assert isinstance(missing, Divergence)
    assert (missing.step, missing.gemm, missing.detail) == (5, GEMMS - 1, "A ran 8 GEMMs and B 7")


def test_another_scale_is_named_first(int8) -> None:
    gemm = int8.steps[0][0]
    other = replace(gemm, lhs_scale=(gemm.lhs_scale[0] * 2,))
    found = first_divergence(0, [gemm], [other])
    assert isinstance(found, Divergence)
    assert found.what == "lhs scale"
    assert found.values == (float(gemm.lhs_scale[0]), 2 * float(gemm.lhs_scale[0]))


def test_nan_equals_nan(int8) -> None:
    gemm = replace(int8.steps[0][0], result=torch.full((2, 2), float("nan")))
    assert first_divergence(0, [gemm], [gemm]) is None
    assert first_divergence(0, [gemm], [gemm], tolerance=0.1) is None


@pytest.mark.parametrize("side", ["int8", "mxfp4", "fp8_e4m3fn", "nvfp4"])
def test_block_and_float_formats_are_compared_too(side) -> None:
    assert diverge(side, side, replace(SETUP, steps=1)).divergence is None
    assert diverge(side, "int5", replace(SETUP, steps=1)).divergence is not None


@pytest.mark.parametrize(
    ("side", "message"),
    [
        ("int8@numpy", "unknown backend 'numpy'"),
        ("int99", "side 'int99' is not native, a machine profile"),
        ("missing.safetensors", "can't read the recording missing.safetensors: there is no such file"),
        ("edge_np", "did you mean 'edge_npu'"),
        ("experiments/formats.toml", "is a study: name one of its arms, as in experiments/formats.toml:ARM"),
        ("missing.toml:INT8", "can't read the study missing.toml"),
    ],
)
def test_a_side_that_does_not_exist_is_named(side, message, monkeypatch) -> None:
    monkeypatch.chdir(Path(__file__).parents[2])
    with pytest.raises(StudyError, match=message):
        diverge(side, "int8", SETUP)


def test_a_file_that_is_no_recording_is_named(tmp_path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(b"not a recording")
    with pytest.raises(StudyError, match="can't read the recording"):
        load_recording(path)


def test_an_arm_of_a_study(tmp_path) -> None:
    from lowbit_sim.study.load_study import default_study_path

    path = default_study_path()
    report = diverge(f"{path}:INT8", f"{path}:INT8 acc16", Setup())
    assert report.divergence is not None
    assert (report.divergence.what, report.divergence.role) == ("sum", "output")
    with pytest.raises(StudyError, match="unknown arm 'INT9'"):
        diverge(f"{path}:INT9", "int8", Setup())


def test_the_capture_keeps_what_in_place_modules_overwrite() -> None:
    from lowbit_sim.ops.capture import capture

    model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.ReLU(inplace=True))
    lb.convert(model, [lb.Rule("*", lb.OpSpec.uniform(lb.INT8))])
    with capture() as kept:
        y = model(torch.randn(8, 4, generator=torch.Generator().manual_seed(0)))
    assert kept.gemms[0].result.min() < 0 <= y.min()


def test_a_recording_brings_its_setup(tmp_path, int8) -> None:
    path = tmp_path / "run.safetensors"
    save_recording(path, int8)
    assert setup_for([str(path), "int4"], {}) == SETUP
    assert setup_for([str(path), "int4"], {"steps": 1, "model": "mlp"}) == replace(SETUP, steps=1)
    with pytest.raises(StudyError, match="was recorded with model = 'mlp': 'small_cnn' contradicts it"):
        setup_for([str(path), "int4"], {"model": "small_cnn"})
    assert setup_for(["int8", "int4"], {"width": 4, "seed": None}) == Setup(width=4)


def test_options_without_effect_are_refused(tmp_path, int8) -> None:
    from lowbit_sim.study.load_study import default_study_path

    arm = f"{default_study_path()}:INT8"
    with pytest.raises(StudyError, match="batch_size, model would have no effect: every side brings its own"):
        setup_for([arm, arm], {"model": "resnet20", "batch_size": 3})
    assert setup_for([arm, arm], {"seed": 3, "steps": 2}) == Setup(seed=3, steps=2)


def test_a_shorter_recording_does_not_agree(tmp_path, int8) -> None:
    path = tmp_path / "run.safetensors"
    save_recording(path, replace(int8, steps=int8.steps[:1]))
    report = diverge("int8", str(path), SETUP)
    assert report.divergence is not None
    assert text(report).endswith("agree in 8 GEMMs of 1 training step, but B has no more than 1 step.")


def test_the_sign_of_zero_is_a_bit(int8) -> None:
    gemm = replace(int8.steps[0][0], result=torch.zeros(2, 2))
    found = first_divergence(0, [gemm], [replace(gemm, result=-torch.zeros(2, 2))])
    assert isinstance(found, Divergence)
    assert (found.what, found.differing) == ("result", 4)


def test_scales_of_rows_are_applied_and_others_are_left_to_the_results() -> None:
    """INT8 against INT4 weights with a scale for each output channel: values are compared, not codes."""
    from lowbit_sim.study.divergence import _scaled
    from lowbit_sim.study.recordings import recorded

    def gemms(name: str) -> list:
        from lowbit_sim.ops.capture import capture

        weight = lb.Quantizer(lb.parse_format(name), granularity=lb.PerAxis(0))
        spec = lb.OpSpec(output=lb.GemmSpec(lb.Quantizer(lb.INT8), weight), grad_input=None, grad_weight=None)
        torch.manual_seed(0)
        layer = lb.convert(torch.nn.Linear(6, 4), [lb.Rule("*", spec)])
        with capture() as kept:
            layer(torch.ones(2, 6))
        return [recorded(gemm) for gemm in kept.gemms]

    wide, narrow = gemms("int8")[0], gemms("int4")[0]
    torch.manual_seed(0)
    weight = torch.nn.Linear(6, 4).weight.detach().double()
    values = _scaled(wide.rhs[0], wide, "rhs", 0)
    assert values is not None
    assert torch.allclose(values.t(), weight, atol=0.005)
    found = first_divergence(0, [wide], [narrow])
    assert isinstance(found, Divergence)
    assert found.what == "rhs"
    assert found.values is not None
    assert abs(found.values[0] - found.values[1]) < 0.1
    image = replace(wide, rhs_scale=(torch.ones(1, 4, 1, 1),))
    other = replace(narrow, rhs_scale=(torch.ones(1, 4, 1, 1),))
    by_result = first_divergence(0, [image], [other])
    assert isinstance(by_result, Divergence)
    assert by_result.what == "result"


def test_a_recording_takes_no_backend() -> None:
    with pytest.raises(StudyError, match="it takes no @BACKEND"):
        diverge("run.safetensors@reference", "int8", SETUP)
