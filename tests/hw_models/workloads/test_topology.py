from pathlib import Path

import pytest

import lowbit_sim as lb
from hw_models.workloads import WorkloadError, read_workload
from lowbit_sim.trace import GemmEvent

HEADER = "Layer name, IFMAP Height, IFMAP Width, Filter Height, Filter Width, Channels, Num Filter, Strides,"


@pytest.fixture
def topology(tmp_path: Path):
    def write(*lines: str, header: str = HEADER) -> Path:
        path = tmp_path / "net.csv"
        path.write_text("\n".join([header, *lines]) + "\n")
        return path

    return write


def sizes(path: Path, **options) -> list[tuple[str, str, int, int, int]]:
    return [(e.layer, e.role, e.M, e.N, e.K) for e in read_workload(path, **options).gemms]


def test_alexnets_layers_are_scalesims_gemms(topology) -> None:
    """M, N and K as SCALE-Sim 3.0.0 unfolds its own alexnet.csv; the first output is rounded up, 54.25 to 55."""
    path = topology("Conv1, 224, 224, 11, 11, 3, 96, 4,", "Conv2, 31, 31, 5, 5, 96, 256, 1,")
    assert sizes(path) == [
        ("Conv1", "output", 55 * 55, 96, 11 * 11 * 3),
        ("Conv2", "output", 27 * 27, 256, 5 * 5 * 96),
    ]


def test_two_strides_and_the_column_of_version_3(topology) -> None:
    header = HEADER.rstrip(",") + " Height, Strides Width, Sparsity,"
    [event] = read_workload(topology("a, 9, 9, 3, 3, 2, 4, 2, 1, 1:1,", header=header)).gemms
    assert event.conv is not None
    assert (event.conv.out_height, event.conv.out_width, event.conv.stride) == (4, 7, (2, 1))


def test_a_batch_multiplies_the_rows(topology) -> None:
    path = topology("a, 8, 8, 3, 3, 2, 4, 1,")
    assert sizes(path, batch=5) == [("a", "output", 5 * 36, 4, 18)]


def test_a_training_step(topology) -> None:
    path = topology("a, 8, 8, 3, 3, 2, 4, 1,", "b, 6, 6, 1, 1, 4, 3, 2,")
    spec = lb.OpSpec.uniform(lb.INT8)
    trace = read_workload(path, spec=spec, training=True)
    assert [(e.layer, e.role) for e in trace.gemms] == [
        *(("a", "output"), ("b", "output"), ("b", "grad_input"), ("b", "grad_weight"), ("a", "grad_weight"))
    ]
    update = trace.vectors[-1]
    assert (update.kind, update.elements) == ("optimizer_update", 2 * 9 * 4 + 4 * 3)
    assert [e.kind for e in trace.vectors].count("quantize") == 2 * 2 + 2
    assert isinstance(trace.events[-2], lb.VectorEvent)
    native = read_workload(path, training=True)
    assert all(isinstance(e, GemmEvent) for e in native.events[:-1])
    assert native.macs == trace.macs


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a, 8, 8, 3, 3, 2,", r"net.csv, line 2: a layer has a name and IFMAP Height.*got 6 cells"),
        ("a, 8, 8, 3, x, 2, 4, 1,", r"line 2: Filter Width is a whole number, got 'x'"),
        ("a, 8, 8, 3, 3, 0, 4, 1,", r"line 2: Channels must be at least 1, got 0"),
        ("a, 8, 8, 9, 3, 2, 4, 1,", r"line 2: a filter of 9x3 does not fit into an input of 8x8"),
        ("a, 8, 8, 3, 3, 2, 4, 1, 2:4,", r"line 2: sparse weights \(2:4\)"),
        ("a, 8, 8, 3, 3, 2, 4, 1, 1, 1,", r"line 2: one or two strides follow"),
    ],
)
def test_lines_that_are_no_layer(topology, line, message) -> None:
    with pytest.raises(WorkloadError, match=message):
        read_workload(topology(line))


def test_files_that_are_no_workload(topology, tmp_path) -> None:
    with pytest.raises(WorkloadError, match=r"no layer under the header"):
        read_workload(topology())
    with pytest.raises(WorkloadError, match=r"line 1: neither the header of a topology"):
        read_workload(topology(header="a, b"))
    with pytest.raises(WorkloadError, match=r"a workload is .* got \.json"):
        read_workload(tmp_path / "net.json")
    with pytest.raises(FileNotFoundError):
        read_workload(tmp_path / "missing.csv")
    with pytest.raises(WorkloadError, match="at least one sample, got 0"):
        read_workload(topology("a, 8, 8, 3, 3, 2, 4, 1,"), batch=0)
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(WorkloadError, match="not a text file"):
        read_workload(tmp_path / "binary.csv")
