"""Whether Triton's kernels can run on a device. Importing this module imports no Triton.

Without a GPU, Triton's interpreter runs the kernels on the CPU's tensors, slowly: set TRITON_INTERPRET=1 before the
first kernel is defined. It is there for tests; nothing chooses it by itself.
"""

from __future__ import annotations

import importlib.util
import os

import torch


def interpreting() -> bool:
    """Whether Triton's interpreter stands in for a GPU."""
    return os.environ.get("TRITON_INTERPRET", "0").lower() in ("1", "true", "on", "yes")


def why_no_triton(device: torch.device) -> str | None:
    """None where Triton's kernels run on a device's tensors, else the reason why they don't."""
    if importlib.util.find_spec("triton") is None:
        return "Triton is not installed (pip install lowbit-sim[gpu])"
    if device.type == "cuda" or (device.type == "cpu" and interpreting()):
        return None
    return f"runs on a CUDA device, the operands are on {device}"


def uses_triton(device: torch.device) -> bool:
    """Whether tensors of a device are quantised by Triton's kernels, as those of a CUDA device are."""
    return device.type == "cuda"
