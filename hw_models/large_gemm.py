"""The GEMM by which a machine is looked at: one that fills its array and lets it reuse as much as its memories hold.

A row-stationary array reuses the rows of a convolution, and a spatial one may work on several of its pixels at once,
so that these get a convolution: a matrix product, to them one over single pixels, would show them at their worst.
"""

from __future__ import annotations

from dataclasses import replace

from hw_models.profile import HardwareProfile
from lowbit_sim.trace import ConvGeometry, GemmEvent

#: The dataflows made for convolutions.
_CONVOLUTIONAL = ("rs", "spatial")

#: M, N and K.
SIZE = 4096

#: A layer of 3 x 3 in the middle of a ResNet, but wider.
CONVOLUTION = ConvGeometry(
    batch=4,
    in_channels=256,
    in_height=56,
    in_width=56,
    out_channels=256,
    out_height=56,
    out_width=56,
    kernel_height=3,
    kernel_width=3,
    stride=(1, 1),
    dilation=(1, 1),
    groups=1,
)


def large_gemm(event: GemmEvent, profile: HardwareProfile) -> GemmEvent:
    """An event of the same formats and role that fills the machine's array.

    Args:
        event: Its sizes don't count.
        profile: The machine.
    """
    if profile.array.dataflow not in _CONVOLUTIONAL:
        return replace(event, M=SIZE, N=SIZE, K=SIZE)
    conv = CONVOLUTION
    pixels = conv.batch * conv.out_height * conv.out_width
    inner = conv.kernel_height * conv.kernel_width
    channels, filters = conv.in_channels, conv.out_channels
    sizes = {
        "output": (pixels, filters, channels * inner),
        "grad_input": (pixels, channels, filters * inner),
        "grad_weight": (filters, channels * inner, pixels),
    }
    m, n, k = sizes[event.role]
    return replace(event, M=m, N=n, K=k, conv=conv)


def in_words(profile: HardwareProfile) -> str:
    """What `large_gemm` is for a machine."""
    if profile.array.dataflow not in _CONVOLUTIONAL:
        return f"GEMM of {SIZE} x {SIZE} x {SIZE}"
    conv = CONVOLUTION
    return (
        f"convolution of {conv.kernel_height} x {conv.kernel_width}, {conv.in_channels} to {conv.out_channels} "
        f"channels, {conv.batch} images of {conv.out_height} x {conv.out_width}"
    )
