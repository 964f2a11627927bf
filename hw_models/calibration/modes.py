"""The modes of a device that are timed: what multiplies, as a profile names it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lowbit_sim.arith.backends.cuda_products import int8_product

if TYPE_CHECKING:
    from hw_models.schema.array import Kind


@dataclass(frozen=True, kw_only=True)
class TimedMode:
    """A way in which a device multiplies matrices.

    Attributes:
        name: The format of its operands.
        kind, operand_bits: The mode of a profile that it is.
        stored_bits: Width of an operand in the device's memory.
        product: The product of its operands [M, K] x [K, N].
        operand: A matrix of operands of a shape on a device.
    """

    name: str
    kind: Kind
    operand_bits: int
    stored_bits: int
    product: Callable[[Tensor, Tensor], Tensor]
    operand: Callable[[tuple[int, int], torch.device], Tensor]


def _floats(dtype: torch.dtype) -> Callable[[tuple[int, int], torch.device], Tensor]:
    return lambda shape, device: torch.randn(shape, device=device).to(dtype)


def _codes(shape: tuple[int, int], device: torch.device) -> Tensor:
    return torch.randint(-127, 128, shape, dtype=torch.int8, device=device)


def _in_float32(a: Tensor, b: Tensor) -> Tensor:
    return _at_precision("highest", a, b)


def _in_tf32(a: Tensor, b: Tensor) -> Tensor:
    return _at_precision("high", a, b)


def _at_precision(precision: str, a: Tensor, b: Tensor) -> Tensor:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        return a @ b
    finally:
        torch.set_float32_matmul_precision(before)


def _in_int8(a: Tensor, b: Tensor) -> Tensor:
    # A CUDA device's units want more rows than some GEMMs have: the padding is a part of what such a GEMM takes.
    if a.device.type == "cuda":
        return int8_product(a, b)
    return torch._int_mm(a, b)  # pyright: ignore[reportPrivateImportUsage]


def _by_columns(shape: tuple[int, int], device: torch.device) -> Tensor:
    return _codes((shape[1], shape[0]), device).t()


FP32 = TimedMode(
    name="fp32",
    kind="float",
    operand_bits=32,
    stored_bits=32,
    product=_in_float32,
    operand=_floats(torch.float32),
)
TF32 = TimedMode(
    name="tf32",
    kind="float",
    operand_bits=19,
    stored_bits=32,
    product=_in_tf32,
    operand=_floats(torch.float32),
)
BF16 = TimedMode(
    name="bf16",
    kind="float",
    operand_bits=16,
    stored_bits=16,
    product=torch.mm,
    operand=_floats(torch.bfloat16),
)
INT8 = TimedMode(name="int8", kind="integer", operand_bits=8, stored_bits=8, product=_in_int8, operand=_codes)


def timed_modes(device: torch.device) -> tuple[TimedMode, ...]:
    """The modes that a device has: TF32 on CUDA devices alone; INT8 where torch's product of integers runs."""
    modes = (FP32, TF32, BF16) if device.type == "cuda" else (FP32, BF16)
    return modes if int8_refusal(device) else (*modes, INT8)


def int8_refusal(device: torch.device) -> str | None:
    """Why torch's product of integers does not run on a device, or None where it does."""
    try:
        _in_int8(_codes((32, 32), device), _by_columns((32, 32), device))
    except RuntimeError as error:
        return str(error).splitlines()[0]
    return None


def matrices(
    mode: TimedMode, rows: int, columns: int, reduction: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Operands of a GEMM of a mode; the right one of integers lies by columns."""
    right = _by_columns if mode.kind == "integer" else mode.operand
    return mode.operand((rows, reduction), device), right((reduction, columns), device)
