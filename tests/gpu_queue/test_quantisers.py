"""The queue's checks and benchmark of the quantisers, with the kernels for a GPU in Triton's interpreter."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch

import lowbit_sim as lb
from benchmarks.gpu import bench_quantisers, check_quantisers
from benchmarks.gpu.check_quantisers import element_codes, far_elements, whole_quantizers
from lowbit_sim.numerics import triton_support
from lowbit_sim.numerics.catalog import parse_format
from lowbit_sim.numerics.formats import IntFormat

pytest.importorskip("triton", reason="Triton is not installed")
if triton_support.why_no_triton(torch.device("cpu")) is not None:
    pytest.skip("Triton compiles for the GPU here: see `make gpu`", allow_module_level=True)


@pytest.fixture(autouse=True)
def interpreted(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A device named "interpreter" has the CPU's tensors and the GPU's kernels."""
    current = "cpu"

    def device(name: str) -> torch.device:
        nonlocal current
        current = name
        return torch.device("cpu")

    monkeypatch.setattr(check_quantisers, "_device", device)
    monkeypatch.setattr(triton_support, "uses_triton", lambda _: current == "interpreter")
    with np.errstate(all="ignore"):
        yield


FORMATS = tuple(map(parse_format, ("int4", "fp4_e2m1", "log4_radix2")))


def test_every_format_is_compared() -> None:
    record = element_codes(1e9, "interpreter", FORMATS)
    assert record["all_equal"]
    assert [row["format"] for row in record["rows"]] == [str(fmt) for fmt in FORMATS]
    assert all(row["elements"] > 40 and row["checks"] >= 11 for row in record["rows"])


def test_a_wrong_code_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    right = check_quantisers._codes

    def wrong(*arguments) -> torch.Tensor:
        codes = right(*arguments)
        codes[3] += arguments[-1] == "interpreter"
        return codes

    monkeypatch.setattr(check_quantisers, "_codes", wrong)
    record = element_codes(1e9, "interpreter", FORMATS[:1])
    assert not record["all_equal"]
    assert record["rows"][0]["different"] == record["rows"][0]["checks"]


def test_formats_without_time_are_said_to_be_left_out() -> None:
    record = element_codes(0, "interpreter", FORMATS)
    assert not record["all_equal"]
    assert {row["refused"] for row in record["rows"]} == {"no time left"}


def test_whole_quantizers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        check_quantisers, "GRANULARITIES", ((lb.PerAxis(1), (2, 5, 6)), (lb.PerBlock(4), (3, 10)))
    )
    monkeypatch.setattr(check_quantisers, "RULES", (lb.AbsMaxScale(), lb.EmaScale(0.9)))
    record = whole_quantizers(1e9, "interpreter")
    assert record["all_equal"]
    assert len(record["rows"]) > 10


def test_far_elements() -> None:
    record = far_elements(1e9, "interpreter", elements=9024, border=4096, width=64)
    assert record["all_equal"]
    assert [row["start"] for row in record["rows"]] == 2 * [0, 4064, 8960]


def test_far_elements_on_another_stream_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    seeds = iter([1, 2, 1, 1, 1, 1, 1, 1])
    monkeypatch.setattr(lb, "Stream", lambda seed, offset: real(seed=next(seeds), offset=offset))
    record = far_elements(1e9, "interpreter", elements=9024, border=4096, width=64)
    assert [row["equal"] for row in record["rows"]] == [False, True, True, True, True, True]


real = lb.Stream


def test_bandwidth(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(10**6))
    monkeypatch.setattr(bench_quantisers, "shortest", lambda work, *_: (work(), next(clock) + 1)[1])
    record = bench_quantisers.bandwidth(1e9, "cpu", sizes=(64 * 32,), rounds=1)
    assert record["rows"][0]["work"] == "copy"
    assert [row["work"] for row in record["rows"][1:3]] == [
        "int8, PerTensor(), nearest_even",
        "int8, PerTensor(), stochastic",
    ]
    row = record["rows"][1]
    assert (row["bytes_per_s"], row["kernel_bytes_per_s"]) == (5 * 64 * 32 / 2, 5 * 64 * 32 / 3)
    assert row["kernel_over_copy"] == pytest.approx(5 / 3 / 8)
    assert record["complete"]
    assert not record["failed_rows"]
    assert not record["reached"]


def test_the_kernel_alone_gives_the_codes_of_the_whole() -> None:
    x = torch.randn(3, 32)
    fmt, stream = parse_format("int8"), lb.Stream(seed=1)
    assert isinstance(fmt, IntFormat)
    for granularity in (lb.PerTensor(), lb.PerAxis(0)):
        scale = lb.Quantizer(fmt, granularity=granularity)(x).scale
        launch = bench_quantisers._kernel(x, scale, granularity, fmt, lb.Rounding(), stream)
        launch()
        expected = bench_quantisers.to_codes(x, scale, None, granularity, fmt, lb.Rounding(), None)
        assert torch.equal(launch.args[-1].reshape(3, 32), expected)


def test_the_shortest_round_is_timed() -> None:
    assert 0 < bench_quantisers.shortest(lambda: sum(range(100)), "cpu", 5) < 1
    calls: list[int] = []
    assert bench_quantisers.shortest(lambda: calls.append(0), "cpu", 5, launches=4) < 1
    assert len(calls) == 3 + 5 * 4
