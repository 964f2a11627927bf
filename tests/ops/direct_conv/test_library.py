"""When the library's int8 convolution may be trusted."""

import pytest
import torch

import lowbit_sim as lb
from lowbit_sim.ops.direct_conv import library
from lowbit_sim.ops.im2col import Window
from tests.ops.cases import run_conv
from tests.ops.direct_conv.ways import direct_roles

GEOMETRY = library.Geometry(
    x_shape=(2, 8, 6, 7), w_shape=(5, 8, 3, 2), stride=(1, 2), dilation=(2, 1), groups=1
)


@pytest.fixture
def unchecked():
    """No geometry is known yet, and none stays known."""
    from lowbit_sim.ops.direct_conv import blocks

    library._is_sound.cache_clear()
    blocks._plan.cache_clear()
    yield
    library._is_sound.cache_clear()
    blocks._plan.cache_clear()


def test_sums_that_leave_float32_are_refused() -> None:
    row = torch.full((1, 1, 1, 519), 127, dtype=torch.int8)  # 519 * 127 * 255 > 2^24
    assert not library.fits_float32(row, largest=127, zero_point=128)
    assert library.fits_float32(row[..., 1:], largest=127, zero_point=128)
    assert library.fits_float32(row, largest=7, zero_point=8)
    row[..., ::2] = -127
    assert library.fits_float32(row, largest=127, zero_point=128)


def test_large_sums_take_matrices_and_are_exact() -> None:
    # Each sum is beyond 2^24, where float32 has no odd integers.
    x, w = torch.full((1, 1200, 1, 1), 127.0), torch.full((2, 1200, 1, 1), 127.0)
    x[0, 0], w[1, 0] = 126.0, -3.0
    spec = lb.OpSpec.uniform(lb.INT8, scale=lb.FixedScale(1.0))
    with direct_roles() as roles:
        y, _, _ = run_conv(x, w, torch.ones(1, 2, 1, 1), Window(kernel=(1, 1)), spec)
    assert "output" not in roles
    exact = (x.long() * w.long()).sum((1, 2, 3))
    assert torch.equal(y.flatten(), exact.to(torch.float32))


def test_a_geometry_is_checked_against_matrices(unchecked) -> None:
    assert library.is_sound(GEOMETRY)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda y: y + 1,
        lambda y: torch.cat([y[:, :, :, :-1], torch.nextafter(y[:, :, :, -1:], torch.tensor(1e9))], dim=3),
    ],
    ids=["all", "one unit in the last place of one column"],
)
def test_a_wrong_library_is_not_used(monkeypatch, unchecked, wrong) -> None:
    right = library.convolve
    monkeypatch.setattr(library, "convolve", lambda *arguments: wrong(right(*arguments)))
    assert not library.is_sound(GEOMETRY)


def test_without_the_operator_matrices_are_used(monkeypatch, unchecked) -> None:
    def missing(*arguments):
        raise AttributeError("no such operator")

    x, w, g = torch.randn(2, 3, 5, 5), torch.randn(4, 3, 3, 3), torch.randn(2, 4, 3, 3)
    expected = run_conv(x, w, g, Window(kernel=(3, 3)), lb.OpSpec.uniform(lb.INT8))
    library._is_sound.cache_clear()
    from lowbit_sim.ops.direct_conv import blocks

    blocks._plan.cache_clear()
    monkeypatch.setattr(library, "pack", missing)
    with direct_roles() as roles:
        found = run_conv(x, w, g, Window(kernel=(3, 3)), lb.OpSpec.uniform(lb.INT8))
    assert roles == ["grad_weight"]
    assert all(map(torch.equal, found, expected))
