"""Layers of published comparisons as the events that the cost model prices: one forward GEMM of int8 each.

The engines compared here bring sums of 32 bits back to codes on their way out, so that a result which leaves the
accumulators has the width of a code (`GemmEvent.result_bits`). Where the other side counts sums in another width too,
`sum_bits` says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from hw_models.mapping.search import best_mapping
from hw_models.profile import HardwareProfile
from lowbit_sim.trace import ConvGeometry, GemmEvent, Operand

INT8 = Operand(format="int8", bits=8)


@dataclass(frozen=True, kw_only=True)
class ConvShape:
    """A forward convolution. Pairs are (vertical, horizontal)."""

    name: str
    channels: int
    size: tuple[int, int]
    filters: int
    kernel: tuple[int, int]
    output: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    batch: int = 1


def convolution(
    shape: ConvShape, *, sum_bits: int = 32, result_bits: int = 8, operand: Operand = INT8
) -> GemmEvent:
    """The event of a convolution: `groups` GEMMs of the unfolded input and the weights."""
    taps = shape.kernel[0] * shape.kernel[1]
    return GemmEvent(
        role="output",
        M=shape.batch * shape.output[0] * shape.output[1],
        N=shape.filters // shape.groups,
        K=shape.channels // shape.groups * taps,
        lhs=operand,
        rhs=operand,
        accumulator_bits=32,
        overflow="wrap",
        outer_bits=sum_bits,
        result_bits=result_bits,
        layer=shape.name,
        count=shape.groups,
        conv=_geometry(shape),
    )


def _geometry(shape: ConvShape) -> ConvGeometry:
    return ConvGeometry(
        batch=shape.batch,
        in_channels=shape.channels,
        in_height=shape.size[0],
        in_width=shape.size[1],
        out_channels=shape.filters,
        out_height=shape.output[0],
        out_width=shape.output[1],
        kernel_height=shape.kernel[0],
        kernel_width=shape.kernel[1],
        stride=shape.stride,
        dilation=shape.dilation,
        groups=shape.groups,
    )


def gemm(
    name: str,
    *,
    M: int,
    N: int,
    K: int,
    sum_bits: int = 32,
    result_bits: int = 8,
    operand: Operand = INT8,
) -> GemmEvent:
    """The event of a GEMM [M, K] x [K, N]: a fully connected layer of M samples."""
    return GemmEvent(
        role="output",
        M=M,
        N=N,
        K=K,
        lhs=operand,
        rhs=operand,
        accumulator_bits=32,
        overflow="wrap",
        outer_bits=sum_bits,
        result_bits=result_bits,
        layer=name,
    )


#: Blocks, width of the 3x3 convolution and side of the output of ResNet-50's four stages.
_STAGES = ((3, 64, 56), (4, 128, 28), (6, 256, 14), (3, 512, 7))


def resnet50() -> list[GemmEvent]:
    """The convolutions and the classifier of ResNet-50 for one image of 224 x 224.

    The stride is in a block's first 1x1 convolution (He et al., CVPR 2016, and its Caffe model): 3.86 G
    multiply-accumulates.
    """
    stem = ConvShape(
        name="conv1",
        channels=3,
        size=(224, 224),
        filters=64,
        kernel=(7, 7),
        output=(112, 112),
        stride=(2, 2),
    )
    shapes, channels, side = [stem], 64, 56
    for stage, (blocks, width, out) in enumerate(_STAGES, start=2):
        for block in range(blocks):
            shapes += _bottleneck(f"conv{stage}_{block + 1}", channels, width, side, out, first=block == 0)
            channels, side = 4 * width, out
    return [convolution(s) for s in shapes] + [gemm("fc", M=1, N=1000, K=2048)]


def _bottleneck(name: str, channels: int, width: int, side: int, out: int, *, first: bool) -> list[ConvShape]:
    def one(part: str, ins: int, outs: int, at: int, kernel: int = 1) -> ConvShape:
        return ConvShape(
            name=f"{name}/{part}",
            channels=ins,
            size=(at, at),
            filters=outs,
            kernel=(kernel, kernel),
            output=(out, out),
            stride=(at // out, at // out),
        )

    block = [
        one("1x1_reduce", channels, width, side),
        one("3x3", width, width, out, kernel=3),
        one("1x1_increase", width, 4 * width, out),
    ]
    return block + ([one("1x1_projection", channels, 4 * width, side)] if first else [])


def engine_cycles(event: GemmEvent, profile: HardwareProfile) -> int:
    """Cycles of a layer on an engine whose output stage works while the array does.

    The greater of the array with its memories, in the fastest mapping, and of the vector unit bringing each result
    back to a code.
    """
    mode = next(m for m in profile.array.modes if (m.kind, m.operand_bits) == ("integer", event.lhs.bits))
    mapping = best_mapping(event, profile, lhs_bits=event.lhs.bits, rhs_bits=event.rhs.bits, mode=mode)
    operations = event.count * event.M * event.N * profile.vector.operations_per_element("requantize")
    return max(mapping.cycles, ceil(operations / profile.vector.operations_per_cycle))
