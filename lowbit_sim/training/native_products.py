"""Events of the products that native code runs, whether a layer or a module's own forward calls them.

The native function gives the result. Its events are those of its emulation (`nn.products`) with every GEMM native,
run on tensors without data: forward at once, backward when the gradient of the result arrives. So a native product is
billed the GEMMs that an emulated one is, an attention its softmax too. A look-up in an embedding is one of them, as
its gradient is a product with the tokens' one-hot matrix.

A product of bfloat16 or float16 tensors is summed in float32; its results leave in that format, a bias and a softmax
read and write in it.

A layer's GEMMs have its path; the products of any other module are numbered in the order of its calls, "path#0",
"path#1". Integer products are not counted.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from lowbit_sim.arith.spec import OpSpec
from lowbit_sim.nn.functional_spec import FunctionalSpec
from lowbit_sim.nn.products import PRODUCTS, REFUSED, Product, bind
from lowbit_sim.ops.billing import stands_for
from lowbit_sim.ops.embedding import embedding
from lowbit_sim.ops.operand import CallSite
from lowbit_sim.trace import Event, GemmEvent, Operand, changed


def _embedding(
    spec: FunctionalSpec,
    at: CallSite,
    input: Tensor,
    weight: Tensor,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Tensor:
    """A look-up; with `max_norm` or a sparse gradient more or less runs than is known here."""
    if max_norm is not None or sparse:
        raise ValueError(f"max_norm={max_norm}, sparse={sparse}")
    return embedding(
        input, weight, spec.products, at, padding_idx=padding_idx, scale_grad_by_freq=scale_grad_by_freq
    )


#: The functions that are billed as products.
BILLED: dict[str, Product] = {
    **PRODUCTS,
    "embedding": Product(
        (*("input", "weight", "padding_idx", "max_norm", "norm_type"), "scale_grad_by_freq", "sparse"),
        _embedding,
    ),
}

#: Of these the functions that multiply nothing.
LOOK_UPS = BILLED.keys() - PRODUCTS.keys()

#: Operands of the formats that autocast casts to.
_HALVES = {
    torch.bfloat16: Operand(format="bf16", bits=16),
    torch.float16: Operand(format="fp16", bits=16),
}

_NATIVE = FunctionalSpec(OpSpec(output=None, grad_input=None, grad_weight=None))


def unknown_cost(path: str, what: str) -> ValueError:
    """The error of a module, or of a product that a module calls, that can't be billed."""
    return ValueError(
        f"the cost of module {path!r} ({what}) is not known: known are Linear, convolutions, embeddings, products "
        "that a module calls as functions (see nn.products), and whatever multiplies no matrices"
    )


def bill_product(
    name: str, y: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any], path: str, at: CallSite
) -> None:
    """Put a native product on record.

    Args:
        name: The function's name, of `BILLED` or refused.
        y: Its result.
        args: Its arguments.
        kwargs: Its arguments by name.
        path: The module that calls it.
        at: The place that the events name.

    Raises:
        ValueError: A product whose cost is not known.
    """
    if name in REFUSED:
        raise unknown_cost(path, f"its call of {name}")
    dtype = y.dtype  # not y itself, which a hook of its own would keep
    try:
        bound = bind(BILLED[name].parameters, *_shapes_only((args, kwargs)))
        with _in_format(dtype):
            billed = BILLED[name].run(_NATIVE, at, **bound)
    except (TypeError, ValueError) as error:
        raise unknown_cost(path, f"its call of {name}: {error}") from error
    if y.requires_grad:
        y.register_hook(lambda _: _bill_gradients(billed, dtype))


def _bill_gradients(billed: Tensor, dtype: torch.dtype) -> None:
    if billed.requires_grad:
        with _in_format(dtype):
            billed.backward(torch.empty_like(billed), retain_graph=True)


def _in_format(dtype: torch.dtype) -> AbstractContextManager[None]:
    """Have the events of the block, those of a float32 product, be those of one whose result has this dtype."""
    half = _HALVES.get(dtype)
    return nullcontext() if half is None else changed(partial(_in_half, half))


def _in_half(operand: Operand, event: Event) -> Event:
    if isinstance(event, GemmEvent):
        return replace(event, lhs=operand, rhs=operand, result_bits=operand.bits)
    halves = {key: getattr(event, key) // 2 for key in ("read_bytes", "write_bytes", "kept_bytes")}
    return replace(event, **halves)


def _shapes_only(value: Any) -> Any:
    """The same with tensors that have no data."""
    if isinstance(value, Tensor):
        needs = value.requires_grad and torch.is_grad_enabled()
        # What is emulated is computed in float32; what is kept of it takes the room of the tensor itself.
        copy = value.detach().to("meta", torch.float32 if value.dtype in _HALVES else value.dtype)
        stands_for(copy, value)
        return copy.requires_grad_(needs)
    if isinstance(value, dict):
        return {k: _shapes_only(v) for k, v in value.items()}
    if isinstance(value, tuple | list):
        return type(value)(map(_shapes_only, value))
    return value
