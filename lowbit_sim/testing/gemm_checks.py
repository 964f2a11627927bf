"""`check_backend`: has a matrix product the bits of a multiply-accumulate unit?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import torch
from hypothesis import strategies as st
from torch import Tensor

from lowbit_sim.arith.float_mac import FloatMacUnit
from lowbit_sim.arith.gemm import gemm
from lowbit_sim.arith.mac import MacUnit
from lowbit_sim.numerics.formats import Format
from lowbit_sim.quant.qtensor import code_dtype
from lowbit_sim.testing import gemm_cases
from lowbit_sim.testing.contract import ContractError, called, name_of, report, search, unchanged
from lowbit_sim.testing.describe import listing
from lowbit_sim.testing.gemm_story import differ, in_words, story
from lowbit_sim.testing.gemm_strategies import code_matrices, gemm_shapes, value_matrices
from lowbit_sim.testing.mac_checks import check_unit

Operands = tuple[Tensor, Tensor]

#: Most products of one GEMM that is drawn: the definition adds them up in Python, fractions more slowly.
_PRODUCTS, _FLOAT_PRODUCTS = 1 << 16, 1 << 11


def check_backend(
    fn: Callable[..., Any],
    mac: MacUnit | FloatMacUnit,
    *,
    a_format: Format | str | None = None,
    b_format: Format | str | None = None,
    takes: Literal["torch", "numpy"] = "torch",
    largest: int = 9,
    max_examples: int = 200,
    deterministic: bool = True,
) -> None:
    """Check that a matrix product has the bits of a MAC unit's accumulators.

    Beside the matrices that are drawn a fixed list is tried: K of 31 to 129, around the lengths of SIMD registers and
    tiles, with M and N of 1, 2 and 17; and 1 x K x 1 products that overflow the unit, as in `check_mac`, which says
    for which widths there are any.

    Args:
        fn: `fn(a, b)` with a [M, K] and b [K, N], any of which may be 0 or 1; returns [M, N]. For a `MacUnit` they
            hold integer codes, for a `FloatMacUnit` float32 values.
        mac: The unit; a `FloatMacUnit` that does not round stochastically.
        a_format: Format of a, or its name: an integer one for a `MacUnit` (by default int8_full, in the smallest
            dtype that holds the codes), any for a `FloatMacUnit` (by default fp8_e4m3fn).
        b_format: Format of b, likewise.
        takes: Whether fn is handed torch tensors or numpy arrays.
        largest: The largest M, N and (unless a chunk asks for more) K that is drawn; not all three at once where
            that would be more products than can be checked.
        max_examples: How many pairs of matrices are drawn.
        deterministic: Draw the same matrices each time.

    Raises:
        ContractError: The function overwrites an operand or differs; the message shows the smallest matrices
            found, one element where the results differ and the additions behind it.
        TypeError: Integer products of a format that is not an integer one, or no unit.
        ValueError: An unknown `takes`, or stochastic additions.
    """
    __tracebackhide__ = True
    check_unit(mac)
    if takes not in ("torch", "numpy"):
        raise ValueError(f"takes is 'torch' or 'numpy', got {takes!r}")

    is_float = isinstance(mac, FloatMacUnit)
    default = "fp8_e4m3fn" if is_float else "int8_full"
    formats = (a_format or default, b_format or default)

    def test(operands: Operands) -> None:
        __tracebackhide__ = True
        a, b = operands
        arguments = tuple(x.clone() if takes == "torch" else x.numpy().copy() for x in operands)

        def shown() -> str:
            return f"  input  a = {_shown(a)}\n         b = {_shown(b)}"

        result = called(fn, arguments, shown)
        unchanged(fn, operands, arguments, shown)
        expected = gemm(a, b, mac, backend="reference")
        _compare(name_of(fn), mac, a, b, expected.numpy(), _as_array(result))

    products = _FLOAT_PRODUCTS if is_float else _PRODUCTS
    shapes = gemm_shapes(chunk=mac.chunk, largest=largest, products=products)
    search(
        test,
        shapes.flatmap(lambda s: _drawn(s, mac, formats)),
        last=(_tensors(case, mac, formats) for case in gemm_cases.matrices(mac, *formats)),
        max_examples=max_examples,
        deterministic=deterministic,
    )


def _drawn(
    sizes: tuple[int, int, int], mac: MacUnit | FloatMacUnit, formats: tuple[Format | str, Format | str]
) -> st.SearchStrategy[Operands]:
    rows, columns, reduction = sizes
    matrices = code_matrices if isinstance(mac, MacUnit) else value_matrices
    return st.tuples(matrices(formats[0], (rows, reduction)), matrices(formats[1], (reduction, columns)))


def _tensors(
    case: tuple[np.ndarray, np.ndarray],
    mac: MacUnit | FloatMacUnit,
    formats: tuple[Format | str, Format | str],
) -> Operands:
    a, b = (torch.from_numpy(x).contiguous() for x in case)
    if isinstance(mac, FloatMacUnit):
        return a, b
    a_format, b_format = map(gemm_cases.integer_format, formats)
    return a.to(code_dtype(a_format)), b.to(code_dtype(b_format))


def _as_array(result: Any) -> np.ndarray:
    return result.detach().cpu().numpy() if isinstance(result, Tensor) else np.asarray(result)


def _shown(x: Tensor) -> str:
    kind = f"({str(x.dtype).removeprefix('torch.')} {list(x.shape)})"
    return f"{x.tolist()} {kind}" if x.numel() <= 256 else f"{listing(x.reshape(-1).tolist(), str)} {kind}"


def _compare(
    name: str, mac: MacUnit | FloatMacUnit, a: Tensor, b: Tensor, expected: np.ndarray, got: np.ndarray
) -> None:
    if got.shape != expected.shape:
        raise ContractError(
            report(
                f"{name} returns another shape",
                input=f"a {list(a.shape)}, b {list(b.shape)}",
                expected=f"shape {list(expected.shape)}",
                got=f"shape {list(got.shape)}",
            )
        )
    wrong = np.argwhere(differ(got, expected))
    if not len(wrong):
        return
    i, j = (int(k) for k in wrong[0])
    where = f"\nelement [{i}, {j}] of the result; a is {list(a.shape)}, b is {list(b.shape)}"
    mine, theirs = in_words(mac, expected[i, j]), in_words(mac, got[i, j])
    raise ContractError(
        story(name, mac, a[i].tolist(), b[:, j].tolist(), mine, theirs, where if expected.size > 1 else "")
    )
