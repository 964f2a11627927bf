"""The GPU queue's checks and benchmarks of GEMMs on the CPU, with tiny operands: a wrong bit is seen."""

import dataclasses

import pytest
import torch

from benchmarks.gpu import bench_gemm, check_gemm, check_training_step
from benchmarks.gpu.queue import queue
from lowbit_sim.arith.backends import triton_gpu
from lowbit_sim.arith.mac import TRUNCATIONS, MacUnit

pytestmark = [
    pytest.mark.skipif(torch.cuda.is_available(), reason="the interpreter stands in for a missing GPU"),
    pytest.mark.filterwarnings("ignore:.*encountered in:RuntimeWarning"),
]


@pytest.fixture
def few_units(monkeypatch):
    integers, floats = check_gemm.integer_units(), check_gemm.float_units()
    monkeypatch.setattr(check_gemm, "integer_units", lambda: [*integers[1::9], integers[-1]])
    monkeypatch.setattr(check_gemm, "float_units", lambda: floats[::4])


def test_integer_units_agree(few_units):
    record = check_gemm.check_integers(1000, "cpu", ((3, 9, 4),))
    assert record["all_equal"]
    assert {row["way"] for row in record["rows"]} == {"fastest", "kernel"}
    assert any(row["overflows_on_cpu"] for row in record["rows"])


def test_float_units_agree(few_units):
    assert check_gemm.check_floats(1000, "cpu", ((2, 5, 3),))["all_equal"]


def test_block_scaled_operands_agree():
    record = check_gemm.check_blocks(1000, "cpu", (3, 70, 4))
    assert record["all_equal"]
    assert len(record["rows"]) == 6


@pytest.mark.parametrize("wrong", ["values", "overflows"])
def test_a_wrong_kernel_is_seen(few_units, monkeypatch, wrong):
    right = triton_gpu.run

    def run(mac, a, b, *, count_overflows=True):
        result = right(mac, a, b, count_overflows=count_overflows)
        return dataclasses.replace(result, **{wrong: getattr(result, wrong) + 1})

    monkeypatch.setattr(triton_gpu, "run", run)
    record = check_gemm.check_integers(1000, "cpu", ((2, 3, 2),))
    assert not record["all_equal"]
    assert all(row["equal"] == (row["way"] == "fastest") for row in record["rows"])


def test_every_rule_is_among_the_units():
    units = check_gemm.integer_units()
    assert {u.overflow for u in units} == {"wrap", "saturate", "saturate_symmetric"}
    assert {u.overflow_at for u in units} == {"addition", "chunk", "outer"}
    assert {u.truncation for u in units if u.truncated_bits} == set(TRUNCATIONS)
    assert any(u.products for u in units)
    assert {u.order for u in units} == {"sequential", "tree"}
    assert "tree" in {u.order for u in bench_gemm.integer_units().values()}


@pytest.fixture
def int8_only(monkeypatch):
    specs = check_training_step.specs()
    monkeypatch.setattr(
        check_training_step, "specs", lambda: {name: specs[name] for name in ("int8", "mxfp8")}
    )


def test_training_steps_agree(int8_only):
    record = check_training_step.whole_steps(1000, "cpu", batch=2, steps=2)
    assert record["all_equal"]
    # Two steps; y, the input's gradient, three weights and their gradients.
    assert [row["tensors"] for row in record["rows"]] == [2 * 8, 2 * 8]


def test_a_tensor_that_differs_is_named(int8_only, monkeypatch):
    right = check_training_step._trained

    def trained(spec, device, batch, steps):
        found = right(spec, "cpu", batch, steps)
        return found if device == "cpu" else [*found[:-1], found[-1] | {"y": found[-1]["y"] + 1}]

    monkeypatch.setattr(check_training_step, "_trained", trained)
    record = check_training_step.whole_steps(1000, "cuda", batch=2, steps=2)
    assert not record["all_equal"]
    assert all(row["different"] == ["step 1: y"] for row in record["rows"])


def test_a_unit_that_fails_leaves_the_others(few_units, monkeypatch):
    monkeypatch.setattr(triton_gpu, "run", None)
    record = check_gemm.check_integers(1000, "cpu", ((2, 3, 2),))
    assert (record["all_equal"], record["complete"]) == (False, True)
    assert record["failed_rows"] > 0
    assert all(("failed" in row) == (row["way"] == "kernel") for row in record["rows"])


def test_captured_gemms_agree(int8_only, monkeypatch):
    record = check_training_step.captured_gemms(1000, "cpu", batch=2, steps=1)
    assert record["all_equal"]
    assert all(row["gemms"] == 11 for row in record["rows"])
    monkeypatch.setattr(check_training_step, "_same_sums", lambda gemm: gemm.role != "grad_weight")
    assert not check_training_step.captured_gemms(1000, "cpu", batch=2, steps=1)["all_equal"]


def test_speeds_are_of_right_results(monkeypatch):
    monkeypatch.setattr(bench_gemm, "_SECONDS", 0.0)
    record = bench_gemm.integer_gemms(1000, "cpu", (8,))
    assert record["all_equal"]
    assert {row["gemm"] for row in record["rows"]} > {"torch._int_mm", "torch float32", "torch bfloat16"}
    assert bench_gemm.float_gemms(1000, "cpu", (8,))["all_equal"]
    monkeypatch.setattr(bench_gemm, "integer_units", lambda: {"8 bits": MacUnit(accumulator_bits=8)})
    row = bench_gemm.integer_gemms(1000, "cpu", (8,))["rows"][-1]
    assert row["tera_macs_per_s"] == pytest.approx(8**3 / row["median_s"] / 1e12)


def test_the_queue_has_them():
    names = list(queue())
    assert (
        names.index("gemm_bits_integer")
        < names.index("training_step_bits")
        < names.index("gemm_speed_integer")
    )
