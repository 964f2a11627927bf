"""Compiles the kernels for a GPU, which needs none, and prints what became of them, as JSON: run as a module.

For each kernel: its instructions that would change bits (operands flushed to zero, contracted or approximated
operations), and whether it reads 16 bytes and writes at least 4 at a time.
"""

import json
import re
from collections.abc import Mapping

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from lowbit_sim.numerics.triton.floats import quantize_to_floats
from lowbit_sim.numerics.triton.integers import quantize_to_integers
from lowbit_sim.numerics.triton.tables import quantize_to_table
from lowbit_sim.quant.triton_extremes import _tile_maxima

TYPES = {
    "x": "*fp32",
    "inv": "*fp32",
    "zero_points": "*i32",
    "codes": "*i8",
    "values": "*fp32",
    "thresholds": "*fp64",
    "low_takes_tie": "*i32",
    "table_codes": "*i32",
    "maxima": "*fp32",
}

ONE_SCALE = {"LAYOUT": 0, "PIECE": 1, "PERIODIC": False, "ALIGNED": True, "TILE": 2048}
NEAREST, STOCHASTIC = {"MODE": 0, "RANDOM_BITS": 0}, {"MODE": 5, "RANDOM_BITS": 8}
INT8 = {"WRAP": False, "BOUNDED": True, "HAS_ZERO_POINTS": False}
FP8 = {
    "MANTISSA_BITS": 3,
    "MIN_EXPONENT": -6,
    "SUBNORMALS": True,
    "MAX_CODE": 126,
    "OVERFLOW": 126,
    "NAN_CODE": 127,
    "SIGN_SHIFT": 7,
    "CEILING": 0.0,
}

KERNELS = {
    "int8 nearest": (quantize_to_integers, ONE_SCALE | INT8 | NEAREST),
    "int8 stochastic": (quantize_to_integers, ONE_SCALE | INT8 | STOCHASTIC),
    "int8 channels": (quantize_to_integers, ONE_SCALE | INT8 | NEAREST | {"LAYOUT": 1, "PERIODIC": True}),
    "int8 blocks": (quantize_to_integers, ONE_SCALE | INT8 | NEAREST | {"LAYOUT": 2, "PIECE": 16}),
    "fixed stochastic": (quantize_to_integers, ONE_SCALE | INT8 | STOCHASTIC | {"BOUNDED": False}),
    "fp8 nearest": (quantize_to_floats, ONE_SCALE | FP8 | NEAREST | {"CEILING": 2.0**10}),
    "fp8 stochastic": (quantize_to_floats, ONE_SCALE | FP8 | STOCHASTIC),
    "deep floats": (quantize_to_floats, ONE_SCALE | FP8 | NEAREST | {"MIN_EXPONENT": -140}),
    "log4 stochastic": (quantize_to_table, ONE_SCALE | STOCHASTIC | {"SEARCH_STEPS": 4}),
    "extremes": (_tile_maxima, {"MAGNITUDES": False, "ROWS": 1, "COLUMNS": 2048}),
    "magnitudes of blocks": (_tile_maxima, {"MAGNITUDES": True, "ROWS": 64, "COLUMNS": 32}),
}


def ptx(kernel: triton.JITFunction, constants: Mapping[str, object]) -> str:
    """The kernel for compute capability 9.0; pointers and sizes are multiples of 16."""
    names = kernel.arg_names
    types = {n: "constexpr" if n in constants else TYPES.get(n, "i32") for n in names}
    aligned = [*TYPES, "size", "length", "block", "runs"]
    source = ASTSource(
        kernel,
        types,
        {(names.index(name),): value for name, value in constants.items()},
        {(names.index(name),): [["tt.divisibility", 16]] for name in aligned if name in names},
    )
    options = {"num_warps": 4, "enable_fp_fusion": False}
    return triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options).asm["ptx"]


def report(text: str) -> dict[str, object]:
    """What the tests ask of a kernel's PTX."""
    instructions = re.findall(r"^\s+(?:@!?%p\d+\s+)?([a-z][\w.:]*)", text, re.MULTILINE)
    return {
        "inexact": sorted({i for i in instructions if ".ftz" in i or ".approx" in i or i.startswith("fma.")}),
        "reads_16_bytes": any(i.startswith("ld.global.v4") for i in instructions),
        "products": sum(i.startswith("mul.f32") or i.startswith("mul.rn.f32") for i in instructions),
        "instructions": len(instructions),
    }


if __name__ == "__main__":
    print(json.dumps({name: report(ptx(*kernel)) for name, kernel in KERNELS.items()}))
