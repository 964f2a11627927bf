"""When the library's int8 convolution may be trusted."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

import lowbit_sim as lb
from lowbit_sim.arith.backends.torch_exact import int_mm_is_sound
from lowbit_sim.ops.direct_conv import blocks, library, soundness
from lowbit_sim.ops.im2col import Window
from tests.ops.cases import reals, run_conv
from tests.ops.direct_conv.ways import direct_roles

GEOMETRY = library.Geometry(
    x_shape=(2, 8, 6, 7), w_shape=(5, 8, 3, 2), stride=(1, 2), dilation=(2, 1), groups=1
)
LARGE = library.Geometry(
    x_shape=(1, 512, 226, 226), w_shape=(512, 512, 3, 3), stride=(1, 1), dilation=(1, 1), groups=1
)

STOCHASTIC = lb.Quantizer(lb.INT8, rounding=lb.Rounding("stochastic", random_bits=8))
SAMPLED = replace(
    lb.OpSpec.uniform(lb.INT8), grad_weight=lb.GemmSpec(STOCHASTIC, lb.Quantizer(lb.INT8), samples=2)
)


def forget() -> None:
    soundness._is_sound.cache_clear()
    blocks._plan.cache_clear()


@pytest.fixture
def unchecked():
    """No geometry is known yet, and none stays known."""
    forget()
    yield
    forget()


def spoilt(y: torch.Tensor, place: tuple, by: float = 1.0) -> torch.Tensor:
    y = y.clone()
    y[place] += by
    return y


def conv3x3() -> tuple[torch.Tensor, ...]:
    x, w, g = reals(0, 2, 3, 5, 5), reals(1, 4, 3, 3, 3), reals(2, 2, 4, 3, 3)
    return run_conv(x, w, g, Window(kernel=(3, 3)), lb.OpSpec.uniform(lb.INT8))


def test_this_processors_library_is_sound(unchecked) -> None:
    assert soundness.is_sound(GEOMETRY)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda y: y + 1,
        lambda y: torch.cat([y[:, :, :, :-1], torch.nextafter(y[:, :, :, -1:], torch.tensor(1e9))], dim=3),
        lambda y: spoilt(y, (1, 4, 1, 1)),
        lambda y: y if torch.equal(y[0, :, 0, 0], y[0, :, 1, 1]) else spoilt(y, (slice(None), 2, -1, 0)),
        lambda y: y.clamp(max=2.0**15 - 1),
    ],
    ids=["all", "one unit in the last place of one column", "one output", "random codes", "saturated"],
)
def test_a_wrong_library_is_not_used(monkeypatch, unchecked, wrong) -> None:
    right = library.convolve
    monkeypatch.setattr(library, "convolve", lambda *arguments: wrong(right(*arguments)))
    assert not soundness.is_sound(GEOMETRY)


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("stride", [(1, 1), (2, 3)])
def test_the_definitions_sums_are_torchs_convolution(groups: int, stride: tuple[int, int]) -> None:
    geometry = library.Geometry(
        x_shape=(1, 6, 9, 11), w_shape=(4, 6 // groups, 3, 2), stride=stride, dilation=(2, 1), groups=groups
    )
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(-128, 128, (6, 9, 11), dtype=torch.int8, generator=generator)
    weight = torch.randint(-127, 128, geometry.w_shape, dtype=torch.int8, generator=generator)
    y = F.conv2d(image[None].double(), weight.double(), None, stride, 0, (2, 1), groups)[0]
    at = torch.cartesian_prod(torch.arange(y.shape[1]), torch.arange(y.shape[2]))
    assert torch.equal(soundness.sums_at(image, weight, at, geometry), y.flatten(1).t().float())


@pytest.mark.parametrize("geometry", [GEOMETRY, LARGE], ids=["small", "large"])
def test_positions_are_outputs_and_take_bounded_work(geometry: library.Geometry) -> None:
    at = soundness.positions(geometry, torch.Generator().manual_seed(0))
    window = Window(kernel=geometry.w_shape[2:], stride=geometry.stride, dilation=geometry.dilation)
    bottom, right = (n - 1 for n in window.output_size(*geometry.x_shape[2:]))
    assert {(0, 0), (0, right), (bottom, 0), (bottom, right)} <= {tuple(place) for place in at.tolist()}
    assert at.min() >= 0
    assert (at <= torch.tensor([bottom, right])).all()
    assert len(at) * torch.Size(geometry.w_shape).numel() < 1 << 25


def missing(*arguments):
    raise AttributeError("no such operator")


def unsupported(*arguments):
    raise RuntimeError("could not create a primitive descriptor for a convolution")


@pytest.mark.parametrize("fails", [missing, unsupported])
def test_without_the_operator_matrices_are_used(monkeypatch, unchecked, fails) -> None:
    expected = conv3x3()
    forget()
    monkeypatch.setattr(library, "pack", fails)
    with direct_roles() as roles:
        found = conv3x3()
    assert roles == ["grad_weight"]
    assert all(map(torch.equal, found, expected))


def test_a_lack_of_memory_is_told_and_not_remembered(monkeypatch, unchecked) -> None:
    def exhausted(*arguments):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes")

    with monkeypatch.context() as patch:
        patch.setattr(library, "pack", exhausted)
        with pytest.raises(RuntimeError, match="can't allocate memory"):
            conv3x3()
    with direct_roles() as roles:
        conv3x3()
    assert "output" in roles


def test_another_default_dtype_changes_nothing(unchecked) -> None:
    expected = conv3x3()
    forget()
    torch.set_default_dtype(torch.float64)
    try:
        with direct_roles() as roles:
            found = conv3x3()
    finally:
        torch.set_default_dtype(torch.float32)
    assert roles == ["output", "grad_input", "grad_weight"]
    assert all(map(torch.equal, found, expected))


@pytest.mark.parametrize(
    ("spec", "direct"),
    [
        (lb.OpSpec.uniform(lb.INT8), ["output", "grad_input", "grad_weight"]),
        (lb.OpSpec.uniform(lb.IntFormat(bits=12)), []),
        (lb.OpSpec.uniform(lb.INT8, mac=lb.MacUnit(accumulator_bits=8, overflow="saturate", chunk=4)), []),
        (SAMPLED, ["output", "grad_input"]),
    ],
    ids=["direct", "12 bits", "unproven", "samples"],
)
def test_another_default_device_changes_nothing(unchecked, spec: lb.OpSpec, direct: list[str]) -> None:
    x, w, g = reals(0, 2, 3, 5, 5), reals(1, 4, 3, 3, 3), reals(2, 2, 4, 3, 3)
    expected = run_conv(x, w, g, Window(kernel=(3, 3)), spec)
    forget()
    int_mm_is_sound.cache_clear()
    with torch.device("meta"), direct_roles() as roles:
        found = run_conv(x, w, g, Window(kernel=(3, 3)), spec)
    assert roles == direct
    assert all(map(torch.equal, found, expected))
