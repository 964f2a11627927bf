"""The vectors of a layer's forward and backward pass.

Everything comes from the definition: the GEMMs run on the `reference` backend, the accumulators are those of
`arith/additions.py` and `arith/float_additions.py`. `schema.py` says what the keys mean.
"""

from __future__ import annotations

import copy
from typing import Any, cast

from torch import Tensor, nn

from lowbit_sim.arith.mac import MacUnit
from lowbit_sim.arith.spec import GemmSpec, OpSpec
from lowbit_sim.nn.convert import convert
from lowbit_sim.nn.emulation import EmulatedLayer
from lowbit_sim.nn.modules import native_contraction
from lowbit_sim.nn.rules import Rule
from lowbit_sim.ops.backend import using_backend
from lowbit_sim.ops.capture import capture
from lowbit_sim.ops.contraction import Contraction
from lowbit_sim.ops.operand import CallSite
from lowbit_sim.study.errors import StudyError
from lowbit_sim.study.vectors import number_schema, schema
from lowbit_sim.study.vectors.digits import float32s
from lowbit_sim.study.vectors.dot import Trace
from lowbit_sim.study.vectors.gemm import GemmMaker
from lowbit_sim.study.vectors.numbers import hash_of, product_table
from lowbit_sim.study.vectors.sample import Sample

#: Results of each group whose accumulators are shown unless told otherwise.
TRACED = 64


def layer_vectors(
    sample: Sample, spec: OpSpec, *, seed: int = 0, trace: Trace = "additions", traced: int = TRACED
) -> schema.LayerVectors:
    """The vectors of a layer's forward and backward pass.

    Args:
        sample: The layer and its tensors.
        spec: Its numerics: three emulated GEMMs, without transforms and without scales that depend on past steps.
        seed: Seed of the random bits; step and site are 0.
        trace: Accumulators after every addition, after every chunk, or not at all.
        traced: Of how many results of each group.

    Raises:
        StudyError: Numerics that are not of that kind.
    """
    from importlib.metadata import version

    gemm_specs = _checked(spec)
    model = nn.Sequential(_without_bias(sample.layer))
    emulated = cast(EmulatedLayer, convert(model, [Rule("*", spec)], seed=seed).get_submodule("0"))
    at = CallSite(layer=sample.name, seed=seed, step=0, site=emulated.emulation.site)
    x = sample.x.clone().requires_grad_()
    weight = cast(Tensor, emulated.weight)
    with capture() as kept, using_backend("reference"):
        output = emulated(x)
        output.backward(sample.grad_output)
    layout = native_contraction(emulated, x, output)
    assert layout is not None
    assert x.grad is not None
    assert weight.grad is not None
    tensors = {"input": x.detach(), "weight": weight.detach(), "grad_output": sample.grad_output}
    maker = GemmMaker(layout=layout, tensors=tensors, at=at, trace=trace, traced=traced)
    return schema.LayerVectors(
        lowbit_sim=version("lowbit-sim"),
        layer=_layer(sample, layout),
        trace=trace,
        product_tables=_product_tables(gemm_specs),
        input=_real(tensors["input"]),
        weight=_real(tensors["weight"]),
        grad_output=_real(tensors["grad_output"]),
        output=_real(output),
        grad_input=_real(x.grad),
        grad_weight=_real(weight.grad),
        gemms=[maker.make(gemm) for gemm in kept.gemms],
    )


def _without_bias(layer: nn.Module) -> nn.Module:
    layer = copy.deepcopy(layer)
    layer.register_parameter("bias", None)
    return layer


def _checked(spec: OpSpec) -> list[GemmSpec]:
    gemms = {"output": spec.output, "grad_input": spec.grad_input, "grad_weight": spec.grad_weight}
    for role, gemm in gemms.items():
        if gemm is None:
            raise StudyError(f"{role} runs in native float32, which has no accumulators to show")
        if gemm.transform is not None:
            raise StudyError(
                f"{role} transforms its operands ({gemm.transform}) in float32 before they are quantised: vectors "
                "hold the layer's tensors, and not a transform's own arithmetic; leave the transform out"
            )
        if gemm.lhs.is_stateful or gemm.rhs.is_stateful:
            raise StudyError(
                f"{role} has scales that depend on past steps, but vectors are of a single one: take a scale rule "
                "without memory, or FixedScale with the scale of the step"
            )
    return [gemm for gemm in gemms.values() if gemm is not None]


def _product_tables(gemms: list[GemmSpec]) -> dict[str, number_schema.ProductTable]:
    tables = [g.mac.products for g in gemms if isinstance(g.mac, MacUnit) and g.mac.products is not None]
    return {hash_of(table): product_table(table) for table in dict.fromkeys(tables)}


def _layer(sample: Sample, layout: Contraction) -> schema.Layer:
    if layout.conv is None:
        return schema.Layer(name=sample.name, kind="linear")
    window = cast(Any, layout).window
    return schema.Layer(
        name=sample.name,
        kind="conv2d",
        kernel=list(window.kernel),
        stride=list(window.stride),
        dilation=list(window.dilation),
        padding=list(window.padding),
        groups=window.groups,
    )


def _real(x: Tensor) -> schema.RealTensor:
    return schema.RealTensor(shape=list(x.shape), float32=float32s(x))
