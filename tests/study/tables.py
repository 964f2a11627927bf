"""Tables of numerics, as a TOML file would give them, that the tests of study files share."""

from typing import Any

STOCHASTIC = {"mode": "stochastic", "random_bits": 8}

#: One of each way to say something, and the ways that meet.
NUMERICS: list[dict[str, Any]] = [
    {"format": "bf16"},
    {"format": "fixed<8,6>"},
    {"format": "posit8"},
    {"format": "log4_radix2"},
    {"format": "int16"},
    {"format": "bfp<8,16>"},
    {"format": "nvfp4"},
    {"format": "mxfp4", "gradient_rounding": STOCHASTIC},
    {"format": "mxfp4", "grad_weight": {"lhs": "int8", "rhs": "int8"}},
    {
        "format": "mxfp4",
        "scale": "power_of_two",
        "across": {"accumulator": "bf16"},
        "grad_weight": {"lhs": "int8", "rhs": "int8"},
    },
    {"format": "int4", "gradient": "luq"},
    {
        "format": "int4",
        "gradient": {"name": "luq", "samples": 2, "momentum": 0.9},
        "grad_weight": {"chunk": 16},
    },
    {"format": "int8", "gradient": {"name": "dorefa", "bits": 12}},
    {"format": "int8", "gradient": "psq"},
    {"format": "int8", "gradient": "bhq"},
    {"format": "int4", "gradient": "two_phase_fp4"},
    {"format": "int8", "gradient": {"name": "unified_int8", "period": 10}},
    {"format": "int8", "gradient": "ptq", "grad_input": {"lhs": "int4"}},
    {
        "format": "fp8_e4m3fn",
        "mac": {"accumulator": "fp16", "chunk": 64},
        "grad_weight": {"lhs": "fp8_e5m2", "lhs_rounding": STOCHASTIC},
    },
    {
        "format": "int8",
        "mac": {
            "accumulator_bits": 16,
            "products": "drum:4",
            "overflow": "saturate_symmetric",
            "order": "tree",
        },
    },
    {
        "format": "int8",
        "mac": {"chunk": 8, "truncated_bits": 2},
        "grad_input": {"mac": {"accumulator": "bf16", "product": "bf16", "kahan": True}},
    },
    {"format": "int8", "grad_input": {"lhs": "fp8_e5m2", "rhs": "fp8_e4m3fn"}},
    {"format": "bf16", "grad_weight": {"lhs": "int8", "rhs": "int8", "accumulator_bits": 20}},
    {
        "format": "int8",
        "transform": {"name": "hadamard", "block": 32},
        "grad_input": {"transform": "householder"},
    },
    {
        "format": "int4",
        "granularity": {"block": 16},
        "across": {
            "accumulator": "fp16",
            "rounding": {"mode": "nearest_even", "overflow": "saturate"},
        },
    },
    {
        "format": "int4",
        "granularity": "sample",
        "scale": "mse",
        "samples": 3,
        "gradient_rounding": STOCHASTIC,
    },
    {
        "format": "int8",
        "scale": {"rule": "percentile", "percentile": 99.0},
        "output": {
            "rhs": {"format": "int8", "granularity": {"group": 4, "axis": 0}, "scale": "sawb"},
        },
    },
    {"format": "int8", "scale": {"rule": "minmax", "unclipped": True}},
    {"format": "int8", "scale": "ema"},
    {
        "format": "int4",
        "output": {
            "lhs": {"format": "int4", "scale": "learned"},
            "rhs": {"format": "int4", "scale": "learned"},
        },
        "grad_input": {"native": True},
        "grad_weight": {"native": True},
    },
    {
        "format": "int8_full",
        "gradient_rounding": {"mode": "stochastic", "random_bits": 4, "overflow": "wrap"},
    },
    {"format": "int8", "chunk": 32, "grad_weight": {"mac": {"accumulator_bits": 20}}},
    {"format": "int8", "grad_weight": {"lhs": "mxint8", "across": {"kahan": True}}},
    {"format": "int8", "output": {"lhs": {"format": "int8", "nan": 0}}},
]

UPDATES: list[dict[str, Any]] = [
    {"weight": "bf16"},
    {
        "weight": "fp16",
        "momentum": {"format": "int8", "scale": "power_of_two"},
        "gradient": "fp8_e5m2",
        "rounding": STOCHASTIC,
        "state_reads": "unrounded",
    },
]

ELEMENTWISE: list[dict[str, Any]] = [
    {"output": "bf16"},
    {"output": "mxint8", "grad_input": {"format": "fp8_e5m2", "rounding": STOCHASTIC}},
]
