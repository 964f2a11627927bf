"""Random machines and random events, for what must hold of any of them."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

import hw_models
from lowbit_sim.trace import (
    ROLES,
    VECTOR_KINDS,
    ConvGeometry,
    GemmEvent,
    Operand,
    VectorEvent,
    WorkloadTrace,
)
from tests.hw_models.machines import FLOAT_MODE, tiny

#: A second stage of memory, as a change of the tiny machine.
OUTER_STAGE = (
    "[memory.dram]",
    """[memory.outer]
source = "assumption: round numbers"
capacity_bytes = 20000
bandwidth_bytes_per_cycle = 11
holds = ["lhs", "rhs", "result"]

[[memory.outer.accesses]]
bits = 88
read_pj = 200.0
write_pj = 300.0

[memory.dram]""",
)
RANGE = (
    "read_pj_per_bit = 10.0",
    'read_pj_per_bit = { low = 4.0, nominal = 10.0, high = 25.0, low_source = "a", high_source = "b" }',
)
STATIC = ("static_power_w = 0.0", "static_power_w = 3e-9")
OVERLAPS = ("overlaps_array = false", "overlaps_array = true")

Change = tuple[str, str]


def _number(text: str, old: int) -> st.SearchStrategy[Change]:
    return st.integers(1, 40).map(lambda n: (f"{text} = {old}\n", f"{text} = {n}\n"))


@st.composite
def changes(draw: st.DrawFn, *, overlap: bool = True, stages: int = 2) -> tuple[Change, ...]:
    """Changes that make a random machine of the tiny one.

    Args:
        draw: Hypothesis'.
        overlap: Whether the vector unit may work beside the array.
        stages: Most stages of memories.
    """
    dataflow = draw(st.sampled_from(["ws", "os", "is", "rs", "spatial"]))
    array = f'dataflow = "{dataflow}"'
    if dataflow in ("ws", "os", "is"):
        array += f'\nloading = "{draw(st.sampled_from(["exposed", "hidden"]))}"'
        array += draw(st.sampled_from(["", "\npadded_loads = true"]))
    elif dataflow == "spatial":
        array += f"\npixel_rows = {draw(st.integers(1, 3))}\npixel_columns = {draw(st.integers(1, 3))}"
        array += draw(st.sampled_from(["", "\ndepthwise_over_columns = true"]))
        array += f"\nsteps_padded_to = {draw(st.sampled_from([1, 1, 2, 4]))}"
    array += (
        draw(st.sampled_from(["", "\nskips_zeros = true"])) + f"\nstartup_cycles = {draw(st.integers(0, 9))}"
    )
    buffered = draw(
        st.sampled_from([(), (('holds = ["result"]', 'holds = ["result"]\ndouble_buffered = false'),)])
    )
    optional = [RANGE, STATIC, FLOAT_MODE]
    optional += ([OVERLAPS] if overlap else []) + ([OUTER_STAGE] if stages > 1 else [])
    chosen = draw(st.lists(st.sampled_from(optional), unique=True, max_size=4))
    sizes = (
        ("rows = 4", f"rows = {draw(st.integers(1, 9))}"),
        ("columns = 4", f"columns = {draw(st.integers(1, 9))}"),
        ("arrays = 1", f"arrays = {draw(st.integers(1, 3))}"),
        ("random_bits_per_cycle = 8", f"random_bits_per_cycle = {draw(st.integers(0, 9))}"),
        draw(_number("bandwidth_bytes_per_cycle", 16)),
        draw(_number("bandwidth_bytes_per_cycle", 32)),
        (
            "bandwidth_bytes_per_second = 4000",
            f"bandwidth_bytes_per_second = {draw(st.integers(500, 90_000))}",
        ),
        ("capacity_bytes = 4096", f"capacity_bytes = {draw(st.integers(2000, 20000))}"),
        ("capacity_bytes = 1024", f"capacity_bytes = {draw(st.integers(2000, 20000))}"),
    )
    return (('dataflow = "ws"', array), *buffered, *sizes, *chosen)


def machines(**options: Any) -> st.SearchStrategy[hw_models.HardwareProfile]:
    """Random machines."""
    return changes(**options).map(lambda chosen: tiny(*chosen))


integers = st.builds(lambda bits: Operand(format=f"int{bits}", bits=bits), st.integers(2, 8))
floats = st.sampled_from([Operand(format=name, bits=bits) for name, bits in (("fp32", 32), ("fp16", 16))])
logs = st.just(Operand(format="log4_radix4", bits=4))
pairs = st.one_of(
    st.tuples(integers, integers),
    st.tuples(floats, floats),
    st.tuples(logs, integers),
    st.tuples(floats, integers),
)
sizes = st.integers(0, 70)
layers = st.sampled_from(["", "a", "b"])


def _gemm(operands: tuple[Operand, Operand], **fields: Any) -> GemmEvent:
    floating = any(o.format.startswith(("fp", "log")) for o in operands)
    return GemmEvent(lhs=operands[0], rhs=operands[1], overflow="float" if floating else "wrap", **fields)


plain_gemms = st.builds(
    _gemm,
    pairs,
    role=st.sampled_from(ROLES),
    M=sizes,
    N=sizes,
    K=sizes,
    accumulator_bits=st.integers(8, 40),
    chunk=st.integers(0, 9),
    outer_bits=st.integers(8, 40),
    layer=layers,
    count=st.integers(0, 3),
    kept_bytes=st.integers(0, 99),
)


@st.composite
def convolutions(draw: st.DrawFn) -> GemmEvent:
    """One of the three GEMMs of a convolution, strided, dilated, grouped or depthwise."""
    groups, stride, dilation = (draw(st.integers(1, 3)) for _ in range(3))
    ins, outs = draw(st.just(1) | st.integers(1, 5)), draw(st.integers(1, 5))
    batch = draw(st.integers(1, 3))
    kernel, size = draw(st.integers(1, 3)), draw(st.integers(1, 9)) + 5
    out = (size - dilation * (kernel - 1) - 1) // stride + 1
    conv = ConvGeometry(
        batch=batch, in_channels=groups * ins, in_height=size, in_width=size, out_channels=groups * outs,
        out_height=out, out_width=out, kernel_height=kernel, kernel_width=kernel, stride=(stride, stride),
        dilation=(dilation, dilation), groups=groups,
    )  # fmt: skip
    window, pixels, inputs = kernel * kernel, batch * out * out, batch * size * size
    role, (M, N, K) = draw(
        st.sampled_from(
            [
                ("output", (pixels, outs, ins * window)),
                ("grad_input", (inputs, ins, outs * window)),
                ("grad_weight", (outs, ins * window, pixels)),
            ]
        )
    )
    bits = {"accumulator_bits": 32, "outer_bits": 32}
    return _gemm(draw(pairs), role=role, M=M, N=N, K=K, conv=conv, count=groups, layer=draw(layers), **bits)


gemms = plain_gemms | convolutions()
vectors = st.builds(
    VectorEvent,
    kind=st.sampled_from(VECTOR_KINDS),
    elements=st.integers(0, 999),
    read_bytes=st.integers(0, 999),
    write_bytes=st.integers(0, 999),
    role=st.sampled_from(ROLES),
    layer=layers,
    random_bits=st.integers(0, 999),
    kept_bytes=st.integers(0, 99),
)
traces = st.builds(WorkloadTrace, st.lists(gemms | vectors, max_size=5))
