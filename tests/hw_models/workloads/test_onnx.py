"""ONNX models, against the same model of torch that runs."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import lowbit_sim as lb
from hw_models.workloads import WorkloadError, read_workload
from lowbit_sim.trace import GemmEvent, WorkloadTrace
from lowbit_sim.training.workload import trace_training_step

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

SPEC = lb.OpSpec.uniform(lb.INT8, gradient_rounding=lb.Rounding("stochastic", random_bits=8))


def weight(name: str, *shape: int):
    return numpy_helper.from_array(np.zeros(shape, dtype=np.float32), name)


def value(name: str, *shape: int | str):
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape))


def saved(path: Path, nodes, inputs, outputs, weights) -> Path:
    graph = helper.make_graph(nodes, "net", inputs, outputs, initializer=weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)
    return path


@pytest.fixture
def network(tmp_path: Path) -> Path:
    """A strided convolution, a residual depthwise one, a pool and a linear layer."""
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["a"], "stem", strides=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"], "relu"),
        helper.make_node("Conv", ["b", "w2"], ["c"], "depthwise", group=4, pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["b", "c"], ["d"], "add"),
        helper.make_node("MaxPool", ["d"], ["e"], "pool", kernel_shape=[4, 4]),
        helper.make_node("Flatten", ["e"], ["f"], "flatten"),
        helper.make_node("Gemm", ["f", "w3", "bias"], ["y"], "head", transB=1),
    ]
    weights = [weight("w1", 4, 3, 3, 3), weight("w2", 4, 1, 3, 3), weight("w3", 5, 4), weight("bias", 5)]
    return saved(
        tmp_path / "net.onnx", nodes, [value("x", "batch", 3, 8, 8)], [value("y", "batch", 5)], weights
    )


class Twin(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, stride=2, padding=1, bias=False)
        self.depthwise = nn.Conv2d(4, 4, 3, padding=1, groups=4, bias=False)
        self.head = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        b = F.relu(self.stem(x))
        return self.head(F.max_pool2d(b + self.depthwise(b), 4).flatten(1))


def work(trace: WorkloadTrace) -> list[tuple]:
    """What every event moves and keeps, in any order; a loss is no part of an ONNX model."""
    found = []
    for e in trace.events:
        if isinstance(e, GemmEvent):
            found.append((e.role, e.layer, e.M, e.N, e.K, e.count, e.lhs.format, e.kept_bytes, str(e.conv)))
        elif e.kind != "loss":
            held = (e.parameter_bytes, e.gradient_bytes, e.state_bytes)
            found.append(
                (e.kind, e.elements, e.read_bytes, e.write_bytes, e.random_bits, e.kept_bytes, *held)
            )
    return sorted(found, key=str)


@pytest.mark.parametrize("spec", [None, SPEC], ids=["native", "int8"])
def test_a_training_step_is_that_of_the_model_of_torch(network: Path, spec: lb.OpSpec | None) -> None:
    model = lb.convert(Twin(), [lb.Rule("*", spec)])
    x, targets = torch.empty(2, 3, 8, 8, device="meta"), torch.empty(2, dtype=torch.int64, device="meta")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    traced = trace_training_step(model, x, targets, optimizer)
    assert work(read_workload(network, spec=spec, training=True, batch=2)) == work(traced)


class Add(nn.Module):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return x + y


class ModularTwin(nn.Module):
    """The network in modules, each of whose results a machine with 16-bit activations rounds."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, stride=2, padding=1, bias=False)
        self.relu = nn.ReLU()
        self.depthwise = nn.Conv2d(4, 4, 3, padding=1, groups=4, bias=False)
        self.add = Add()
        self.pool = nn.MaxPool2d(4)
        self.head = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        b = self.relu(self.stem(x))
        return self.head(self.pool(self.add(b, self.depthwise(b))).flatten(1))


def cast(rounding: lb.Rounding | None = None) -> lb.Quantizer:
    return lb.Quantizer(lb.parse_format("bf16"), rounding=rounding or lb.Rounding(), scale=lb.FixedScale(1.0))


BF16 = cast()
ACTIVATIONS = {
    "all": lb.ElementwiseSpec(output=BF16, grad_input=BF16, grad_output=BF16),
    "stochastic": lb.ElementwiseSpec(
        output=cast(lb.Rounding("stochastic", random_bits=8)), grad_input=BF16, grad_output=BF16
    ),
    "results": lb.ElementwiseSpec(output=BF16),
    "gradients_as_written": lb.ElementwiseSpec(grad_input=BF16),
}
SPECS_16 = {
    "int8": SPEC,
    "mxfp8": lb.OpSpec.uniform(lb.parse_format("mxfp8_e4m3")),  # float sums are the result as they are
    "native_gradients": lb.OpSpec(output=SPEC.output, grad_input=None, grad_weight=None),
}


@pytest.mark.parametrize("activations", ACTIVATIONS.values(), ids=ACTIVATIONS)
@pytest.mark.parametrize("spec", SPECS_16.values(), ids=SPECS_16)
def test_activations_of_16_bits_are_those_of_the_model_of_torch(
    network: Path, spec: lb.OpSpec, activations: lb.ElementwiseSpec
) -> None:
    model = lb.convert(ModularTwin(), [lb.Rule("*", spec, activations)])
    x, targets = torch.empty(2, 3, 8, 8, device="meta"), torch.empty(2, dtype=torch.int64, device="meta")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    traced = trace_training_step(model, x, targets, optimizer)
    read = read_workload(network, spec=spec, training=True, batch=2, activations=activations)
    assert work(read) == work(traced)


def test_activations_that_take_passes_of_their_own_are_refused(network: Path) -> None:
    scaled = lb.ElementwiseSpec(output=lb.Quantizer(lb.INT8))
    with pytest.raises(WorkloadError, match=r"activations.output = .*priced with activations that are cast"):
        read_workload(network, spec=SPEC, batch=2, activations=scaled)
    two = lb.ElementwiseSpec(grad_input=BF16, grad_output=cast(lb.Rounding("stochastic", random_bits=8)))
    with pytest.raises(WorkloadError, match="one format for both"):
        read_workload(network, spec=SPEC, batch=2, activations=two)


def test_a_forward_pass_keeps_nothing(network: Path) -> None:
    trace = read_workload(network, batch=2)
    assert [e.layer for e in trace.events if isinstance(e, GemmEvent)] == ["stem", "depthwise", "head"]
    assert {e.role for e in trace.gemms} == {"output"}
    assert not any(e.kept_bytes for e in trace.events)


def test_a_dropout_draws_bits_in_training_alone(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"], "fc"),
        helper.make_node("Dropout", ["h"], ["y"], "dropout"),
    ]
    path = saved(tmp_path / "d.onnx", nodes, [value("x", 3, 4)], [value("y", 3, 5)], [weight("w", 4, 5)])
    drawn = [sum(e.random_bits for e in read_workload(path, training=t).vectors) for t in (True, False)]
    assert drawn == [3 * 5 * 32, 0]


def test_a_forward_pass_reads_a_batch_norm_once_and_has_no_dropout(tmp_path: Path) -> None:
    parameters = ["scale", "shift", "mean", "var"]
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], "conv"),
        helper.make_node("BatchNormalization", ["a", *parameters], ["b"], "norm"),
        helper.make_node("Dropout", ["b"], ["y"], "dropout"),
    ]
    weights = [weight("w", 4, 3, 1, 1), *(weight(name, 4) for name in parameters)]
    path = saved(tmp_path / "n.onnx", nodes, [value("x", 2, 3, 5, 5)], [value("y", 2, 4, 5, 5)], weights)
    size = 4 * 2 * 4 * 5 * 5
    read = {t: [e.read_bytes for e in read_workload(path, training=t).vectors] for t in (True, False)}
    assert read[False] == [size]
    assert read[True][:2] == [2 * size, size]


def test_products_of_activations_are_counted_by_the_batch(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["q"], "project"),
        helper.make_node("Transpose", ["q"], ["k"], "transpose", perm=[0, 2, 1]),
        helper.make_node("MatMul", ["q", "k"], ["s"], "scores"),
        helper.make_node("Softmax", ["s"], ["y"], "softmax"),
    ]
    path = saved(
        tmp_path / "a.onnx", nodes, [value("x", 2, 3, 4)], [value("y", 2, 3, 3)], [weight("w", 4, 5)]
    )
    gemms = read_workload(path, training=True).gemms
    assert [(e.layer, e.role, e.count, e.M, e.N, e.K) for e in gemms] == [
        ("project", "output", 1, 6, 5, 4),
        ("scores", "output", 2, 3, 3, 5),
        ("scores", "grad_input", 2, 3, 5, 3),
        ("scores", "grad_weight", 2, 3, 5, 3),
        ("project", "grad_weight", 1, 5, 4, 6),
    ]


def test_an_open_shape_asks_for_the_batch(network: Path) -> None:
    with pytest.raises(
        WorkloadError, match=r"node stem \(Conv\): the shape of 'x' is not known.*give the batch"
    ):
        read_workload(network)


def test_a_batch_that_the_model_fixes_otherwise_is_refused(tmp_path: Path) -> None:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"], "fc")]
    path = saved(tmp_path / "f.onnx", nodes, [value("x", 4, 3)], [value("y", 4, 5)], [weight("w", 3, 5)])
    with pytest.raises(
        WorkloadError,
        match=r"f.onnx: a batch of 16 .* fixed: 'x' has 4. Export .* leave the batch \(--batch\) out",
    ):
        read_workload(path, batch=16)
    assert read_workload(path, batch=4).events == read_workload(path).events


def test_an_operator_of_unknown_cost_is_refused_by_name(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"], "fc"),
        helper.make_node("ConvTranspose", ["a", "k"], ["y"], "up"),
    ]
    weights = [weight("w", 4, 4), weight("k", 3, 2, 2, 2)]
    path = saved(tmp_path / "up.onnx", nodes, [value("x", 1, 3, 4, 4)], [value("y", 1, 2, 5, 5)], weights)
    with pytest.raises(WorkloadError, match=r"node up \(ConvTranspose\): its cost is not known"):
        read_workload(path)


def test_files_that_are_no_model(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_workload(tmp_path / "missing.onnx")
    (tmp_path / "bad.onnx").write_bytes(b"not a model")
    with pytest.raises(WorkloadError, match=r"bad.onnx: not an ONNX model"):
        read_workload(tmp_path / "bad.onnx")
    nodes = [helper.make_node("Relu", ["x"], ["y"], "relu")]
    path = saved(tmp_path / "relu.onnx", nodes, [value("x", 2)], [value("y", 2)], [])
    with pytest.raises(WorkloadError, match="no node multiplies"):
        read_workload(path)


def test_without_the_package_the_error_names_it(network: Path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ModuleNotFoundError, match="needs the package onnx.*pip install onnx"):
        read_workload(network)
