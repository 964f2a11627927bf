"""What the nodes of an ONNX model cost: layers that multiply, passes over tensors, or nothing."""

from __future__ import annotations

import math
from dataclasses import replace

from hw_models.workloads.errors import WorkloadError
from hw_models.workloads.layer import Layer, conv_layer
from hw_models.workloads.onnx_graph import Graph, Node
from hw_models.workloads.passes import Pass
from lowbit_sim.numerics.suggest import unknown
from lowbit_sim.trace import ConvGeometry

_ACTIVATIONS = {
    **dict.fromkeys(
        ("Relu", "Sigmoid", "Tanh", "Softmax", "LogSoftmax", "Elu", "LeakyRelu", "Selu", "Exp", "Sqrt"),
        "output",
    ),
    **dict.fromkeys(("HardSigmoid", "Reciprocal", "Max", "Min"), "output"),
    **dict.fromkeys(
        ("Gelu", "HardSwish", "Mish", "Softplus", "Erf", "Log", "Pow", "Abs", "PRelu", "Swish"), "input"
    ),
    **dict.fromkeys(("Clip", "Dropout", "Where", "ThresholdedRelu"), "mask"),
    **dict.fromkeys(("Mul", "Div"), "factors"),
    **dict.fromkeys(("Add", "Sub", "Sum"), "sum"),
    **dict.fromkeys(("Neg", "Pad", "Concat", "ReduceMean", "ReduceSum", "Resize", "Cast", "Tile"), "linear"),
    **dict.fromkeys(("Transpose", "Slice", "Expand", "DepthToSpace", "SpaceToDepth"), "linear"),
}
_NORMS = ("BatchNormalization", "LayerNormalization", "InstanceNormalization", "GroupNormalization")
_NORMS += (
    "RMSNormalization",
    "LpNormalization",
    "LRN",
    "MeanVarianceNormalization",
    "SimplifiedLayerNormalization",
)

#: Operator: (kind of vector work, what it reads and keeps).
PASSES: dict[str, tuple[str, str]] = {
    **{name: ("activation", work) for name, work in _ACTIVATIONS.items()},
    **dict.fromkeys(_NORMS, ("batch_norm", "norm")),
    **dict.fromkeys(("MaxPool", "GlobalMaxPool"), ("pooling", "max")),
    **dict.fromkeys(("AveragePool", "GlobalAveragePool", "LpPool"), ("pooling", "linear")),
}

#: Random bits of a dropout's decision about one element: torch's, which compares a uniform float32.
DECISION_BITS = 32

#: Operators that only look at a tensor in another way.
FREE = ("Identity", "Flatten", "Reshape", "Squeeze", "Unsqueeze", "Split", "Constant", "Shape")

LAYERS = ("Conv", "Gemm", "MatMul")

#: The inputs of each operator that are parameters where they are constant.
PARAMETERS = {
    "Conv": (1, 2),
    "Gemm": (1, 2),
    "MatMul": (0, 1),
    "PRelu": (1,),
    **dict.fromkeys(_NORMS, (1, 2)),
}


def layer_of(node: Node, graph: Graph, input_gradient: bool) -> Layer:
    """The layer of a node of `LAYERS`.

    Raises:
        WorkloadError: Shapes that are not known, or that no layer has.
    """
    layer = {"Conv": _conv, "Gemm": _gemm, "MatMul": _matmul}[node.operator](node, graph, input_gradient)
    return replace(layer, bias=len(node.inputs) > 2 and bool(node.inputs[2]))  # an input left out has no name


def pass_of(node: Node, graph: Graph) -> Pass | None:
    """The passes of any other node; None for one that costs nothing.

    Raises:
        WorkloadError: An operator that is not known.
    """
    output = node.outputs[0]
    if node.operator in FREE or output not in graph.floats:
        return None
    if node.operator not in PASSES:
        known = (*LAYERS, *FREE, *PASSES)
        raise WorkloadError(
            f"{node.where}: its cost is not known: {unknown('operator', node.operator, known)}"
        )
    kind, work = PASSES[node.operator]
    names = [n for n in node.inputs if n in graph.floats and n not in graph.constants]
    inputs = [
        math.prod(graph.shape(node, n)) for n in (names[:1] if work == "norm" else dict.fromkeys(names))
    ]
    elements = math.prod(graph.shape(node, output))
    if work == "factors" and len(names) < 2:
        work = "linear"  # by a constant
    if work == "sum" and any(n != elements for n in inputs):
        work = "linear"  # a gradient is summed over the axes that were broadcast
    drawn = elements * DECISION_BITS if node.operator == "Dropout" else 0
    return Pass(
        name=node.name,
        kind=kind,
        work=work,
        inputs=inputs or [0],
        output=elements,
        random_bits=drawn,
        sign=node.operator == "Relu",
    )


def _conv(node: Node, graph: Graph, input_gradient: bool) -> Layer:
    x, w = graph.shape(node, node.inputs[0]), graph.shape(node, node.inputs[1])
    y, axes = graph.shape(node, node.outputs[0]), len(w) - 2
    groups = int(node.attributes.get("group", 1))
    if len(x) != len(w) or x[1] != w[1] * groups or w[0] % groups:
        raise WorkloadError(f"{node.where}: input {list(x)} and weight {list(w)} do not fit {groups} groups")
    if axes > 2:
        raise WorkloadError(f"{node.where}: convolutions of one and two axes are known, not of {axes}")
    lift = (1,) * (2 - axes)
    stride, dilation = ((*lift, *node.attributes.get(name, (1,) * axes)) for name in ("strides", "dilations"))
    (height, width), (out_height, out_width), kernel = ((*lift, *s) for s in (x[2:], y[2:], w[2:]))
    geometry = ConvGeometry(
        batch=x[0],
        in_channels=x[1],
        in_height=height,
        in_width=width,
        out_channels=w[0],
        out_height=out_height,
        out_width=out_width,
        kernel_height=kernel[0],
        kernel_width=kernel[1],
        stride=(stride[0], stride[1]),
        dilation=(dilation[0], dilation[1]),
        groups=groups,
    )
    return conv_layer(node.name, geometry, input_gradient=input_gradient)


def _gemm(node: Node, graph: Graph, input_gradient: bool) -> Layer:
    a, b = (graph.shape(node, name) for name in node.inputs[:2])
    rows, inner = reversed(a) if node.attributes.get("transA", 0) else a
    _, columns = reversed(b) if node.attributes.get("transB", 0) else b
    return Layer(
        name=node.name,
        M=rows,
        N=columns,
        K=inner,
        input_gradient=input_gradient,
    )


def _matmul(node: Node, graph: Graph, input_gradient: bool) -> Layer:
    a, b = (graph.shape(node, name) for name in node.inputs[:2])
    left, right = (1, *a) if len(a) == 1 else a, (*b, 1) if len(b) == 1 else b
    count = 1 if len(right) == 2 else math.prod(graph.shape(node, node.outputs[0])) // (left[-2] * right[-1])
    return Layer(
        name=node.name,
        M=math.prod(left[:-1]) if len(right) == 2 else left[-2],
        N=right[-1],
        K=left[-1],
        count=count,
        input_gradient=input_gradient,
    )
