import numpy as np
import pytest
import torch

from lowbit_sim.numerics.catalog import INT8, as_format
from lowbit_sim.numerics.random import Stream
from lowbit_sim.numerics.rounding import Rounding
from lowbit_sim.quant.granularity import PerAxis, PerBlock, PerGroup, PerSample, PerTensor
from lowbit_sim.quant.quantizer import Quantizer
from lowbit_sim.quant.scaling import AbsMaxScale, FixedScale, MinMaxScale, PowerOfTwoScale
from lowbit_sim.testing import ContractError, check_quantizer

STOCHASTIC = Rounding("stochastic", random_bits=6)


def scale_of(x):
    largest = x.abs().amax() if x.numel() else torch.zeros(())
    scale = (largest / torch.tensor(127.0)).clamp(min=2.0**-126)
    return torch.where(largest == 0, torch.ones(()), scale)


def int8(x):
    return torch.round(x * (1 / scale_of(x))).clamp(-127, 127).to(torch.int8)


def test_a_right_quantiser_passes_however_it_returns_its_result():
    few = {"max_examples": 20}
    check_quantizer(int8, INT8)
    check_quantizer(lambda x: int8(x).to(torch.float32), "int8", returns="codes", **few)
    check_quantizer(lambda x: int8(x) * scale_of(x), "int8", **few)
    check_quantizer(lambda x: (int8(x), scale_of(x)), "int8", **few)
    check_quantizer(lambda x: Quantizer(INT8)(x), "int8", **few)
    check_quantizer(lambda x: int8(torch.from_numpy(x)).numpy(), "int8", takes="numpy", **few)


WRONG = {
    "multiplies by 127 / absmax": (
        lambda x: torch.round(x * (127 / (scale_of(x) * 127))).clamp(-127, 127),
        {},
    ),
    # The two differ next to a tie only, once in some hundred tensors.
    "divides by the scale": (
        lambda x: torch.round(x / scale_of(x)).clamp(-127, 127),
        {"max_examples": 3000},
    ),
    "divides in float64": (lambda x: torch.round(x.double() / scale_of(x).double()).clamp(-127, 127), {}),
    "ties up": (lambda x: torch.floor(x * (1 / scale_of(x)) + 0.5).clamp(-127, 127), {}),
    "truncates": (lambda x: torch.trunc(x * (1 / scale_of(x))), {}),
    "one code too many": (lambda x: torch.round(x).clamp(-128, 127), {"scale": 1.0}),
    "one code too few": (lambda x: torch.round(x).clamp(-127, 126), {"scale": 1.0}),
    "wraps": (lambda x: torch.round(x).fmod(256).to(torch.int32).to(torch.int8), {"scale": 1.0}),
    "infinities become the least": (
        lambda x: int8(torch.nan_to_num(x, posinf=-3e38)),
        {"scale": 1.0, "infinities": True},
    ),
    "the scale of the whole tensor": (int8, {"granularity": PerAxis(0)}),
    "ignores strides": (
        lambda x: int8(x.mT.contiguous().reshape(x.shape) if x.ndim > 1 else x),
        {"strided": True},
    ),
}


@pytest.mark.usefixtures("unshrunk")
@pytest.mark.parametrize("name", WRONG)
def test_wrong_quantisers_are_found(name):
    fn, options = WRONG[name]
    with pytest.raises(ContractError, match="is not int8"):
        check_quantizer(fn, "int8", returns="codes", **{"max_examples": 600, **options})


def test_the_message_has_all_that_is_to_be_known():
    with pytest.raises(ContractError) as caught:
        check_quantizer(WRONG["ties up"][0], "int8", returns="codes")
    message = str(caught.value)
    for part in (
        "input ",
        "a tie between",
        "scale = 0x",
        "expected  code",
        "got       code",
        "nearest_even: to the",
    ):
        assert part in message
    # What is left is the largest magnitude and the tie.
    assert "shape [2]" in message


@pytest.mark.parametrize("strided", [False, True])
def test_a_quantiser_that_overwrites_its_input_is_found(strided):
    def overwrites(x):
        codes = Quantizer(INT8)(x)
        x.mul_(2)
        return codes

    with pytest.raises(ContractError, match="overwrites overwrites argument 0"):
        check_quantizer(overwrites, "int8", strided=strided)


def test_random_integers_that_are_overwritten_are_found():
    def overwrites(x, random):
        codes = (torch.floor(x.double() * 64) + random).div(64).floor().clamp(-127, 127).to(torch.int8)
        random.zero_()
        return codes

    with pytest.raises(ContractError, match="overwrites overwrites argument 1"):
        check_quantizer(overwrites, "int8", scale=1.0, rounding=STOCHASTIC)


@pytest.mark.usefixtures("unshrunk")
def test_another_scale_or_shape_is_a_failure():
    with pytest.raises(ContractError, match="another scale"):
        check_quantizer(lambda x: (int8(x), scale_of(x) * 2), "int8")
    with pytest.raises(ContractError, match="another shape"):
        check_quantizer(lambda x: int8(x)[:1], "int8")


def test_the_sign_of_zero_counts_where_there_is_a_code_for_it():
    def unsigned_zero(x):
        return x.clamp(-448, 448).to(torch.float8_e4m3fn).to(torch.float32) + 0.0

    check_quantizer(
        lambda x: x.clamp(-448, 448).to(torch.float8_e4m3fn).float(), "fp8_e4m3fn", scale=1.0, max_examples=60
    )
    with pytest.raises(ContractError, match="value -0x0p"):
        check_quantizer(unsigned_zero, "fp8_e4m3fn", scale=1.0)


def test_a_code_for_nan():
    check_quantizer(
        lambda x: int8(torch.nan_to_num(x, nan=0.0)), "int8", nan=0, subnormals=False, max_examples=60
    )
    with pytest.raises(ContractError, match="nan, NaN"):
        check_quantizer(
            lambda x: torch.round(x).clamp(-127, 127).nan_to_num(1.0),
            "int8",
            returns="codes",
            nan=0,
            scale=1.0,
        )


@pytest.mark.usefixtures("unshrunk")
def test_stochastic_rounding_by_integers_and_by_stream():
    def by_integers(x, random):
        return (torch.floor(x.double() * 64) + random).div(64).floor().clamp(-127, 127).to(torch.int8)

    check_quantizer(by_integers, "int8", scale=1.0, rounding=STOCHASTIC, max_examples=60)
    with pytest.raises(ContractError, match="R = "):
        check_quantizer(lambda x, r: by_integers(x, r.flip(0)), "int8", scale=1.0, rounding=STOCHASTIC)
    right = Quantizer(INT8, rounding=STOCHASTIC)
    check_quantizer(lambda x, stream: right(x, stream=stream), right, random="stream", max_examples=60)
    with pytest.raises(ContractError, match="is not int8 stochastic"):
        check_quantizer(
            lambda x, stream: right(x, stream=Stream(seed=stream.seed + 1)), right, random="stream"
        )


GRANULARITIES = [PerTensor(), PerAxis(-1), PerAxis(1), PerSample(), PerGroup(2, 0), PerBlock(3)]
SCALES = [AbsMaxScale(), PowerOfTwoScale(), MinMaxScale(), FixedScale(0.375)]


@pytest.mark.parametrize("granularity", GRANULARITIES, ids=str)
@pytest.mark.parametrize("scale", SCALES, ids=str)
def test_the_projects_quantiser_passes_with_every_granularity_and_scale(granularity, scale):
    q = Quantizer(INT8, granularity=granularity, scale=scale)
    check_quantizer(lambda x: q(x), q, infinities=True, strided=True, max_examples=15)


FORMATS = [
    "uint4",
    "int8_full",
    "fixed<8,6>",
    "fp8_e5m2",
    "fp4_e2m1",
    "bf16",
    "fp32",
    "posit8",
    "log4_radix4",
    "bfp<6,4>",
]


@pytest.mark.parametrize("name", [*FORMATS, "mxint8", "mxfp4", "nvfp4"])
@pytest.mark.parametrize("rounding", [Rounding(), Rounding("up"), STOCHASTIC], ids=lambda r: str(r.mode))
def test_the_projects_quantiser_passes_with_every_kind_of_format(name, rounding):
    q = Quantizer(as_format(name), rounding=rounding)
    check_quantizer(
        lambda x, stream=None: q(x, stream=stream), q, random="stream", infinities=True, max_examples=15
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"returns": "bits"}, "returns is one of"),
        ({"random": "bits"}, "random is one of"),
        ({"takes": "jax"}, "takes is one of"),
        ({"rounding": "nearest"}, "unknown rounding mode"),
        ({"nan": 300}, "nan must be"),
    ],
)
def test_wrong_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        check_quantizer(int8, "int8", **options)


def test_numpy_values_are_compared_bit_for_bit():
    def off_by_one_step(x):
        values = Quantizer(INT8)(torch.from_numpy(x)).dequantize().numpy()
        return np.nextafter(values, np.float32(np.inf))

    with pytest.raises(ContractError, match="value "):
        check_quantizer(off_by_one_step, "int8", takes="numpy")
