"""Values by table: those of the definition, for every code and every layout of the codes."""

import pytest
import torch

from lowbit_sim.numerics import catalog
from lowbit_sim.numerics.encode import code_range, decode
from lowbit_sim.numerics.formats import ElementFormat
from lowbit_sim.numerics.reference import decode_value
from tests.numerics.cases import NF4


@pytest.mark.parametrize("fmt", [catalog.FP8_E4M3FN, catalog.FP4_E2M1, catalog.FP16, NF4], ids=str)
@pytest.mark.parametrize("repeats", [1, 300])
def test_every_code_has_its_value(fmt: ElementFormat, repeats: int) -> None:
    codes = torch.arange(min(code_range(fmt)[1] + 1, 4096)).to(torch.uint8 if fmt.bits <= 8 else torch.int32)
    expected = torch.tensor([decode_value(int(code), fmt) for code in codes], dtype=torch.float32)
    found = decode(codes.repeat(repeats, 1), fmt)
    assert found.shape == (repeats, codes.numel())
    assert torch.equal(found.view(torch.int32), expected.repeat(repeats, 1).view(torch.int32))
    assert torch.equal(
        decode(codes.repeat(2, 1).t(), fmt).view(torch.int32),
        found[:1].repeat(2, 1).t().contiguous().view(torch.int32),
    )


def test_no_codes() -> None:
    assert decode(torch.empty((0, 3), dtype=torch.uint8), catalog.FP8_E4M3FN).shape == (0, 3)


@pytest.mark.parametrize("code", [-1, 16])
def test_a_code_outside_the_table_is_refused(code: int) -> None:
    codes = torch.tensor([0, code], dtype=torch.int32)
    with pytest.raises(IndexError, match="from 0 to 15"):
        decode(codes, NF4)
