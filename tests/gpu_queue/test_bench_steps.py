import torch

from benchmarks.gpu import bench_steps
from benchmarks.gpu.bench_steps import EMULATED, FULL_SPEED, NATIVE, epoch_steps, steps
from benchmarks.gpu.full_speed import step_seconds
from benchmarks.gpu.queue import MODULES, queue
from lowbit_sim.study.models import build


def test_every_arm_has_a_row_on_a_machine_without_all_units():
    record = steps("mlp", 8, 4, 2, 1000, device="cpu", epoch_s=0)
    rows = {row["arm"]: row for row in record["rows"]}
    assert len(rows) == len(NATIVE) + len(EMULATED) + len(FULL_SPEED)
    assert "TF32 is a mode" in rows["native tf32"]["refused"]
    for arm in ("native fp32", "native bf16", "emulated int8", "emulated int4"):
        assert rows[arm]["median_s"] > 0
        assert rows[arm]["steps"] == 2
        assert rows[arm]["peak_memory_mib"] is None
    assert rows["native fp32"]["over_fp32"] == 1
    for arm in ("native fp32, at full speed", "native bf16, at full speed"):
        assert rows[arm]["median_s"] > 0
        assert rows[arm]["steps"] == 2


def test_an_epoch_is_long_enough_for_a_counter():
    assert epoch_steps([1.0, 0.01, 0.01], 5, 3.0) == 300
    assert epoch_steps([1.0, 1.0, 1.0], 5, 3.0) == 5
    assert epoch_steps([1e-6], 5, 3.0) == 1000


def test_full_speed_puts_the_switches_back_and_trains():
    network = build("small_cnn", 3, 10, 8, width=8, seed=0)
    before = [p.detach().clone() for p in network.parameters()]
    seconds = step_seconds(network, 2, 8, 3, torch.device("cpu"), None)
    assert len(seconds) == 3
    assert not any(map(torch.equal, before, network.parameters()))
    assert not torch.backends.cudnn.benchmark


def test_arms_that_would_start_too_late_are_left_out():
    record = steps("mlp", 8, 4, 2, 0, device="cpu")
    assert {row.get("refused") for row in record["rows"]} == {"no time left"}


def test_an_arm_that_fails_leaves_the_others(monkeypatch):
    def fails(*_):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(bench_steps, "_arm", fails)
    record = steps("mlp", 8, 4, 2, 1000, device="cpu", epoch_s=0)
    assert {row.get("failed") for row in record["rows"][: len(NATIVE) + len(EMULATED)]} == {
        "RuntimeError: out of memory"
    }


def test_the_queue_runs_checks_then_benchmarks_then_studies():
    names = [module.__name__.rpartition(".")[2] for module in MODULES]
    kinds = [name.partition("_")[0] for name in names if name != "calibration"]
    assert kinds == sorted(kinds, key=("check", "bench", "study", "ghn").index)
    assert list(queue())[0] == "exact_products"
    assert list(queue())[-1].startswith("ghn_")
