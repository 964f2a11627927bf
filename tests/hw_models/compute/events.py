"""Convolutions as events, for tests of arrays."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from hw_models.schema.array import Array, Mode
from lowbit_sim.trace import ConvGeometry, GemmEvent, Operand, Role

ASSUMED = "assumption: for tests"
INT8 = Operand(format="int8", bits=8)


def array(dataflow: str, rows: int, columns: int, **more: Any) -> Array:
    mode = Mode(source=ASSUMED, operand_bits=8, macs_per_pe_per_cycle=1)
    return Array.model_validate(
        {
            "source": ASSUMED,
            "rows": rows,
            "columns": columns,
            "arrays": 1,
            "dataflow": dataflow,
            "modes": (mode,),
        }
        | more
    )


def mode(macs: int = 1) -> Mode:
    return Mode(source=ASSUMED, operand_bits=8, macs_per_pe_per_cycle=macs)


def event(
    role: Role, M: int, N: int, K: int, *, conv: ConvGeometry | None = None, count: int = 1
) -> GemmEvent:
    return GemmEvent(
        role=role,
        M=M,
        N=N,
        K=K,
        lhs=INT8,
        rhs=INT8,
        accumulator_bits=32,
        overflow="wrap",
        outer_bits=32,
        count=count,
        conv=conv,
    )


def conv_event(role: Role, conv: ConvGeometry) -> GemmEvent:
    """One role's GEMMs of a convolution, as the operators emit them."""
    ins, outs = conv.in_channels // conv.groups, conv.out_channels // conv.groups
    taps = conv.kernel_height * conv.kernel_width
    pixels = conv.batch * conv.out_height * conv.out_width
    M, N, K = {
        "output": (pixels, outs, ins * taps),
        "grad_input": (conv.batch * conv.in_height * conv.in_width, ins, outs * taps),
        "grad_weight": (outs, ins * taps, pixels),
    }[role]
    return event(role, M, N, K, conv=conv, count=conv.groups)


def geometry(
    *,
    batch: int = 1,
    channels: int = 1,
    size: tuple[int, int] = (4, 4),
    filters: int = 1,
    kernel: tuple[int, int] = (1, 1),
    stride: int = 1,
    groups: int = 1,
) -> ConvGeometry:
    """A convolution without padding."""
    out = [(s - k) // stride + 1 for s, k in zip(size, kernel, strict=True)]
    return ConvGeometry(
        batch=batch,
        in_channels=channels,
        in_height=size[0],
        in_width=size[1],
        out_channels=filters,
        out_height=out[0],
        out_width=out[1],
        kernel_height=kernel[0],
        kernel_width=kernel[1],
        stride=(stride, stride),
        dilation=(1, 1),
        groups=groups,
    )


@st.composite
def geometries(draw: Any) -> ConvGeometry:
    groups, stride = draw(st.integers(1, 2)), draw(st.integers(1, 2))
    kernel = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    return geometry(
        batch=draw(st.integers(1, 3)),
        channels=groups * draw(st.integers(1, 4)),
        size=(draw(st.integers(3, 6)), draw(st.integers(3, 6))),
        filters=groups * draw(st.integers(1, 4)),
        kernel=kernel,
        stride=stride,
        groups=groups,
    )


@st.composite
def grouped_geometries(draw: Any) -> ConvGeometry:
    """Convolutions of several groups, most of them depthwise."""
    groups, stride = draw(st.integers(2, 7)), draw(st.integers(1, 2))
    return geometry(
        batch=draw(st.integers(1, 3)),
        channels=groups * draw(st.sampled_from((1, 1, 2))),
        size=(draw(st.integers(2, 4)), draw(st.integers(2, 4))),
        filters=groups * draw(st.integers(1, 3)),
        kernel=(draw(st.integers(1, 2)), draw(st.integers(1, 2))),
        stride=stride,
        groups=groups,
    )


roles = st.sampled_from(("output", "grad_input", "grad_weight"))
