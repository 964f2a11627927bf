import pytest

import hw_models
import lowbit_sim as lb
from hw_models.explore.overrides import with_overrides
from hw_models.operands import UnsupportedOperandError, gemm_modes
from lowbit_sim.study.errors import StudyError
from lowbit_sim.study.price import gemm_trace, machine_spec, model_trace

EDGE, CHIP = hw_models.load("edge_npu"), hw_models.load("rapid_training")


def test_without_a_format_the_numerics_are_the_machines():
    assert machine_spec(EDGE, None) == EDGE.op_spec()


@pytest.mark.parametrize("machine", [EDGE, CHIP], ids=["edge_npu", "rapid_training"])
def test_another_format_keeps_the_machines_accumulator_and_rounding(machine):
    own = machine.op_spec()
    assert machine_spec(machine, "int5") == lb.OpSpec.uniform(
        lb.parse_format("int5"), mac=own.output.mac, gradient_rounding=own.grad_input.lhs.rounding
    )


def test_a_floating_point_accumulator_adds_every_format():
    machine = hw_models.load("rapid_hfp8")
    spec = machine_spec(machine, "int4")
    assert spec is not None
    assert spec.output is not None
    assert spec.output.mac == machine.op_spec().output.mac


def test_fp32_is_native():
    assert machine_spec(EDGE, "fp32") is None


def test_a_format_that_integer_accumulators_can_not_add_brings_its_own():
    mac, rounding = CHIP.op_spec().output.mac, CHIP.op_spec().grad_input.lhs.rounding
    assert rounding.is_stochastic
    for name in ("bf16", "fp8_e4m3fn", "mxfp8_e4m3", "posit8"):
        assert machine_spec(CHIP, name) == lb.OpSpec.uniform(
            lb.parse_format(name), gradient_rounding=rounding
        )
    for name in ("mxfp4", "fixed<8,6>", "log4_radix2"):
        assert machine_spec(CHIP, name) == lb.OpSpec.uniform(
            lb.parse_format(name), mac=mac, gradient_rounding=rounding
        )


def test_formats_that_can_not_be():
    with pytest.raises(StudyError, match="--format int88: .*did you mean"):
        machine_spec(EDGE, "int88")


@pytest.mark.parametrize("machine", hw_models.profile_names())
@pytest.mark.parametrize(
    "name",
    ["bf16", "fp8_e5m2", "mxfp4", "nvfp4", "mxint8", "bfp<8,16>", "fixed<8,6>", "log4_radix2", "posit8"],
)
def test_every_kind_of_format_has_a_price(machine, name):
    profile = hw_models.load(machine)
    trace = gemm_trace(8, 8, 64, machine_spec(profile, name))
    try:
        modes = gemm_modes(trace.gemms[0], profile)
    except UnsupportedOperandError:
        assert max(profile.array.widths(), default=0) < 8
        with pytest.raises(UnsupportedOperandError, match="multiplies integers of at most 4 bits"):
            hw_models.estimate(trace, profile)
        return
    report = hw_models.estimate(trace, profile)
    assert report.cycles > 0
    assert any(f"GEMMs of {name} run on the vector unit" in note for note in report.notes) == (modes is None)


def test_one_gemm():
    [event] = gemm_trace(3, 4, 5, lb.OpSpec.uniform(lb.INT8)).events
    assert (event.M, event.N, event.K, event.lhs.format, event.role) == (3, 4, 5, "int8", "output")


def test_a_gemms_results_leave_as_the_codes_that_the_machine_makes():
    """1 MiB of results: three bytes less for each of 2^20. Nobody converts native sums, nor those of bfloat16."""
    tpu = hw_models.load("tpu_v1")
    as_sums = with_overrides(tpu, {"arithmetic.result_bits": 32})
    moved = [
        hw_models.estimate(gemm_trace(1024, 1024, 1024, machine_spec(m, None), m), m).bytes
        for m in (tpu, as_sums)
    ]
    assert moved == [3 << 20, 6 << 20]
    for name in ("fp32", "bf16"):
        [event] = gemm_trace(4, 4, 4, machine_spec(tpu, name), tpu).gemms
        assert event.result_bits == 0


def test_a_negative_size_is_refused():
    with pytest.raises(StudyError, match="0 to 2.62, got M,N,K = 3,-4,5"):
        gemm_trace(3, -4, 5, None)


def test_a_model_with_the_same_workload_in_float_and_in_int8():
    arguments = {"batch": 2, "shape": (1, 8, 8), "classes": 10}
    native, int8 = (
        model_trace("small_cnn", **arguments, spec=spec) for spec in (None, lb.OpSpec.uniform(lb.INT8))
    )
    assert native.macs == int8.macs > 0
    assert {e.lhs.format for e in native.gemms} == {"fp32"}
    assert {e.lhs.format for e in int8.gemms} == {"int8"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch": 0}, "at least one image, got 0"),
        ({"shape": (1, 8, 9)}, "square images, got 8x9"),
        ({"name": "vgg"}, "unknown model 'vgg'"),
        (
            {"name": "small_cnn", "batch": 1, "shape": (1, 2, 2)},
            "small_cnn with 1 image of 1,2,2 leaves a batch-norm one value for each channel.*larger",
        ),
        ({"name": "resnet20", "batch": 1, "shape": (3, 4, 4)}, "resnet20 with 1 image of 3,4,4 leaves"),
        ({"batch": 10**18}, "mlp with 1000000000000000000 images of 1,8,8.*more than 2.63 bytes.*smaller"),
        ({"batch": 10**22}, "more than 2.63 bytes"),
        ({"classes": 10**18}, "1000000000000000000 classes has tensors of more than 2.63 bytes"),
        ({"shape": (3, 10**9, 10**9)}, "more than 2.63 bytes"),
        ({"shape": (3, 10**10, 10**10)}, "more than 2.63 bytes"),
    ],
)
def test_models_that_can_not_be(changes, message):
    arguments = {"name": "mlp", "batch": 2, "shape": (1, 8, 8), "classes": 10, "spec": None, **changes}
    with pytest.raises(StudyError, match=message):
        model_trace(**arguments)


def test_a_step_that_no_memory_holds_is_traced_by_its_shapes():
    trace = model_trace("resnet50", batch=4096, shape=(3, 224, 224), classes=1000, spec=None)
    assert sum(e.kept_bytes for e in trace.events) > 1 << 38
    assert trace.macs > 4096 * 3 * 4.0e9


def test_other_errors_keep_their_own_words(monkeypatch):
    def fail(*arguments):
        raise RuntimeError("a bug")

    monkeypatch.setattr("lowbit_sim.study.price.trace_training_step", fail)
    with pytest.raises(RuntimeError, match="a bug"):
        model_trace("mlp", batch=2, shape=(1, 8, 8), classes=10, spec=None)
