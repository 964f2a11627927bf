"""Codes of every granularity, element by element; the random bits follow the element's place in the tensor."""

import pytest
import torch

from lowbit_sim.numerics import catalog
from lowbit_sim.numerics.random import Stream
from lowbit_sim.numerics.reference import float_code, float_value
from lowbit_sim.numerics.rounding import Rounding
from lowbit_sim.quant.codes import rounded
from lowbit_sim.quant.quantizer import Quantizer
from lowbit_sim.quant.scaling import MinMaxScale
from tests.quant.cases import GRANULARITIES, codes_one_by_one, normal

STOCHASTIC = Rounding("stochastic", random_bits=6)
STREAM = Stream(seed=3, step=2, site=1, operand=4, offset=11)


@pytest.mark.parametrize(("granularity", "shape"), GRANULARITIES)
@pytest.mark.parametrize(
    "fmt", [catalog.INT4, catalog.FP6_E2M3, catalog.LOG4_RADIX2, catalog.POSIT8], ids=str
)
@pytest.mark.parametrize("how", [Rounding(), STOCHASTIC], ids=["nearest", "stochastic"])
def test_codes_by_the_definition(granularity, shape, fmt, how) -> None:
    x = normal(shape, seed=4, spread=1.5)
    q = Quantizer(fmt, granularity=granularity, rounding=how)(x, stream=STREAM)
    assert q.codes.reshape(-1).tolist() == codes_one_by_one(x, q.scale, granularity, fmt, how, STREAM)


@pytest.mark.parametrize(("granularity", "shape"), GRANULARITIES)
@pytest.mark.parametrize("unclipped", [False, True])
def test_codes_with_zero_points(granularity, shape, unclipped: bool) -> None:
    x = normal(shape, seed=5) + 0.7
    fmt = catalog.UINT4
    q = Quantizer(fmt, granularity=granularity, scale=MinMaxScale(unclipped=unclipped), rounding=STOCHASTIC)(
        x, stream=STREAM
    )
    assert q.zero_point is not None
    expected = codes_one_by_one(x, q.scale, granularity, fmt, STOCHASTIC, STREAM, q.zero_point)
    assert q.codes.reshape(-1).tolist() == expected


def test_rounded_is_the_nearest_value_of_the_format() -> None:
    x = torch.tensor([[0.3, -1e9, 447.0], [464.1, 2.0**-10, 0.0]])
    fmt = catalog.FP8_E4M3FN
    assert rounded(x, fmt).tolist() == [
        [float_value(float_code(v, fmt, Rounding()), fmt) for v in row] for row in x.tolist()
    ]
    assert rounded(x.t(), fmt).t().tolist() == rounded(x, fmt).tolist()
