"""Without data a GEMM has the shape and the count of additions that it has with data."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import lowbit_sim as lb
from lowbit_sim.arith.batched import run_gemms
from lowbit_sim.arith.block_gemm import run_block_gemm
from lowbit_sim.arith.float_gemm import run_float_gemm
from lowbit_sim.arith.float_mac import FloatMacUnit
from lowbit_sim.arith.result import GemmResult
from lowbit_sim.arith.shape_only import shape_only
from lowbit_sim.arith.spec import GemmSpec

INT8 = lb.Quantizer(lb.INT8)
MX = lb.Quantizer(lb.parse_format("mxint8"))
FP8 = lb.Quantizer(lb.parse_format("fp8_e4m3fn"))
BF16 = FloatMacUnit(accumulator=lb.parse_format("bf16"), chunk=3)

SPECS = {
    "int8": GemmSpec(INT8, INT8),
    "chunks": GemmSpec(INT8, INT8, lb.MacUnit(accumulator_bits=20, chunk=4, outer_bits=40)),
    "float": GemmSpec(FP8, FP8, BF16),
    "kahan": GemmSpec(FP8, FP8, FloatMacUnit(kahan=True)),
    "blocks": GemmSpec(MX, MX, lb.MacUnit(accumulator_bits=24, chunk=8)),
    "blocks_of_floats": GemmSpec(MX, MX, FloatMacUnit()),
}


def real(spec: GemmSpec, m: int, n: int, k: int) -> GemmResult:
    whole = isinstance(spec.mac, lb.MacUnit)
    a, b = (torch.ones(shape, dtype=torch.int8 if whole else torch.float32) for shape in ((m, k), (k, n)))
    if spec.block:
        return run_block_gemm(a, b, None, None, spec.block, spec.mac, spec.across)
    if isinstance(spec.mac, lb.MacUnit):
        return run_gemms([a], [b], spec.mac)[0]
    return run_float_gemm(a, b, spec.mac)


@settings(max_examples=60)
@given(
    sizes=st.tuples(st.integers(1, 5), st.integers(1, 5), st.integers(1, 70)),
    name=st.sampled_from(sorted(SPECS)),
)
def test_shape_type_and_additions_are_those_of_the_real_one(sizes: tuple[int, int, int], name: str) -> None:
    m, n, k = sizes
    found = shape_only(SPECS[name], torch.empty(m, k, device="meta"), torch.empty(k, n, device="meta"))
    expected = real(SPECS[name], m, n, k)
    assert (found.values.shape, found.values.dtype) == (expected.values.shape, expected.values.dtype)
    assert found.additions == expected.additions
    assert found.values.is_meta
    assert found.overflows is None


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\[M, K\] and \[K, N\], got \[2, 3\] and \[4, 5\]"):
        shape_only(SPECS["int8"], torch.empty(2, 3, device="meta"), torch.empty(4, 5, device="meta"))
