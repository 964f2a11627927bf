"""New tensors: what was asked for, whatever memory they lie in."""

import pytest
import torch

from lowbit_sim.numerics.memory import empty


@pytest.mark.parametrize("shape", [(), (0,), (3, 0), (7, 5), (1 << 17,), (300, 1000)])
@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.int32, torch.float32, torch.bfloat16])
def test_shape_type_and_layout(shape, dtype) -> None:
    x = empty(shape, dtype)
    assert (x.shape, x.dtype, x.device.type) == (torch.Size(shape), dtype, "cpu")
    assert x.is_contiguous()
    x.fill_(1)
    assert bool((x == 1).all())


def test_other_devices() -> None:
    assert empty((1 << 20,), torch.int8, torch.device("meta")).is_meta


def test_tensors_do_not_share_memory() -> None:
    first, second = (empty((1 << 20,), torch.int8).fill_(value) for value in (1, 2))
    assert int(first.min()) == int(first.max()) == 1
    assert int(second.min()) == 2
