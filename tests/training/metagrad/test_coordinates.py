import pytest
import torch

from lowbit_sim.training.metagrad import coordinates
from lowbit_sim.training.metagrad.coordinates import FlatLayout

SHAPES = {"a": (2, 3), "b": (5,), "c": (1, 1), "empty": (0, 4), "d": (7, 2)}


@pytest.fixture(params=[1, 4, 6, 26, 100])
def layout(request, monkeypatch) -> FlatLayout:
    monkeypatch.setattr(coordinates, "CHUNK", request.param)
    return FlatLayout(SHAPES, torch.device("cpu"))


def tensors() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator) for shape in SHAPES.values()]


def test_what_is_joined_comes_apart_again(layout):
    flat = layout.join(tensors(), torch.float32)
    assert flat.shape == (26,)
    assert all(torch.equal(*pair) for pair in zip(layout.part(flat), tensors(), strict=True))


def test_chunks_cover_everything_once(layout):
    flat = torch.arange(26)
    assert torch.equal(torch.cat([chunk.of(flat) for chunk in layout.chunks]), flat)


def test_a_number_a_tensor_becomes_one_a_coordinate(layout):
    of_tensors = torch.arange(5.0)
    found = torch.cat([chunk.expand(of_tensors) for chunk in layout.chunks])
    expected = torch.cat([torch.full(t.shape, float(i)).reshape(-1) for i, t in enumerate(tensors())])
    assert torch.equal(found, expected)


def test_scales_are_root_mean_squares_and_never_zero(layout):
    flat = layout.join([t * (i != 1) for i, t in enumerate(tensors())], torch.float32)
    expected = [t.square().mean().sqrt() for t in tensors()]
    expected[1] = expected[3] = torch.tensor(1e-30)
    torch.testing.assert_close(layout.scales(flat), torch.stack(expected))
