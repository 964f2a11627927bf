"""Which scale and which random bits each element of a tensor gets from the GPU's kernels, at any size."""

import numpy as np
import pytest
import torch

from lowbit_sim.numerics import catalog, kernels
from lowbit_sim.numerics.encode import encode
from lowbit_sim.numerics.formats import ElementFormat
from lowbit_sim.numerics.random import Stream, draw
from lowbit_sim.numerics.rounding import Rounding
from tests.numerics.cases import kernel_codes, rounding
from tests.numerics.triton.cases import FAR_STREAM, ODD_STREAM, triton_codes

RNG = np.random.default_rng(0)


def by_channel(
    x: np.ndarray, inv: np.ndarray, zero_points: np.ndarray | None, run: int, fmt: ElementFormat
) -> np.ndarray:
    codes = np.empty(x.size, dtype=np.int64)
    offsets = None if zero_points is None else zero_points.astype(np.int64)
    encode(x, inv, offsets, run or kernels.ROW_ELEMENTS, fmt, Rounding(), None, codes)
    return codes


#: Runs and channels: one channel; as many runs as channels, of odd, even and long length; channels that repeat.
ADDRESSES = [
    (0, 1),
    (4500, 1),
    (1, 4500),
    (3, 1500),
    (12, 375),
    (32, 141),
    (147, 31),
    (2047, 3),
    (2048, 3),
    (2250, 2),
    (1, 7),
    (5, 2),
    (48, 9),
    (2100, 2),
    (9000, 2),
]


@pytest.mark.parametrize(("run", "channels"), ADDRESSES)
def test_every_element_has_its_scale_and_zero_point(run: int, channels: int) -> None:
    x = RNG.standard_normal(4500).astype(np.float32) * 20
    inv = RNG.uniform(0.5, 6, channels).astype(np.float32)
    zero_points = RNG.integers(0, 256, channels).astype(np.int32)
    for fmt, offsets in ((catalog.UINT8, zero_points), (catalog.FP8_E4M3FN, None), (catalog.POSIT8, None)):
        found = triton_codes(x, fmt, Rounding(), inv=inv, zero_points=offsets, run=run)
        np.testing.assert_array_equal(found, by_channel(x, inv, offsets, run, fmt))


@pytest.mark.parametrize("size", [1, 15, 16, 17, 2047, 2048, 2049])
@pytest.mark.parametrize("stream", [ODD_STREAM, FAR_STREAM], ids=["odd", "far"])
def test_sizes(size: int, stream: Stream) -> None:
    x = RNG.standard_normal(size).astype(np.float32) * 40
    how = rounding("stochastic")
    expected = kernel_codes(x, catalog.INT8, how, stream)
    np.testing.assert_array_equal(triton_codes(x, catalog.INT8, how, stream), expected)


def test_nothing_is_written_behind_a_tensor_without_elements() -> None:
    assert triton_codes(np.empty(0, np.float32), catalog.INT8, Rounding()).size == 0


@pytest.mark.parametrize("bits", [1, 8, 13, 16, 17, 32])
@pytest.mark.parametrize("offset", [0, 3, 2**35 - 16, 2**62 - 64])
def test_an_element_draws_the_bits_of_the_definition(bits: int, offset: int) -> None:
    # Of y = t 2^-23 with r random bits, code 1 says that floor(t 2^(r - 23)) + R reaches 2^r.
    stream = Stream(seed=2**31, step=9, site=2**32 - 1, operand=5, offset=offset)
    x = RNG.integers(0, 1 << 23, 60).astype(np.float32) / np.float32(1 << 23)
    codes = triton_codes(x, catalog.INT8, rounding("stochastic", random_bits=bits), stream)
    draws = [draw(stream, i, bits) for i in range(60)]
    kept = [int(float(y) * 2**bits) for y in x]
    assert codes.tolist() == [int(k + r >= 1 << bits) for k, r in zip(kept, draws, strict=True)]
    assert set(codes.tolist()) == {0, 1}


def test_a_format_without_zero_points_refuses_them() -> None:
    from lowbit_sim.numerics.triton.launch import encode_on_device

    x = torch.ones(1)
    with pytest.raises(ValueError, match="fp8_e5m2 has no zero point"):
        encode_on_device(
            x,
            x,
            torch.ones(1, dtype=torch.int32),
            0,
            catalog.FP8_E5M2,
            Rounding(),
            None,
            torch.empty(1, dtype=torch.uint8),
        )
