from benchmarks.gpu import bench_steps
from benchmarks.gpu.bench_steps import EMULATED, NATIVE, steps
from benchmarks.gpu.queue import MODULES, queue


def test_every_arm_has_a_row_on_a_machine_without_all_units():
    record = steps("mlp", 8, 4, 2, 1000, device="cpu")
    rows = {row["arm"]: row for row in record["rows"]}
    assert len(rows) == len(NATIVE) + len(EMULATED)
    assert "TF32 is a mode" in rows["native tf32"]["refused"]
    for arm in ("native fp32", "native bf16", "emulated int8", "emulated int4"):
        assert rows[arm]["median_s"] > 0
        assert rows[arm]["steps"] == 2
        assert rows[arm]["peak_memory_mib"] is None
    assert rows["native fp32"]["over_fp32"] == 1


def test_arms_that_would_start_too_late_are_left_out():
    record = steps("mlp", 8, 4, 2, 0, device="cpu")
    assert {row.get("refused") for row in record["rows"]} == {"no time left"}


def test_an_arm_that_fails_leaves_the_others(monkeypatch):
    def fails(*_):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(bench_steps, "_arm", fails)
    record = steps("mlp", 8, 4, 2, 1000, device="cpu")
    assert {row["refused"] for row in record["rows"]} == {"RuntimeError: out of memory"}


def test_the_queue_runs_checks_then_benchmarks_then_studies():
    names = [module.__name__.rpartition(".")[2] for module in MODULES]
    kinds = [name.partition("_")[0] for name in names if name != "calibration"]
    assert kinds == sorted(kinds, key=("check", "bench", "study").index)
    assert list(queue())[0] == "exact_products"
    assert list(queue())[-1].startswith("metagrad_")
