"""An ONNX model as nodes with known shapes. `onnx` is imported here alone, where a model is read.

Source of the operators' meaning: the ONNX operator schemas, https://onnx.ai/onnx/operators/.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hw_models.workloads.errors import WorkloadError

#: ONNX's numbers of its floating-point element types: float, float16, double, bfloat16.
_FLOATS = (1, 10, 11, 16)


@dataclass(frozen=True, kw_only=True)
class Node:
    """A node of the graph.

    Attributes:
        where: File and node, for messages.
        name: Its name, or its operator and number.
        operator: What it does.
        inputs, outputs: Names of tensors; "" for an optional one that is not there.
        attributes: Its attributes.
    """

    where: str
    name: str
    operator: str
    inputs: Sequence[str]
    outputs: Sequence[str]
    attributes: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Graph:
    """A model.

    Attributes:
        nodes: In the order of execution, without those that compute with constants alone.
        shapes: Sizes of the tensors whose shapes are known.
        floats: The tensors of floating-point numbers.
        constants: The tensors that no input of the model enters: weights and what is computed of them.
    """

    nodes: Sequence[Node]
    shapes: dict[str, tuple[int, ...]]
    floats: frozenset[str]
    constants: frozenset[str]

    def shape(self, node: Node, tensor: str) -> tuple[int, ...]:
        """The sizes of one of a node's tensors.

        Raises:
            WorkloadError: Nothing says them.
        """
        if tensor not in self.shapes:
            raise WorkloadError(
                f"{node.where}: the shape of {tensor!r} is not known: export the model with fixed shapes, or give "
                "the batch if only its first axis is open"
            )
        return self.shapes[tensor]


def read_graph(path: Path, batch: int | None) -> Graph:
    """Read a model and infer its shapes.

    Args:
        path: The file.
        batch: The size of the first axis of inputs that leave it open.

    Raises:
        FileNotFoundError: No such file.
        ModuleNotFoundError: The package `onnx` is not installed.
        WorkloadError: Not an ONNX model, one whose shapes contradict each other, or a batch for a model whose inputs
            all have another fixed size of the first axis.
    """
    try:
        import onnx
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"reading {path} needs the package onnx, which is not installed: pip install onnx"
        ) from error
    if not path.exists():
        raise FileNotFoundError(f"no such file: {path}")
    try:
        model = onnx.load(str(path), load_external_data=False)
        if batch is not None:
            _set_batch(path, model, batch)
        model = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    except WorkloadError:
        raise
    except Exception as error:  # onnx raises protobuf's, its own and RuntimeError
        raise WorkloadError(f"{path}: not an ONNX model that can be read: {error}") from None
    return _graph(path, model.graph, onnx.helper.get_attribute_value)


def _set_batch(path: Path, model: Any, batch: int) -> None:
    """Give the open first axes of the inputs their size; a model without one must have that size already."""
    initialized = {tensor.name for tensor in model.graph.initializer}
    dims = {v.name: v.type.tensor_type.shape.dim for v in model.graph.input if v.name not in initialized}
    firsts = {name: dim[0] for name, dim in dims.items() if dim}
    open_axes = [axis for axis in firsts.values() if not axis.HasField("dim_value")]
    fixed = {name: axis.dim_value for name, axis in firsts.items() if axis.HasField("dim_value")}
    if not open_axes and batch not in fixed.values():
        sizes = ", ".join(f"{name!r} has {size}" for name, size in fixed.items()) or "there is none"
        raise WorkloadError(
            f"{path}: a batch of {batch} needs an input whose first axis is open, but it is fixed: {sizes}. Export "
            "the model with a dynamic first axis, or leave the batch (--batch) out"
        )
    for axis in open_axes:
        axis.dim_value = batch


def _graph(path: Path, graph: Any, attribute_value: Any) -> Graph:
    shapes: dict[str, tuple[int, ...]] = {t.name: tuple(t.dims) for t in graph.initializer}
    floats = {t.name for t in graph.initializer if t.data_type in _FLOATS}
    for value in (*graph.input, *graph.value_info, *graph.output):
        tensor = value.type.tensor_type
        if tensor.elem_type in _FLOATS:
            floats.add(value.name)
        if tensor.HasField("shape") and all(d.HasField("dim_value") for d in tensor.shape.dim):
            shapes[value.name] = tuple(d.dim_value for d in tensor.shape.dim)
    constants = {t.name for t in graph.initializer}
    nodes = []
    for number, n in enumerate(graph.node):
        if all(name in constants for name in n.input if name):
            constants.update(n.output)
            continue
        name = n.name or f"{n.op_type}_{number}"
        attributes = {a.name: attribute_value(a) for a in n.attribute}
        nodes.append(
            Node(
                where=f"{path}, node {name} ({n.op_type})",
                name=name,
                operator=n.op_type,
                inputs=tuple(n.input),
                outputs=tuple(n.output),
                attributes=attributes,
            )
        )
    return Graph(nodes=nodes, shapes=shapes, floats=frozenset(floats), constants=frozenset(constants))
