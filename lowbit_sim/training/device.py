"""Where a run computes: on the CPU, or on a CUDA device."""

from __future__ import annotations

import os

import torch
from torch import nn

from lowbit_sim.numerics.suggest import unknown

#: The names that a device can be asked for by.
DEVICES = ("cpu", "cuda")

CPU = torch.device("cpu")

_WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"


class DeviceError(ValueError):
    """A device that nobody knows, or that is not here."""


def find_device(name: str) -> torch.device:
    """The device of a name, ready for reproducible products.

    cuBLAS adds in the same order in every run only with a workspace of a fixed size, which the environment tells it
    before its first product (NVIDIA, "cuBLAS Library", section "Results Reproducibility"); a size that is set
    already is left.

    Raises:
        DeviceError: An unknown name, or a device that torch can't use here.
    """
    if name not in DEVICES:
        raise DeviceError(unknown("device", name, DEVICES))
    if name == "cpu":
        return CPU
    if not torch.cuda.is_available():
        why = "finds no CUDA device" if torch.version.cuda else "is built for the CPU alone"
        raise DeviceError(f"can't run on cuda: torch {torch.__version__} {why} here; run on cpu")
    os.environ.setdefault(_WORKSPACE, ":4096:8")
    return torch.device("cuda", torch.cuda.current_device())


def device_of(model: nn.Module) -> torch.device:
    """The device of a model's parameters, to which its batches go; the CPU for a model without any."""
    first = next(model.parameters(), None)
    return CPU if first is None else first.device


def device_name(device: torch.device) -> str:
    """What a record calls a device: "cpu", or the name of the accelerator."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
