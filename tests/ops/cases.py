"""Specs, data and calls shared by the tests of the operators."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

import lowbit_sim as lb
from lowbit_sim.arith.mac import MacUnit
from lowbit_sim.ops.conv import conv
from lowbit_sim.ops.im2col import Window
from lowbit_sim.ops.linear import linear
from lowbit_sim.ops.operand import CallSite

NATIVE = lb.OpSpec(output=None, grad_input=None, grad_weight=None)
ROLES = ("output", "grad_input", "grad_weight")


def codes_spec(mac: MacUnit = MacUnit()) -> lb.OpSpec:
    """A spec that leaves integers from -127 to 127 as they are."""
    return lb.OpSpec.uniform(lb.INT8, mac=mac, scale=lb.FixedScale(1.0))


def only(role: str, spec: lb.OpSpec) -> lb.OpSpec:
    """A spec of which one GEMM is emulated."""
    return replace(NATIVE, **{role: getattr(spec, role)})


def integers(seed: int, *shape: int, largest: int = 9) -> Tensor:
    """float32 integers from -largest to largest."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-largest, largest + 1, shape, generator=generator).float()


def reals(seed: int, *shape: int) -> Tensor:
    """float32 normal deviates."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float32)


def run_linear(
    x: Tensor, w: Tensor, g: Tensor, spec: lb.OpSpec, bias: Tensor | None = None, at: CallSite = CallSite()
) -> tuple[Tensor, Tensor, Tensor]:
    """Output, grad_input and grad_weight of the operator."""
    x, w = x.detach().requires_grad_(), w.detach().requires_grad_()
    y = linear(x, w, bias, spec, at)
    grad_input, grad_weight = torch.autograd.grad(y, (x, w), g)
    return y.detach(), grad_input, grad_weight


def run_conv(
    x: Tensor,
    w: Tensor,
    g: Tensor,
    window: Window,
    spec: lb.OpSpec,
    bias: Tensor | None = None,
    at: CallSite = CallSite(),
) -> tuple[Tensor, Tensor, Tensor]:
    """Output, grad_input and grad_weight of the operator."""
    x, w = x.detach().requires_grad_(), w.detach().requires_grad_()
    y = conv(x, w, bias, window, spec, at)
    grad_input, grad_weight = torch.autograd.grad(y, (x, w), g)
    return y.detach(), grad_input, grad_weight


def output_shape(x_shape: Sequence[int], out_channels: int, window: Window) -> tuple[int, ...]:
    """[N, O, OH, OW]."""
    return (x_shape[0], out_channels, *window.output_size(x_shape[2], x_shape[3]))
