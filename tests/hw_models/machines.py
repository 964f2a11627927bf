"""A machine with round numbers, and events, for tests whose results are worked out by hand."""

import re
from typing import Any

import hw_models
from lowbit_sim.numerics.catalog import parse_format
from lowbit_sim.numerics.formats import BlockFormat
from lowbit_sim.trace import GemmEvent, Operand

TINY = """
[machine]
source = "assumption: round numbers"
name = "tiny"
description = "a 4 x 4 array"
node_nm = 45.0
voltage_v = 0.9
validation = "not validated: a machine for tests"

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
operations_per_lane_per_cycle = 1
random_bits_per_cycle = 8
operations_per_random_word = 6
overlaps_array = false

[arithmetic]
source = "assumption: round numbers"
format = "int8"
accumulator_bits = 32
overflow = "wrap"
gradient_rounding = { mode = "stochastic", random_bits = 8 }
grad_input = { lhs = "int4" }
grad_weight = { lhs = "int4" }

[memory.sram]
source = "assumption: round numbers"
capacity_bytes = 4096
bandwidth_bytes_per_cycle = 16
holds = ["lhs", "rhs"]

[[memory.sram.accesses]]
bits = 128
read_pj = 128.0
write_pj = 256.0

[memory.accumulator]
source = "assumption: round numbers"
capacity_bytes = 1024
bandwidth_bytes_per_cycle = 32
holds = ["result"]

[[memory.accumulator.accesses]]
bits = 256
read_pj = 128.0
write_pj = 64.0

[memory.dram]
source = "assumption: round numbers"
bandwidth_bytes_per_second = 4000
read_pj_per_bit = 10.0
write_pj_per_bit = 20.0

[energy]
source = "Horowitz, ISSCC 2014"
node_nm = 45.0
voltage_v = 0.9
register_pj_per_bit = 0.0
vector_operation_pj = 2.3
random_bit_pj = 0.01
static_power_w = 0.0

[[energy.multiply]]
bits = 8
pj = 0.2

[[energy.add]]
bits = 32
pj = 0.1
"""

#: A mode of floats for the machine, as a change of `tiny`.
FLOAT_MODE = (
    "[vector]",
    """[[array.modes]]
source = "assumption: round numbers"
operand_bits = 32
kind = "float"
macs_per_pe_per_cycle = 1
multiply_pj = 3.7
add_pj = 0.9

[vector]""",
)


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
        digits = re.search(r"\d+", name)  # a format's width is the first number of its name
        assert digits
        fmt = parse_format(name) if "mx" in name or "nv" in name else None
        if isinstance(fmt, BlockFormat):
            return Operand(format=name, bits=fmt.element.bits, block=fmt.block, scale=str(fmt.scale))
        return Operand(format=name, bits=int(digits[0]))

    fields: dict[str, Any] = {
        "role": "output", "accumulator_bits": 32, "overflow": "wrap", "outer_bits": 32, "layer": "fc",
    }  # fmt: skip
    return GemmEvent(M=M, N=N, K=K, lhs=operand(lhs), rhs=operand(rhs), **(fields | more))
