from pathlib import Path

import pytest

import lowbit_sim as lb
from hw_models.workloads import WorkloadError, read_workload

SPEC = lb.OpSpec.uniform(lb.INT8)


@pytest.fixture
def written(tmp_path: Path):
    def write(text: str, name: str = "list.csv") -> Path:
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


def test_a_list_with_every_column(written) -> None:
    path = written(
        "# attention of one block\nlayer,count,K,N,M,role,lhs,rhs\nq, 12, 768, 64, 512, output, int8, int4\n"
        "v,1,7,6,5,grad_weight,,\n"
    )
    first, second = read_workload(path, spec=SPEC).gemms
    assert (first.layer, first.count, first.M, first.N, first.K) == ("q", 12, 512, 64, 768)
    assert (first.lhs.format, first.rhs.format) == ("int8", "int4")
    assert (second.role, second.M, second.N, second.K, second.lhs.format) == ("grad_weight", 5, 6, 7, "int8")


def test_scalesims_form_and_a_toml_list_are_the_same(written) -> None:
    table = "[[gemm]]\nM = 2\nN = 3\nK = 4\nlayer = 'fc'\n"
    lists = [written("Layer, M, N, K,\nfc, 2, 3, 4,\n"), written(table, "list.toml")]
    assert read_workload(lists[0], spec=SPEC).events == read_workload(lists[1], spec=SPEC).events


def test_gemms_without_names_are_called_by_their_place(written) -> None:
    lists = [written("M,N,K\n\n2,3,4\n5,6,7\n"), written("[[gemm]]\nM = 2\nN = 3\nK = 4\n", "list.toml")]
    names = [[gemm.layer for gemm in read_workload(path, spec=SPEC).gemms] for path in lists]
    assert names == [["line 3", "line 4"], ["[[gemm]] 1"]]


def test_a_training_step_has_both_gradients(written) -> None:
    trace = read_workload(written("M,N,K\n2,3,4\n"), spec=SPEC, training=True)
    assert [(e.role, e.M, e.N, e.K) for e in trace.gemms] == [
        *(("output", 2, 3, 4), ("grad_input", 2, 4, 3), ("grad_weight", 3, 4, 2))
    ]
    assert trace.vectors[-1].elements == 12


def test_formats_without_a_machine(written) -> None:
    [gemm] = read_workload(written("M,N,K,lhs,rhs\n2,3,4,int8,fp8_e4m3fn\n")).gemms
    assert (gemm.lhs.format, gemm.rhs.format, gemm.overflow) == ("int8", "fp8_e4m3fn", "float")


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("M,N,K,kount\n", {}, r"line 1: unknown column 'kount'.*did you mean 'count'"),
        ("M,N,K\n", {}, r"no GEMM under the header"),
        ("M,N,K\n1,2\n", {}, r"line 2: K is missing"),
        ("M,N,K\n1,2,3,4\n", {}, r"line 2: 4 cells under 3 columns"),
        ("M,N,K\n1,2,-3\n", {}, r"line 2: K must be at least 1, got -3"),
        ("M,N,K,role\n1,2,3,dgrad\n", {}, r"line 2: unknown role 'dgrad'"),
        ("M,N,K,lhs\n1,2,3,int9999\n", {"spec": SPEC}, r"line 2: .*int9999"),
        ("M,N,K,lhs\n1,2,3,int8\n", {}, r"line 2: .*both lhs and rhs"),
        ("M,N,K,lhs\n1,2,3,fp8_e5m2\n", {"spec": SPEC}, r"line 2: lhs has format fp8_e5m2"),
        ("M,N,K,role\n1,2,3,grad_input\n", {"training": True}, r"line 2: a training step .*--forward-only"),
        ("M,N,K\n1,2,3\n", {"batch": 4}, r"leave the batch out"),
    ],
)
def test_lists_that_can_not_be(written, text, options, message) -> None:
    with pytest.raises(WorkloadError, match=message):
        read_workload(written(text), **options)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("M = ", "list.toml: "),
        ("[[gem]]\nM = 1\n", "unknown key 'gem'.*did you mean 'gemm'"),
        ("gemm = 3\n", r"tables \[\[gemm\]\]"),
        ("[[gemm]]\nM = 1\nN = 2\nK = 3.5\n", r"\[\[gemm\]\] 1: K is a whole number of at least 1, got 3.5"),
        ("[[gemm]]\nM = 1\nN = 2\nK = true\n", r"K is a whole number of at least 1, got True"),
        ("[[gemm]]\nM = 1\nN = 2\nK = 3\nrole = 1\n", "role is a name, got 1"),
        ("[[gemm]]\nM = 1\nN = 2\nK = 3\nlayers = 'a'\n", "unknown key 'layers'.*did you mean 'layer'"),
    ],
)
def test_toml_that_can_not_be(written, text, message) -> None:
    with pytest.raises(WorkloadError, match=message):
        read_workload(written(text, "list.toml"))
