"""Scales of slices: those of the whole tensor."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import lowbit_sim as lb

WHOLE = torch.randn(7, 4, 6, generator=torch.Generator().manual_seed(0)) * torch.arange(1, 8).reshape(
    -1, 1, 1
)
PARTS = [slice(0, 3), slice(3, 3), slice(3, 7)]


def largest_over(extremes: list[list[Tensor]], calls: list[int]) -> Callable[[Tensor], Tensor]:
    """What the processes would exchange: the n-th call finds the maximum of everyone's n-th tensor."""

    def reduce_max(x: Tensor) -> Tensor:
        calls[0] += 1
        return torch.stack([*(e[calls[0] - 1] for e in extremes), x]).amax(0)

    return reduce_max


def quantized_slices(quantizer: lb.Quantizer, whole: Tensor) -> list[lb.QTensor]:
    """Each slice by a process of its own; the exchanged tensors are gathered in a first round."""
    sent: list[list[Tensor]] = []
    for part in PARTS:
        mine: list[Tensor] = []

        def keep(x: Tensor, mine: list[Tensor] = mine) -> Tensor:
            mine.append(x)
            return x

        quantizer(whole[part], state=lb.ScaleState(), reduce_max=keep)
        sent.append(mine)
    return [
        quantizer(whole[part], state=lb.ScaleState(), reduce_max=largest_over(sent, [0])) for part in PARTS
    ]


CASES = {
    "absmax": lb.Quantizer(lb.INT8),
    "power of two": lb.Quantizer(lb.FP8_E4M3FN, scale=lb.PowerOfTwoScale()),
    "min max": lb.Quantizer(lb.UINT4, scale=lb.MinMaxScale()),
    "channels": lb.Quantizer(lb.INT4, granularity=lb.PerAxis(1)),
    "last axis": lb.Quantizer(lb.INT4, granularity=lb.PerAxis(-1), scale=lb.PowerOfTwoScale()),
    "groups of channels": lb.Quantizer(lb.INT4, granularity=lb.PerGroup(3, 1)),
    "samples": lb.Quantizer(lb.INT4, granularity=lb.PerSample()),
    "blocks": lb.Quantizer(lb.INT4, granularity=lb.PerBlock(4)),
    "running": lb.Quantizer(lb.INT8, scale=lb.EmaScale(momentum=0.5)),
    "fixed": lb.Quantizer(lb.INT8, scale=lb.FixedScale(0.125)),
    "mx": lb.Quantizer(lb.MXFP4),
    "block floating point": lb.Quantizer(lb.parse_format("bfp<8>")),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("infinite", [False, True], ids=["", "infinity"])
def test_slices_have_the_codes_of_the_whole(name, infinite) -> None:
    whole = WHOLE.clone()
    if infinite:
        whole[1, 2, 3] = torch.inf
    quantizer = CASES[name]
    expected = quantizer(whole, state=lb.ScaleState())
    found = quantized_slices(quantizer, whole)
    assert torch.equal(torch.cat([q.codes for q in found]), expected.codes)
    assert torch.equal(torch.cat([q.dequantize() for q in found]), expected.dequantize())


REFUSED = {
    "percentile": (lb.Quantizer(lb.INT8, scale=lb.PercentileScale(99.0)), "can't be found from the extremes"),
    "groups of samples": (
        lb.Quantizer(lb.INT8, granularity=lb.PerGroup(2, 0)),
        "groups samples that different",
    ),
    "nvfp4": (lb.Quantizer(lb.NVFP4), "has a scale for the whole tensor over those of its blocks"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_needs_more_than_the_extremes_is_refused(name) -> None:
    quantizer, message = REFUSED[name]
    with pytest.raises(ValueError, match=message):
        quantizer(WHOLE, state=lb.ScaleState(), reduce_max=lambda x: x)
