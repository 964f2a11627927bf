"""Layers and numerics whose vectors the tests look at."""

import dataclasses
import json

import lowbit_sim as lb
from lowbit_sim.study.vectors.layer import layer_vectors
from lowbit_sim.study.vectors.sample import Sample, conv_sample, linear_sample

STOCHASTIC = lb.Rounding("stochastic", random_bits=8)
FP16, FP8 = lb.parse_format("fp16"), lb.parse_format("fp8_e4m3fn")
ACROSS = lb.FloatMacUnit()
TOWARD_ZERO = lb.Rounding("toward_zero", overflow="infinity")


def mixed(mac, **options) -> lb.OpSpec:
    """Integers times powers of two, the gradients stochastic."""
    value, log = lb.Quantizer(lb.INT8), lb.Quantizer(lb.parse_format("log4_radix2"))
    gradient = lb.Quantizer(lb.parse_format("log4_radix2"), rounding=STOCHASTIC)
    backward = lb.GemmSpec(gradient, value, mac, **options)
    return lb.OpSpec(output=lb.GemmSpec(value, log, mac), grad_input=backward, grad_weight=backward)


def asymmetric(mac) -> lb.OpSpec:
    value = lb.Quantizer(lb.parse_format("uint8"), scale=lb.MinMaxScale())
    gemm = lb.GemmSpec(value, lb.Quantizer(lb.INT8, granularity=lb.PerTensor()), mac)
    return lb.OpSpec(output=gemm, grad_input=gemm, grad_weight=gemm)


def uniform(name: str, mac=None, gradient: lb.Rounding = STOCHASTIC) -> lb.OpSpec:
    return lb.OpSpec.uniform(lb.parse_format(name), mac=mac, gradient_rounding=gradient)


def unscaled(name: str, mac: lb.FloatMacUnit) -> lb.OpSpec:
    """With a fixed scale: products of numbers up to the format's largest would overflow a narrow accumulator."""
    return lb.OpSpec.uniform(
        lb.parse_format(name), mac=mac, gradient_rounding=STOCHASTIC, scale=lb.FixedScale(0.25)
    )


def blocks(name: str, mac, across=ACROSS, size: int = 4) -> lb.OpSpec:
    """A block format with blocks short enough for a small layer."""
    fmt = dataclasses.replace(lb.parse_format(name), block=size, name="")
    value, gradient = lb.Quantizer(fmt), lb.Quantizer(fmt, rounding=STOCHASTIC)
    forward = lb.GemmSpec(value, value, mac, across=across)
    backward = lb.GemmSpec(gradient, value, mac, across=across)
    return lb.OpSpec(output=forward, grad_input=backward, grad_weight=backward)


def block_by_block(mac) -> lb.OpSpec:
    """Plain integers with a float32 scale for each block on the left, one scale for the tensor on the right."""
    left = lb.Quantizer(lb.INT8, granularity=lb.PerBlock(3))
    gemm = lb.GemmSpec(left, lb.Quantizer(lb.parse_format("int4")), mac)
    return lb.OpSpec(output=gemm, grad_input=gemm, grad_weight=gemm)


INTEGER_UNITS = {
    "int8": uniform("int8", gradient=lb.Rounding()),
    "14 bits saturating": uniform("int8", lb.MacUnit(accumulator_bits=14, overflow="saturate")),
    "chunks of 2, wrapping": uniform("int8", lb.MacUnit(accumulator_bits=13, chunk=2, outer_bits=15)),
    "tree, truncated": uniform(
        "int8", lb.MacUnit(accumulator_bits=14, overflow="wrap", chunk=3, order="tree", truncated_bits=3)
    ),
    "overflow at the chunk's end": uniform(
        "int8", lb.MacUnit(accumulator_bits=13, overflow="saturate_symmetric", overflow_at="chunk", chunk=2)
    ),
    "overflow of the outer one": uniform(
        "int8", lb.MacUnit(accumulator_bits=13, overflow_at="outer", chunk=2, outer_bits=13)
    ),
    "Mitchell's products": uniform("int8", lb.MacUnit(products=lb.mitchell_multiplier(8), chunk=3)),
    "int8 x powers of two": mixed(lb.MacUnit(accumulator_bits=24)),
    "zero points": asymmetric(lb.MacUnit()),
    "two samples": mixed(lb.MacUnit(accumulator_bits=24), samples=2),
}
FLOAT_UNITS = {
    "bf16 into fp32": uniform("bf16"),
    "fp8 into fp16": unscaled("fp8_e4m3fn", lb.FloatMacUnit(accumulator=FP16)),
    "fp8 toward zero in chunks": uniform(
        "fp8_e4m3fn", lb.FloatMacUnit(accumulator=FP8, rounding=TOWARD_ZERO, chunk=2, outer=FP16)
    ),
    "tree of rounded products": unscaled(
        "fp8_e5m2", lb.FloatMacUnit(accumulator=FP8, order="tree", chunk=3, product=FP8)
    ),
    "Kahan": unscaled("fp8_e4m3fn", lb.FloatMacUnit(accumulator=FP8, kahan=True, chunk=2)),
    "stochastic": unscaled("fp8_e4m3fn", lb.FloatMacUnit(accumulator=FP8, rounding=STOCHASTIC, chunk=2)),
    "int8 x powers of two, float": mixed(lb.FloatMacUnit(accumulator=FP16)),
    "posits": uniform("posit8", lb.FloatMacUnit(), gradient=lb.Rounding()),
    "zero points, float": asymmetric(lb.FloatMacUnit()),
    "three samples": mixed(lb.FloatMacUnit(accumulator=FP8, rounding=STOCHASTIC), samples=3),
}
BLOCKS = {
    "mxfp8": blocks("mxfp8_e4m3", lb.FloatMacUnit(accumulator=lb.BF16)),
    "mxint8": blocks("mxint8", lb.MacUnit(accumulator_bits=14, overflow="saturate", chunk=2)),
    "mxfp4, chunks of stochastic blocks": blocks(
        "mxfp4",
        lb.FloatMacUnit(accumulator=FP8, rounding=STOCHASTIC),
        lb.FloatMacUnit(accumulator=FP16, rounding=STOCHASTIC, chunk=2),
    ),
    "mxfp4 in integers": blocks("mxfp4", lb.MacUnit(accumulator_bits=12), lb.FloatMacUnit(kahan=True)),
    "nvfp4": blocks("nvfp4", lb.FloatMacUnit(), size=3),
    "int8 in blocks x int4": block_by_block(lb.MacUnit()),
    "whole block formats": uniform("bfp<6>", lb.MacUnit()),
}
SPECS = INTEGER_UNITS | FLOAT_UNITS | BLOCKS
SAMPLES = {
    "linear": linear_sample((3, 4, 5), seed=1),
    "conv2d": conv_sample((1, 2, 3, 3, 2, 3), seed=1),
}


def written(sample: Sample, spec: lb.OpSpec, **options) -> dict:
    """What a reader of the file sees."""
    return json.loads(layer_vectors(sample, spec, **options).model_dump_json())
