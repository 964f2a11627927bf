"""The emulated matrix product: operands in, exactly the machine's accumulators out.

`gemm` takes the fastest path that provably returns the bits of `backends/reference.py`: a library product
where no overflow can happen, the compiled accumulator for the rows and columns where one could.
"""

from __future__ import annotations

import dataclasses
import functools
from types import ModuleType
from typing import Literal, overload

import torch
from torch import Tensor

from lowbit_sim.arith.backends import numba_cpu, reference, torch_exact, torch_tree, triton_gpu
from lowbit_sim.arith.backends.cuda_products import LONGEST_INT8
from lowbit_sim.arith.bounds import MAX_OPERAND, Unproven, dtype_proof, find_unproven, magnitude
from lowbit_sim.arith.float_gemm import run_float_gemm
from lowbit_sim.arith.float_mac import FloatMacUnit
from lowbit_sim.arith.mac import MacUnit
from lowbit_sim.arith.result import GemmResult, result_dtype
from lowbit_sim.numerics.random import Stream
from lowbit_sim.numerics.suggest import unknown

#: Every backend is a module with NAME, why_not(mac, a, b, count_overflows) and run(mac, a, b).
BACKENDS: dict[str, ModuleType] = {
    m.NAME: m for m in (reference, numba_cpu, torch_exact, torch_tree, triton_gpu)
}

_INTEGERS = (torch.int8, torch.uint8, torch.int16, torch.int32, torch.int64)

# With fewer unproven elements than this share, only they take the sequential kernel; with more, the exact
# product of all would be work thrown away.
_MIXED_SHARE = 0.5

# A library product for each chunk pays off from chunks of this length; below it the compiled accumulator does.
_LIBRARY_CHUNK = 64


@overload
def gemm(
    a: Tensor,
    b: Tensor,
    mac: MacUnit | FloatMacUnit = ...,
    *,
    stream: Stream | None = ...,
    backend: str | None = ...,
    explain: Literal[False] = ...,
) -> Tensor: ...


@overload
def gemm(
    a: Tensor,
    b: Tensor,
    mac: MacUnit | FloatMacUnit = ...,
    *,
    stream: Stream | None = ...,
    backend: str | None = ...,
    explain: Literal[True],
) -> tuple[Tensor, GemmResult]: ...


def gemm(
    a: Tensor,
    b: Tensor,
    mac: MacUnit | FloatMacUnit = MacUnit(),
    *,
    stream: Stream | None = None,
    backend: str | None = None,
    explain: bool = False,
) -> Tensor | tuple[Tensor, GemmResult]:
    """Multiply matrices as the machine's MAC unit would.

    Args:
        a: Integer codes [M, K]; float32 values for a `FloatMacUnit`.
        b: Integer codes [K, N]; likewise.
        mac: The multiply-accumulate unit.
        stream: Address of the random bits of a `FloatMacUnit` that rounds stochastically; see `run_float_gemm`.
        backend: "reference", "numba_cpu", "torch_exact", "torch_tree" or "triton_gpu"; by default the fastest that is
            exact.
        explain: Also return which backend ran and why, with the overflow count (which `explain` has counted
            even where a wrapping accumulator would not need it).

    Returns:
        int32 [M, N] (int64 if the result has more than 32 bits; float32 of a `FloatMacUnit`), and with `explain`
        the `GemmResult`.

    Raises:
        TypeError: An operand that is not an integer (for a `FloatMacUnit` a float32) tensor.
        ValueError: Shapes that don't fit, values beyond +-65535 or without a row in the MAC unit's table of
            products, or a backend that is unknown or can't run this.
    """
    if backend is None and not explain and (values := _at_once(a, b, mac)) is not None:
        return values
    if isinstance(mac, FloatMacUnit):
        result = run_float_gemm(a, b, mac, stream=stream, backend=backend, count_overflows=explain)
    else:
        result = run_gemm(a, b, mac, backend=backend, count_overflows=explain)
    return (result.values, result) if explain else result.values


def run_gemm(
    a: Tensor, b: Tensor, mac: MacUnit, *, backend: str | None = None, count_overflows: bool = True
) -> GemmResult:
    """`gemm` with the whole result.

    Args:
        a: Integer codes [M, K].
        b: Integer codes [K, N].
        mac: The multiply-accumulate unit.
        backend: A backend's name, or None for the fastest that is exact.
        count_overflows: Whether overflows must be counted. Wrapping sums do not depend on their order but their
            overflows do, so without counting more cases take the library product.

    Raises:
        TypeError, ValueError: As `gemm`.
    """
    if backend is None:
        proof = _int8_proof(a, b, mac)
        if proof:
            values = torch_exact.exact_product(a, b).to(torch.int32)
            additions = values.numel() * mac.additions(a.shape[1])
            return GemmResult(
                values=values, overflows=0, additions=additions, backend=torch_exact.NAME, why=proof
            )
    _check(a, b)
    _check_products(a, b, mac)
    if backend is None:
        result = _fastest(a, b, mac, count_overflows)
    else:
        result = _forced(a, b, mac, backend, count_overflows)
    additions = result.values.numel() * mac.additions(a.shape[1])
    return dataclasses.replace(result, additions=additions)


def _at_once(a: Tensor, b: Tensor, mac: MacUnit | FloatMacUnit) -> Tensor | None:
    """The product of int8 codes on the CPU that a proof from the shapes covers; None in any other case.

    A small product takes the library 3 microseconds, so each question here is one that takes it a tenth of that.
    """
    if not (isinstance(a, Tensor) and isinstance(b, Tensor) and a.dtype is b.dtype is torch.int8):
        return None
    if not (a.is_cpu and b.is_cpu and a.ndim == b.ndim == 2 and isinstance(mac, MacUnit)):
        return None
    rows, reduction = a.shape
    if reduction != b.shape[0] or not _fits_int8_product(mac, reduction):
        return None
    return torch_exact.plain_int8_product(a, b, rows, reduction, b.shape[1])


@functools.lru_cache(maxsize=1024)
def _fits_int8_product(mac: MacUnit, reduction: int) -> bool:
    """Whether no sum of so many products of int8 codes overflows the accumulator or int32."""
    if mac.products is not None or mac.truncated_bits or mac.value_bits > 32 or reduction > LONGEST_INT8:
        return False
    return dtype_proof(mac, reduction, torch.int8, torch.int8) is not None


def _int8_proof(a: Tensor, b: Tensor, mac: MacUnit) -> str | None:
    """A proof from the shapes alone for int8 codes that fit one library product; else, and for what is wrong, None.

    The case of nearly all training GEMMs, decided in a microsecond or two.
    """
    if not (isinstance(a, Tensor) and isinstance(b, Tensor) and a.dtype is b.dtype is torch.int8):
        return None
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[0] or a.device != b.device:
        return None
    if mac.products is not None or mac.truncated_bits or mac.value_bits > 32:
        return None
    return dtype_proof(mac, a.shape[1], torch.int8, torch.int8)


def _check(a: Tensor, b: Tensor) -> None:
    for name, x in (("a", a), ("b", b)):
        if not isinstance(x, Tensor) or x.dtype not in _INTEGERS:
            got = x.dtype if isinstance(x, Tensor) else type(x).__name__
            raise TypeError(f"gemm takes integer codes, got {got} for operand {name}")
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[0]:
        raise ValueError(f"gemm takes [M, K] and [K, N], got {list(a.shape)} and {list(b.shape)}")
    if a.device != b.device:
        raise ValueError(f"gemm takes operands on one device, got {a.device} and {b.device}")
    for name, x in (("a", a), ("b", b)):
        if x.dtype.itemsize > 2 and magnitude(x) > MAX_OPERAND:
            raise ValueError(f"operand {name} holds {magnitude(x)}; codes lie within +-{MAX_OPERAND}")


def _check_products(a: Tensor, b: Tensor, mac: MacUnit) -> None:
    if mac.products is None:
        return
    low, high = mac.products.code_range
    for name, x in (("a", a), ("b", b)):
        if not x.numel():
            continue
        smallest, largest = (int(v) for v in torch.aminmax(x))
        if smallest < low or largest > high:
            raise ValueError(
                f"operand {name} holds codes from {smallest} to {largest}; the table of products "
                f"{mac.products} has codes {low} to {high}"
            )


def _forced(a: Tensor, b: Tensor, mac: MacUnit, backend: str, count_overflows: bool) -> GemmResult:
    if backend not in BACKENDS:
        raise ValueError(unknown("backend", backend, BACKENDS))
    module = BACKENDS[backend]
    reason = module.why_not(mac, a, b, count_overflows)
    if reason:
        raise ValueError(f"backend {backend!r} can't run this GEMM: {reason}")
    return module.run(mac, a, b)


def _in_order(device: torch.device, mac: MacUnit) -> ModuleType:
    """The backend that adds in the unit's order on a device."""
    if device.type != "cuda":
        return numba_cpu
    return torch_tree if mac.order == "tree" and mac.overflow_at == "addition" else triton_gpu


def _fastest(a: Tensor, b: Tensor, mac: MacUnit, count_overflows: bool) -> GemmResult:
    if mac.exact_products and mac.overflow == "wrap" and not count_overflows:
        return torch_exact.uncounted(mac, a, b)
    unproven = find_unproven(mac, a, b)
    compiled = _in_order(a.device, mac)
    not_compiled = compiled.why_not(mac, a, b, count_overflows)
    library = torch_exact.why_not_chunks(mac) is None or (mac.exact_products and unproven.empty)
    if library and (not_compiled or _library_pays_off(mac, a.shape[1], unproven)):
        if unproven.empty:
            return torch_exact.proven(mac, a, b, unproven.why)
        return torch_exact.by_chunks(mac, a, b)
    if not_compiled:
        raise ValueError(
            f"no backend can run this GEMM: {unproven.why}, and {compiled.NAME} can't: {not_compiled}"
        )
    if _is_mixed(a, b, mac, unproven):
        return _mixed(a, b, mac, unproven, count_overflows)
    result = compiled.run(mac, a, b, count_overflows=count_overflows)
    return dataclasses.replace(result, why=unproven.why)


def _library_pays_off(mac: MacUnit, reduction: int, unproven: Unproven) -> bool:
    """Whether one library product does, or the chunks are long enough for one each."""
    if unproven.empty and not mac.truncated_bits:
        return True
    return mac.chunks(reduction) <= 1 or mac.chunk >= _LIBRARY_CHUNK


def _is_mixed(a: Tensor, b: Tensor, mac: MacUnit, unproven: Unproven) -> bool:
    """Whether the exact product is worth its while for the part that is proven."""
    share = len(unproven.rows) * len(unproven.columns) / max(a.shape[0] * b.shape[1], 1)
    return mac.exact_products and not mac.truncated_bits and 0 < share <= _MIXED_SHARE


def _mixed(a: Tensor, b: Tensor, mac: MacUnit, unproven: Unproven, count_overflows: bool) -> GemmResult:
    """The exact product everywhere, overwritten where no bound covers it."""
    values = torch_exact.exact_product(a, b).to(result_dtype(mac))
    rows, columns = a[unproven.rows], b[:, unproven.columns]
    part = _in_order(a.device, mac).run(mac, rows, columns, count_overflows=count_overflows)
    values[unproven.rows[:, None], unproven.columns] = part.values
    return GemmResult(
        values=values,
        overflows=part.overflows,
        backend=f"{torch_exact.NAME}+{part.backend}",
        why=unproven.why,
    )
