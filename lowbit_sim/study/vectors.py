"""Golden vectors: operands, accumulators and results of a layer's three GEMMs, for those who build the circuit.

Everything comes from the definition: the GEMMs run on the `reference` backend, the accumulators are those of
`arith/additions.py`. `vector_schema.py` says what the keys mean.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from torch import Tensor, nn

from lowbit_sim.arith.additions import Addition, additions
from lowbit_sim.arith.mac import MacUnit
from lowbit_sim.arith.spec import GemmSpec, OpSpec
from lowbit_sim.nn.convert import convert
from lowbit_sim.nn.emulation import EmulatedLayer
from lowbit_sim.nn.modules import native_contraction
from lowbit_sim.nn.rules import Rule
from lowbit_sim.numerics.encode import code_range
from lowbit_sim.numerics.formats import IntFormat
from lowbit_sim.numerics.random import draw
from lowbit_sim.ops.backend import using_backend
from lowbit_sim.ops.capture import CapturedGemm, capture
from lowbit_sim.ops.contraction import TENSORS, Contraction, Side
from lowbit_sim.ops.operand import CallSite, operand_stream, quantize_operand
from lowbit_sim.study import vector_schema as schema
from lowbit_sim.study.data import load
from lowbit_sim.study.errors import StudyError
from lowbit_sim.study.models import build

Trace = Literal["additions", "chunks", "none"]

TRACES: tuple[Trace, ...] = ("additions", "chunks", "none")

#: Sizes of a layer of random numbers: a few dozen elements.
DEFAULT_SIZES = {"linear": "2,3,4", "conv2d": "1,1,3,3,2,3"}

#: Results of each group whose accumulators are shown unless told otherwise.
TRACED = 64


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A layer with what a training step gave it: the input, and the gradient of its output.

    Attributes:
        name: Its name in the file.
        layer: An `nn.Linear` or `nn.Conv2d`.
        x: Its input.
        grad_output: The gradient of its output.
    """

    name: str
    layer: nn.Module
    x: Tensor
    grad_output: Tensor


def random_sample(kind: str, sizes: str, seed: int) -> Sample:
    """A layer of one of the `DEFAULT_SIZES` kinds with random numbers, from sizes with commas between.

    Raises:
        StudyError: Sizes that the layer does not take.
    """
    parts = sizes.split(",")
    numbers = [int(part) for part in parts if part.strip().isdecimal()]
    if len(numbers) != len(parts):
        raise StudyError(f"sizes are whole numbers with commas between, got {sizes!r}")
    return linear_sample(numbers, seed) if kind == "linear" else conv_sample(numbers, seed)


def linear_sample(sizes: Sequence[int], seed: int) -> Sample:
    """A linear layer with random numbers; sizes are those of its output GEMM, (M, N, K) = (batch, outputs, inputs).

    Raises:
        StudyError: Not three positive sizes.
    """
    _check_sizes(sizes, 3, "a linear layer takes M,N,K")
    rows, columns, inner = sizes
    return _random_sample("linear", lambda: nn.Linear(inner, columns, bias=False), (rows, inner), seed)


def conv_sample(sizes: Sequence[int], seed: int) -> Sample:
    """A convolution with random numbers, stride 1 and zeros all around that keep the image's size.

    Args:
        sizes: (N, C, H, W, O, R): images, channels, height, width, output channels, kernel size (odd).
        seed: Of the random numbers.

    Raises:
        StudyError: Not six positive sizes, or an even kernel.
    """
    _check_sizes(sizes, 6, "a convolution takes N,C,H,W,O,R")
    batch, channels, height, width, outputs, kernel = sizes
    if kernel % 2 == 0:
        raise StudyError(f"the kernel's size R is odd, so that zeros keep the image's size; got {kernel}")
    shape = (batch, channels, height, width)
    return _random_sample(
        "conv2d", lambda: nn.Conv2d(channels, outputs, kernel, padding=kernel // 2, bias=False), shape, seed
    )


def _check_sizes(sizes: Sequence[int], count: int, what: str) -> None:
    if len(sizes) != count or min(sizes, default=0) < 1:
        raise StudyError(f"{what}, whole numbers from 1 on; got {','.join(map(str, sizes))}")


def _random_sample(name: str, make: Any, shape: tuple[int, ...], seed: int) -> Sample:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layer, x = make(), torch.randn(shape)
        return Sample(name=name, layer=layer, x=x, grad_output=torch.randn_like(layer(x)))


def model_sample(model: str, path: str, spec: OpSpec, *, data: str, batch: int, seed: int) -> Sample:
    """A layer of a model in the first training step on a data set, every layer emulated.

    Args:
        model: One of `models.MODELS`.
        path: The layer's module path.
        spec: The numerics of all layers.
        data: A data set.
        batch: Images in the step, the first ones.
        seed: Seed of the initial weights.

    Raises:
        StudyError: An unknown model, data set or layer, or a batch without images.
    """
    if batch < 1:
        raise StudyError(f"a batch has at least one image, got {batch}")
    examples = load(data, limit=batch)
    native = build(model, examples.in_channels, examples.classes, examples.image_size, seed=seed)
    kinds = {n: m for n, m in native.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)}
    if path not in kinds:
        raise StudyError(f"{model} has no linear or convolution layer {path!r}; it has {', '.join(kinds)}")
    layer = kinds[path]
    emulated = convert(native, [Rule("*", spec)], seed=seed)
    seen: list[Tensor] = []

    def note(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        seen.append(inputs[0].detach().clone())
        output.register_hook(lambda g: seen.append(g.detach().clone()))

    emulated.get_submodule(path).register_forward_hook(note)
    images, targets = examples.train.inputs[:batch], examples.train.targets[:batch]
    nn.functional.cross_entropy(emulated(images), targets).backward()
    x, grad_output = seen
    return Sample(name=path, layer=layer, x=x, grad_output=grad_output)


def spec_of_options(options: dict[str, Any]) -> OpSpec:
    """The numerics of a layer from the keys of a study's table (`numerics_config.NumericsTable`), None for not given.

    Raises:
        StudyError: Keys that contradict each other, or values that can't be.
    """
    from pydantic import ValidationError

    from lowbit_sim.study.numerics_config import NumericsTable, op_spec

    try:
        table = NumericsTable(**{key: value for key, value in options.items() if value is not None})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise StudyError(f"{where + ': ' if where else ''}{first['msg']}") from None
    spec = op_spec(table)
    assert spec is not None  # `native` is not among the options
    return spec


def layer_vectors(
    sample: Sample, spec: OpSpec, *, seed: int = 0, trace: Trace = "additions", traced: int = TRACED
) -> schema.LayerVectors:
    """The vectors of a layer's forward and backward pass.

    Args:
        sample: The layer and its tensors.
        spec: Its numerics: three emulated GEMMs with integer MAC units, quantised in the tensors' own layout.
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
    maker = _Maker(layout=layout, tensors=tensors, at=at, trace=trace, traced=traced)
    return schema.LayerVectors(
        lowbit_sim=version("lowbit-sim"),
        layer=_layer(sample, layout),
        trace=trace,
        input=_real(tensors["input"]),
        weight=_real(tensors["weight"]),
        grad_output=_real(tensors["grad_output"]),
        output=_real(output.detach()),
        grad_input=_real(x.grad),
        grad_weight=_real(weight.grad),
        gemms=[maker.gemm(g, gemm_specs[g.role]) for g in kept.gemms],
    )


def _without_bias(layer: nn.Module) -> nn.Module:
    import copy

    layer = copy.deepcopy(layer)
    layer.register_parameter("bias", None)
    return layer


def _checked(spec: OpSpec) -> dict[str, GemmSpec]:
    gemms = {"output": spec.output, "grad_input": spec.grad_input, "grad_weight": spec.grad_weight}
    for role, gemm in gemms.items():
        if gemm is None:
            raise StudyError(f"{role} runs in native float32, which has no accumulators to show")
        if not isinstance(gemm.mac, MacUnit):
            raise StudyError(f"{role} accumulates in {gemm.mac}; vectors are of integer accumulators")
        if gemm.block or gemm.transform is not None or gemm.samples > 1:
            raise StudyError(
                f"{role} has block scales, a transform or several samples; vectors are of operands that are "
                "quantised once, in their own layout"
            )
        if gemm.lhs.is_stateful or gemm.rhs.is_stateful:
            raise StudyError(f"{role} has scales that depend on past steps; vectors are of a single one")
    return cast(dict[str, GemmSpec], gemms)


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


def _bits(x: Tensor) -> list[str]:
    """Float32 bit patterns in row-major order."""
    patterns = np.ascontiguousarray(x.detach().numpy(), dtype=np.float32).view(np.uint32)
    return [f"{int(p):08x}" for p in patterns.reshape(-1)]


def _real(x: Tensor) -> schema.RealTensor:
    return schema.RealTensor(shape=list(x.shape), float32=_bits(x))


def _hex(value: int, bits: int) -> str:
    """Two's complement of a width."""
    return f"{value & ((1 << bits) - 1):0{-(-bits // 4)}x}"


def _hexes(x: Tensor, bits: int) -> list[str]:
    return [_hex(v, bits) for v in x.reshape(-1).tolist()]


@dataclass(frozen=True, kw_only=True)
class _Maker:
    """Turns captured GEMMs into their part of the file."""

    layout: Contraction
    tensors: dict[str, Tensor]
    at: CallSite
    trace: Trace
    traced: int

    def gemm(self, kept: CapturedGemm, spec: GemmSpec) -> schema.Gemm:
        rows, columns, reduction = self.layout.sizes(kept.role)
        mac = cast(MacUnit, spec.mac)
        logs = [
            [additions(row, column, mac)[1] for row in a.tolist() for column in b.t().tolist()]
            for a, b in zip(kept.lhs, kept.rhs, strict=True)
        ]
        scale = math.prod(kept.lhs_scale[1:] + kept.rhs_scale, start=kept.lhs_scale[0])
        return schema.Gemm(
            role=cast(Any, kept.role),
            M=rows,
            N=columns,
            K=reduction,
            groups=len(kept.lhs),
            lhs=self._operand(kept, spec, "lhs"),
            rhs=self._operand(kept, spec, "rhs"),
            mac=_mac(mac),
            sum_bits=mac.value_bits,
            sums=[_hexes(s, mac.value_bits) for s in kept.sums],
            overflows=sum(step.overflowed for group in logs for log in group for step in log),
            scale=[_bits(s[:1] if (s == s[:1]).all() else s) for s in self._by_group(kept, scale)],
            results=[_bits(r) for r in self._by_group(kept, kept.result)],
            traced=[dot for g, group in enumerate(logs) for dot in self._dots(group, g, columns, mac)],
        )

    def _by_group(self, kept: CapturedGemm, tensor: Tensor) -> list[Tensor]:
        """A tensor that broadcasts against the result, as the groups' matrices [M N]."""
        rows, columns, _ = self.layout.sizes(kept.role)
        count, size = len(kept.lhs), rows * columns
        # Where each element of a matrix ends up: lay out the numbers of the elements as if they were results.
        numbers = torch.arange(count * size).reshape(count, rows, columns)
        places = self.layout.assemble(kept.role, list(numbers)).reshape(-1).to(torch.int64)
        matrices = torch.empty(count * size)
        matrices[places] = tensor.expand(kept.result.shape).reshape(-1)
        return list(matrices.reshape(count, size))

    def _operand(self, kept: CapturedGemm, spec: GemmSpec, side: Side) -> schema.Operand:
        quantizer = getattr(spec, side)
        name = TENSORS[kept.role, side]
        q = quantize_operand(self.tensors[name], quantizer, kept.role, side, self.at)
        fmt, rounding = quantizer.element_format, quantizer.rounding
        matrices = getattr(kept, side)
        plain = isinstance(fmt, IntFormat) and q.zero_point is None
        width = fmt.bits if plain else 8 * matrices[0].dtype.itemsize
        return schema.Operand(
            tensor=cast(Any, name),
            format=str(fmt),
            code_bits=fmt.bits,
            code_range=code_range(fmt),
            scale_rule=str(quantizer.scale),
            granularity=str(quantizer.granularity),
            scale_shape=list(q.scale.shape),
            scale=_bits(q.scale),
            zero_point=None if q.zero_point is None else q.zero_point.reshape(-1).tolist(),
            rounding=schema.Rounding(
                mode=str(rounding.mode), overflow=rounding.overflow, random_bits=rounding.random_bits
            ),
            random=self._random(kept, side, q.codes.numel(), rounding.random_bits),
            codes=_hexes(q.codes, fmt.bits),
            multiplicand_bits=width,
            matrices=[_hexes(m, width) for m in matrices],
        )

    def _random(self, kept: CapturedGemm, side: Side, count: int, bits: int) -> schema.Stream | None:
        if not bits:
            return None
        stream = operand_stream(kept.role, side, self.at)
        return schema.Stream(
            seed=stream.seed,
            step=stream.step,
            site=stream.site,
            operand=stream.operand,
            words=[_hex(draw(stream, i, bits), bits) for i in range(count)],
        )

    def _dots(self, logs: list[list[Addition]], group: int, columns: int, mac: MacUnit) -> list[schema.Dot]:
        if self.trace == "none":
            return []
        return [
            schema.Dot(
                group=group,
                row=i // columns,
                column=i % columns,
                additions=[_addition(s, mac) for s in _shown(log, self.trace)],
            )
            for i, log in enumerate(logs[: self.traced])
        ]


def _shown(log: list[Addition], trace: Trace) -> list[Addition]:
    """All additions, or the last inner and the outer one of each chunk; the inner one then speaks for its chunk."""
    if trace == "additions":
        return log
    kept: list[Addition] = []
    overflowed = False
    for i, step in enumerate(log):
        overflowed |= step.overflowed
        if step.accumulator == "outer":
            kept.append(step)
            overflowed = False
        elif log[i + 1].accumulator == "outer":
            kept.append(
                Addition(**{**step.__dict__, "overflowed": overflowed}) if overflowed else step,
            )
            overflowed = False
    return kept


def _addition(step: Addition, mac: MacUnit) -> schema.Addition:
    bits = mac.accumulator_bits if step.accumulator == "inner" else mac.result_bits
    return schema.Addition(
        accumulator=step.accumulator,
        chunk=step.chunk,
        last_k=step.last,
        value=_hex(step.value, bits),
        overflow=step.overflowed,
    )


def _mac(mac: MacUnit) -> schema.Mac:
    return schema.Mac(
        accumulator_bits=mac.accumulator_bits,
        overflow=mac.overflow,
        overflow_at=mac.overflow_at,
        chunk=mac.chunk,
        outer_bits=mac.result_bits,
        truncated_bits=mac.truncated_bits,
        truncation=str(mac.truncation),
        order=mac.order,
        products=None if mac.products is None else mac.products.name,
    )


def json_schema() -> str:
    """The JSON schema of the file."""
    return json.dumps(schema.LayerVectors.model_json_schema(), indent=2) + "\n"


def write_vectors(vectors: schema.LayerVectors, folder: Path) -> Path:
    """Write a layer's vectors and the schema into a folder, which is made; the vectors' file.

    Raises:
        StudyError: The files can't be written.
    """
    path = folder / f"{vectors.layer.name}.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(vectors.model_dump_json() + "\n", encoding="utf-8")
        (folder / "vectors.schema.json").write_text(json_schema(), encoding="utf-8")
    except OSError as error:
        raise StudyError(f"can't write {path}: {error}") from error
    return path
