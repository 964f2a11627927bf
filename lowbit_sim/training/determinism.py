"""Same seed, same bits: torch's global switches for the length of a run, put back afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
import torch.utils.deterministic


@contextmanager
def deterministic(seed: int, device: torch.device | None = None, *, tf32: bool = False) -> Iterator[None]:
    """Deterministic algorithms only, and a global generator seeded for what draws from it (dropout).

    On a CUDA device float32 is float32 (no TF32 in convolutions, which is torch's default) unless `tf32` is asked
    for, which then multiplies in products and convolutions; cuDNN chooses its algorithms without timing them, and
    where torch has no deterministic algorithm it warns in place of refusing.

    The caller's settings and generator state are restored at the end.
    """
    algorithms = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    fill = torch.utils.deterministic.fill_uninitialized_memory  # pyright: ignore[reportAttributeAccessIssue]
    on_cuda = device is not None and device.type == "cuda"
    with torch.random.fork_rng(), _float32_products(tf32) if on_cuda else nullcontext():
        torch.manual_seed(seed)
        torch.use_deterministic_algorithms(True, warn_only=on_cuda)
        # Filling every torch.empty costs time and changes no result of code that writes what it reads.
        torch.utils.deterministic.fill_uninitialized_memory = False  # pyright: ignore[reportAttributeAccessIssue]
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(algorithms, warn_only=warn_only)
            torch.utils.deterministic.fill_uninitialized_memory = fill  # pyright: ignore[reportAttributeAccessIssue]


@contextmanager
def _float32_products(tf32: bool) -> Iterator[None]:
    """cuBLAS and cuDNN with or without TF32, and without the choice of an algorithm by its speed."""
    precision = torch.get_float32_matmul_precision()
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=tf32):
        torch.set_float32_matmul_precision("high" if tf32 else "highest")
        try:
            yield
        finally:
            torch.set_float32_matmul_precision(precision)
