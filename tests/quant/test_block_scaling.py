"""Block formats: scales and codes element by element, and the corners: zeros, subnormals, infinities, NaN."""

import math

import numpy as np
import pytest
import torch

import lowbit_sim as lb
from lowbit_sim.numerics import catalog
from lowbit_sim.numerics.block_formats import BlockFormat, block_floating_point
from lowbit_sim.numerics.formats import FixedFormat, FloatFormat
from lowbit_sim.numerics.reference import float32
from lowbit_sim.numerics.reference_blocks import shared_exponent
from lowbit_sim.quant.block_scaling import granularity_of, power_of_two, shared_exponents
from lowbit_sim.quant.quantizer import NotANumberError, Quantizer
from lowbit_sim.quant.reference import float_block_scale
from tests.quant.cases import codes_one_by_one, normal, regions_of, scale_index

MAX = float(np.finfo(np.float32).max)
NEAREST = lb.Rounding()
STOCHASTIC = lb.Rounding("stochastic", random_bits=5)
ELEMENTS = [catalog.FP4_E2M1, catalog.FP6_E3M2, catalog.FP6_E2M3, catalog.FP8_E4M3FN, catalog.FP8_E5M2]
ELEMENTS += [FixedFormat(word_length=8, fraction_length=6, symmetric=True), catalog.INT4]

#: E2M1 in small blocks, so that a matrix has many.
NVFP4_SMALL = BlockFormat(
    element=catalog.FP4_E2M1, scale=catalog.FP8_E4M3FN, block=4, tensor_scale=True, name="nvfp4_4"
)
FORMATS = [
    catalog.MXINT8,
    catalog.MXFP8_E4M3,
    catalog.MXFP8_E5M2,
    catalog.MXFP6_E3M2,
    catalog.MXFP6_E2M3,
    catalog.MXFP4,
    catalog.NVFP4,
    NVFP4_SMALL,
    BlockFormat(element=catalog.INT4, block=3, rule="even", name="int4_even"),
    BlockFormat(element=catalog.FP4_E2M1, block=8, rule="ceil", name="fp4_ceil"),
    BlockFormat(element=catalog.FP4_E2M1, scale=catalog.FP8_E4M3FN, block=8, name="fp4_e4m3"),
    BlockFormat(element=catalog.INT8, scale=catalog.BF16, block=8, name="int8_bf16"),
    block_floating_point(8),
    block_floating_point(6, dim=0),
    block_floating_point(6, dim=1),
    block_floating_point(4, 5),
]


def scales_one_by_one(x: torch.Tensor, fmt: BlockFormat) -> dict[tuple[int, ...], float]:
    """The scale of each block by the scalar definitions, 0 where a float scale rounds to 0."""
    granularity, shape = granularity_of(fmt), tuple(x.shape)
    finite = torch.where(torch.isinf(x), 0.0, x).abs()
    scales = {}
    for members in regions_of(granularity, shape).values():
        absmax = max(finite[i].item() for i in members)
        if isinstance(fmt.scale, FloatFormat):
            scale = float_block_scale(absmax, finite.amax().item(), fmt)
        else:
            scale = 2.0 ** shared_exponent(absmax, fmt.element, fmt.rule)
        scales |= {scale_index(granularity, i, shape): scale for i in members}
    return scales


def check(x: torch.Tensor, fmt: BlockFormat, how: lb.Rounding = NEAREST) -> lb.QTensor:
    """A quantised tensor whose scales and codes are the definitions'."""
    stream = lb.Stream(seed=9, offset=5)
    q = Quantizer(fmt, rounding=how)(x, stream=stream)
    expected = scales_one_by_one(x, fmt)
    cleared = x.clone()
    for members in regions_of(granularity_of(fmt), tuple(x.shape)).values():
        at = scale_index(granularity_of(fmt), members[0], tuple(x.shape))
        assert q.scale[at].item() == (expected[at] or 1.0)
        for i in members:
            if expected[at] == 0 and math.isfinite(x[i].item()):
                cleared[i] = 0.0
    codes = codes_one_by_one(cleared, q.scale, granularity_of(fmt), fmt.element, how, stream)
    assert q.codes.reshape(-1).tolist() == codes
    return q


@pytest.mark.parametrize("fmt", FORMATS, ids=str)
@pytest.mark.parametrize("shape", [(3, 64), (2, 37), (5, 3), (2, 2, 9)])
def test_scales_and_codes_by_the_definition(fmt: BlockFormat, shape) -> None:
    check(normal(shape, seed=1, spread=2.0), fmt)
    check(normal(shape, seed=2, spread=2.0), fmt, STOCHASTIC)


@pytest.mark.parametrize("fmt", FORMATS, ids=str)
def test_corners(fmt: BlockFormat) -> None:
    x = normal((6, 40), seed=3)
    x[0] = 0.0
    x[1] *= 2.0**-140
    x[2] *= 2.0**120
    x[3, 3], x[3, 35] = math.inf, -math.inf
    x[4, :32] = -0.0
    x[5] = 2.0**-149
    check(x, fmt)
    check(x.abs() * 2.0**-140, fmt)
    check(torch.zeros(2, 9), fmt)
    check(torch.full((2, 9), math.inf), fmt)


@pytest.mark.parametrize("element", ELEMENTS, ids=str)
@pytest.mark.parametrize("rule", ["floor", "even", "ceil"])
def test_shared_exponents_are_the_definitions(element, rule: str) -> None:
    powers = np.ldexp(np.float32(1), np.arange(-149, 128, 3))
    near = [np.nextafter(powers, np.float32(limit)) for limit in (0.0, 3e38)]
    thirds = [powers[:-1] * np.float32(part) for part in (1.25, 1.5, 1.75, 1.875, 1.9375, 1.96875, 1.9921875)]
    top = np.float32(element.max_value) * powers[20:60]
    around = [np.nextafter(v, np.float32(limit)) for v in (*thirds, top) for limit in (0.0, 3e38)]
    values = np.concatenate([powers, *near, *thirds, top, *around, [0.0, MAX]]).astype(np.float32)
    found = shared_exponents(torch.from_numpy(values), element, rule)
    assert found.tolist() == [shared_exponent(float(v), element, rule) for v in values]


def test_every_scale_of_e8m0_is_exact() -> None:
    exponents = torch.arange(-127, 128, dtype=torch.int32)
    scale = power_of_two(exponents)
    assert scale.tolist() == [2.0**e for e in range(-127, 128)]
    assert (1.0 / scale).tolist() == [2.0**-e for e in range(-127, 128)]


def test_the_smallest_e8m0_scale_is_used_and_exact() -> None:
    # 2^-126 in MXFP4: floor(log2) - 2 = -128 is cut to -127; the element is 2 and comes back.
    q = check(torch.tensor([[2.0**-126, -(2.0**-128), 2.0**-129]]), catalog.MXFP4)
    assert q.scale.item() == 2.0**-127
    assert q.dequantize().tolist() == [[2.0**-126, -(2.0**-128), 0.0]]


@pytest.mark.parametrize("fmt", FORMATS, ids=str)
def test_zeros_have_scale_one_and_codes_of_zero(fmt: BlockFormat) -> None:
    q = Quantizer(fmt)(torch.zeros(3, 33))
    assert (q.scale == 1).all()
    assert (q.codes == 0).all()


def test_mx_by_hand() -> None:
    # Largest magnitude 5: 2^floor(log2 5) = 4 and emax of E2M1 is 2, so the scale is 1; 7 saturates with "floor".
    x = torch.tensor([[5.0, -0.24, 0.26, 2.5, 3.5, -5.0]])
    assert Quantizer(catalog.MXFP4)(x).dequantize().tolist() == [[4.0, -0.0, 0.5, 2.0, 4.0, -4.0]]
    seven = torch.tensor([[7.0, 1.0]])
    assert Quantizer(catalog.MXFP4)(seven).dequantize().tolist() == [[6.0, 1.0]]
    ceil = BlockFormat(element=catalog.FP4_E2M1, rule="ceil")
    assert Quantizer(ceil)(seven).dequantize().tolist() == [[8.0, 1.0]]
    even = BlockFormat(element=catalog.FP4_E2M1, rule="even")
    # 6.99 rounds to 6 in E2M1 and 7 to 8: only the second raises the exponent.
    assert Quantizer(even)(torch.tensor([[6.99]])).scale.item() == 1.0
    assert Quantizer(even)(seven).scale.item() == 2.0


def test_nvfp4_by_hand() -> None:
    # Tensor scale 2688 / 2688 = 1. Blocks of 16: 2688 / 6 = 448 is the largest E4M3 value; 6 * 1.0625 / 6 rounds
    # to 1; 6 * 2^-10 / 6 is the tie between 0 and 2^-9 and becomes 0.
    x = torch.zeros(1, 48)
    x[0, 0], x[0, 16], x[0, 17], x[0, 32], x[0, 33] = 2688.0, 6.375, -3.0, 6 * 2.0**-10, -1e-9
    q = check(x, catalog.NVFP4)
    assert q.scale.tolist() == [[448.0, 1.0, 1.0]]
    assert q.dequantize()[0, [0, 16, 17, 32]].tolist() == [2688.0, 6.0, -3.0, 0.0]
    assert (q.codes[0, 32:] == 0).all()


def test_a_vanished_block_keeps_its_infinities() -> None:
    x = torch.zeros(1, 32)
    x[0, 0], x[0, 16], x[0, 17], x[0, 18] = 2688.0, math.inf, -math.inf, 1e-9
    q = check(x, catalog.NVFP4)
    assert q.dequantize()[0, 16:19].tolist() == [6.0, -6.0, 0.0]


def test_nvfp4_tensor_scale_has_a_floor() -> None:
    x = torch.full((1, 16), 2.0**-130)
    q = check(x, catalog.NVFP4)
    assert q.scale.item() >= 2.0**-126
    largest = check(torch.tensor([[MAX, 1.0]]), catalog.NVFP4)
    assert math.isfinite(largest.scale.item())
    assert largest.dequantize()[0, 0].item() == pytest.approx(MAX, rel=1e-6)


@pytest.mark.parametrize("fmt", [catalog.MXFP8_E4M3, catalog.NVFP4, catalog.MXINT8], ids=str)
def test_nan(fmt: BlockFormat) -> None:
    x = normal((2, 32), seed=7)
    x[1, 4] = math.nan
    with pytest.raises(NotANumberError, match=rf"1 of 64 .* {fmt} are NaN"):
        Quantizer(fmt)(x)
    q, without = Quantizer(fmt, nan=5)(x), Quantizer(fmt)(torch.nan_to_num(x))
    assert q.codes[1, 4] == 5
    assert torch.equal(q.scale, without.scale)
    assert (q.codes != without.codes).sum() == 1


@pytest.mark.parametrize("fmt", FORMATS, ids=str)
def test_quantising_the_values_again_changes_nothing_but_where_blocks_saturate(fmt: BlockFormat) -> None:
    q = Quantizer(fmt)(normal((4, 48), seed=8))
    again = Quantizer(fmt)(q.dequantize())
    if isinstance(fmt.scale, FloatFormat):
        # A float scale follows the block's largest value, which rounding has moved.
        largest = q.dequantize().abs().amax().item()
        assert (again.dequantize() - q.dequantize()).abs().amax().item() <= 0.17 * largest
    else:
        assert torch.equal(again.dequantize(), q.dequantize())


def test_a_block_format_brings_its_own_granularity_and_scale() -> None:
    for options in ({"granularity": lb.PerAxis(0)}, {"scale": lb.PowerOfTwoScale()}):
        with pytest.raises(ValueError, match="mxfp4 has its own blocks and scales"):
            Quantizer(catalog.MXFP4, **options)
    with pytest.raises(ValueError, match="elements of mxfp4 saturate"):
        Quantizer(catalog.MXFP4, rounding=lb.Rounding(overflow="infinity"))


@pytest.mark.parametrize(
    ("fmt", "block", "scale_bits"),
    [(catalog.MXINT8, 32, 8), (catalog.NVFP4, 16, 8), (block_floating_point(8), 0, 8), (catalog.INT8, 0, 32)],
    ids=str,
)
def test_what_a_quantiser_says_of_its_blocks(fmt, block: int, scale_bits: int) -> None:
    quantizer = Quantizer(fmt)
    assert (quantizer.block, quantizer.scale_bits) == (block, scale_bits)
    assert quantizer(torch.ones(2, 40)).block == block
    assert quantizer.element_format == (fmt.element if isinstance(fmt, BlockFormat) else fmt)


def test_a_dimension_that_the_tensor_lacks() -> None:
    with pytest.raises(ValueError, match=r"PerAxis\(1\) needs a tensor with that axis"):
        Quantizer(block_floating_point(8, dim=1))(torch.ones(3))


def test_a_tensor_scale_is_one_float32_quotient() -> None:
    x = normal((1, 16), seed=11)
    largest = x.abs().max().item()
    tensor_scale = float32(largest / 2688.0)
    quotient = float32(float32(largest / 6.0) / tensor_scale)
    # The largest block's scale is next to 448, which E4M3 rounds it to.
    assert abs(quotient - 448) < 1e-3
    assert Quantizer(catalog.NVFP4)(x).scale.item() == float32(448 * tensor_scale)
