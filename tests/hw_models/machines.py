"""A machine with round numbers, and events, for tests whose results are worked out by hand."""

from typing import Any

import hw_models
from lowbit_sim.trace import GemmEvent, Operand

TINY = """
[machine]
source = "assumption: round numbers"
name = "tiny"
description = "a 4 x 4 array"
node_nm = 45.0
voltage_v = 0.9

[clock]
source = "assumption: round numbers"
frequency_hz = 1000

[array]
source = "assumption: round numbers"
rows = 4
columns = 4
arrays = 1
dataflow = "ws"

[[array.modes]]
source = "assumption: round numbers"
operand_bits = 8
macs_per_pe_per_cycle = 1

[[array.modes]]
source = "assumption: round numbers"
operand_bits = 4
macs_per_pe_per_cycle = 2

[vector]
source = "assumption: round numbers"
lanes = 4
elements_per_lane_per_cycle = 1
random_bits_per_cycle = 8
elements_per_random_word = 6

[arithmetic]
source = "assumption: round numbers"
input_format = "int8"
weight_format = "int8"
grad_output_format = "int4"
gradient_rounding = "stochastic"
gradient_random_bits = 8
accumulator_bits = 32
overflow = "wrap"
chunk = 0
outer_bits = 32

[memory.sram]
source = "assumption: round numbers"
capacity_bytes = 4096
bandwidth_bytes_per_cycle = 16
read_pj_per_bit = 1.0
write_pj_per_bit = 2.0

[memory.accumulator]
source = "assumption: round numbers"
capacity_bytes = 1024
bandwidth_bytes_per_cycle = 32
read_pj_per_bit = 0.5
write_pj_per_bit = 0.25

[memory.dram]
source = "assumption: round numbers"
bandwidth_bytes_per_second = 4000
read_pj_per_bit = 10.0
write_pj_per_bit = 20.0

[energy]
source = "Horowitz, ISSCC 2014"
node_nm = 45.0
voltage_v = 0.9
multiply_pj = 0.2
multiply_bits = 8
add_pj = 0.1
add_bits = 32
vector_element_pj = 4.6
random_bit_pj = 0.01
static_power_w = 0.0
"""


def tiny_text(*changes: tuple[str, str]) -> str:
    """The text of the machine with parts of it replaced; each part must occur."""
    text = TINY
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new)
    return text


def tiny(*changes: tuple[str, str]) -> hw_models.HardwareProfile:
    return hw_models.parse(tiny_text(*changes), "tiny.toml")


def gemm(
    M: int = 4, N: int = 4, K: int = 8, *, lhs: str = "int8", rhs: str = "int8", **more: Any
) -> GemmEvent:
    def operand(name: str) -> Operand:
        return Operand(format=name, bits=int("".join(c for c in name if c.isdigit())))

    fields: dict[str, Any] = {
        "role": "output", "accumulator_bits": 32, "overflow": "wrap", "outer_bits": 32, "layer": "fc",
    }  # fmt: skip
    return GemmEvent(M=M, N=N, K=K, lhs=operand(lhs), rhs=operand(rhs), **(fields | more))
