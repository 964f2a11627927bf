import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

import lowbit_sim as lb
from lowbit_sim.nn import native_int8
from lowbit_sim.nn.convert import UnsupportedModuleError
from lowbit_sim.nn.native_int8 import (
    MAC,
    convert_to_native_int8,
    int8_codes,
    int8_product,
    plain_int8_codes,
    why_no_integer_units,
)
from lowbit_sim.numerics import triton_support
from lowbit_sim.quant.quantizer import NotANumberError

SPEC = lb.OpSpec.uniform(lb.INT8, mac=MAC)


def passes(network: nn.Module, x: Tensor) -> list[Tensor]:
    """Output and all gradients."""
    x = x.clone().requires_grad_()
    y = network(x)
    generator = torch.Generator().manual_seed(1)
    y.backward(torch.randn(y.shape, generator=generator))
    gradients = [p.grad for p in network.parameters() if p.grad is not None]
    assert x.grad is not None
    return [y.detach(), x.grad, *gradients]


def check_twins(network: nn.Module, x: Tensor) -> None:
    emulated = lb.convert(copy.deepcopy(network), [lb.Rule("*", SPEC)])
    native = convert_to_native_int8(copy.deepcopy(network))
    for ours, theirs in zip(passes(native, x), passes(emulated, x), strict=True):
        assert torch.equal(ours, theirs)


@given(
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 2)),
    padding=st.tuples(st.integers(0, 3), st.integers(0, 2)),
    dilation=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    channels=st.tuples(st.integers(1, 4), st.integers(1, 5)),
    bias=st.booleans(),
)
def test_a_convolution_gives_the_bits_of_its_emulation(kernel, stride, padding, dilation, channels, bias):
    torch.manual_seed(0)
    conv = nn.Conv2d(*channels, kernel, stride=stride, padding=padding, dilation=dilation, bias=bias)
    check_twins(conv, torch.randn(2, channels[0], 7, 6))


def test_same_padding_may_be_uneven():
    torch.manual_seed(0)
    check_twins(nn.Conv2d(2, 3, (2, 4), padding="same"), torch.randn(2, 2, 5, 6))


@given(rows=st.integers(1, 5), inner=st.integers(1, 20), columns=st.integers(1, 9), bias=st.booleans())
def test_a_linear_layer_gives_the_bits_of_its_emulation(rows, inner, columns, bias):
    torch.manual_seed(0)
    check_twins(nn.Linear(inner, columns, bias=bias), torch.randn(rows, 2, inner))


def test_a_network_gives_the_bits_of_its_emulation():
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, stride=2),
        nn.Flatten(),
        nn.Linear(72, 5),
    )
    check_twins(network, torch.randn(4, 3, 8, 8))


@given(st.lists(st.floats(width=32, allow_nan=False), max_size=40))
def test_plain_codes_are_the_quantisers(values):
    x = torch.tensor(values, dtype=torch.float32)
    codes, scale = plain_int8_codes(x)
    theirs, their_scale = int8_codes(x)
    assert torch.equal(codes, theirs)
    assert torch.equal(scale, their_scale)


class Operations(TorchDispatchMode):
    """Notes what torch runs, each operation with its arguments."""

    def __init__(self):
        super().__init__()
        self.calls: list[tuple[str, tuple[Any, ...]]] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.calls.append((func.overloadpacket.__name__, args))
        return func(*args, **(kwargs or {}))

    @property
    def waits(self) -> list[str]:
        """Those whose result the host needs before it goes on."""
        return [name for name, _ in self.calls if name in ("_local_scalar_dense", "nonzero", "equal")]


@contextmanager
def on_gpu() -> Iterator[None]:
    """Have the CPU's tensors take the way of a GPU's, in Triton's interpreter."""
    pytest.importorskip("triton", reason="Triton is not installed")
    if (why := triton_support.why_no_triton(torch.device("cpu"))) is not None:
        pytest.skip(why)
    with pytest.MonkeyPatch.context() as patch, np.errstate(all="ignore"):
        patch.setattr(triton_support, "uses_triton", lambda device: True)
        patch.setattr(native_int8, "_QUANTIZER", None)
        yield


@given(st.lists(st.floats(width=32, allow_nan=False), max_size=40))
def test_a_gpus_codes_are_the_quantisers(values):
    x = torch.tensor(values, dtype=torch.float32)
    codes, scale = int8_codes(x)
    with on_gpu():
        theirs, their_scale = int8_codes(x)
    assert torch.equal(codes, theirs)
    assert torch.equal(scale, their_scale)


def test_a_gpus_host_never_waits_and_the_bits_are_the_cpus():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(48, 4))
    convert_to_native_int8(network)
    x = torch.randn(2, 2, 4, 4)
    expected = passes(copy.deepcopy(network), x)
    with on_gpu(), Operations() as ran:
        found = passes(network, x)
    assert ran.waits == []
    assert all(map(torch.equal, found, expected))


@pytest.mark.parametrize("kernels", [True, False], ids=["kernels", "plain"])
def test_off_the_cpu_a_nan_makes_the_results_nan(monkeypatch, kernels):
    layer = convert_to_native_int8(nn.Linear(3, 2))
    x = torch.tensor([[1.0, torch.nan, 2.0], [0.0, 0.0, 0.0]])
    with pytest.raises(NotANumberError):
        layer(x)
    if kernels:
        with on_gpu():
            assert layer(x).isnan().all()
    else:
        monkeypatch.setattr(native_int8, "missing_kernel", lambda device: "none here")
        assert layer(x).isnan().all()


def test_plain_codes_divide_by_a_tensor():
    """Dividing by a Python number multiplies by its rounded reciprocal on a GPU."""
    with Operations() as ran:
        plain_int8_codes(torch.randn(5))
    divisors = [args[1] for name, args in ran.calls if name.startswith("div")]
    assert [isinstance(divisor, Tensor) for divisor in divisors] == [True]


def test_where_the_device_has_no_kernel_the_plain_codes_serve(monkeypatch):
    monkeypatch.setattr(native_int8, "missing_kernel", lambda device: "none here")
    monkeypatch.setattr(native_int8, "_QUANTIZER", None)
    torch.manual_seed(0)
    layer, x = nn.Linear(6, 3), torch.randn(4, 6)
    plain = passes(convert_to_native_int8(copy.deepcopy(layer)), x)
    monkeypatch.undo()
    assert all(map(torch.equal, plain, passes(convert_to_native_int8(layer), x)))


@given(rows=st.integers(1, 20), inner=st.integers(1, 18), columns=st.integers(1, 18))
def test_products_are_exact_for_any_layout(rows, inner, columns):
    generator = torch.Generator().manual_seed(0)
    a = torch.randint(-127, 128, (rows, inner), dtype=torch.int8, generator=generator)
    b = torch.randint(-127, 128, (inner, columns), dtype=torch.int8, generator=generator)
    expected = a.long() @ b.long()
    assert torch.equal(int8_product(a, b).long(), expected)
    assert torch.equal(int8_product(a.t().contiguous().t(), b.t().contiguous().t()).long(), expected)


def test_layers_that_stay_and_layers_that_can_t_be():
    network = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    convert_to_native_int8(network, native=["0"])
    assert [type(m).__name__ for m in network] == ["Linear", "NativeInt8Linear"]
    with pytest.raises(UnsupportedModuleError, match="'1' is a convolution with groups=2"):
        convert_to_native_int8(nn.Sequential(nn.ReLU(), nn.Conv2d(2, 2, 1, groups=2)))
    with pytest.raises(UnsupportedModuleError, match="'0' is a Conv1d: native INT8 runs Linear and Conv2d"):
        convert_to_native_int8(nn.Sequential(nn.Conv1d(2, 2, 1)))


def test_parameters_are_the_models_own():
    layer = nn.Linear(2, 2)
    twin = convert_to_native_int8(layer)
    assert twin.weight is layer.weight


def test_machines_without_integer_units_are_told(monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_vnni_supported", lambda: False)
    assert why_no_integer_units(torch.device("cpu")) == "this processor has no VNNI instructions"
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 0))
    assert "this device has 7.0" in str(why_no_integer_units(torch.device("cuda")))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    assert why_no_integer_units(torch.device("cuda")) is None
    assert "not on mps" in str(why_no_integer_units(torch.device("mps")))
