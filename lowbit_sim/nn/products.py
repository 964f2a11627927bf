"""The functions of torch that multiply matrices: what each is in terms of the emulated operators."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lowbit_sim.nn.functional_spec import FunctionalSpec
from lowbit_sim.ops.attention import scaled_dot_product_attention
from lowbit_sim.ops.conv import conv
from lowbit_sim.ops.conv_transpose import conv_transpose
from lowbit_sim.ops.einsum import einsum
from lowbit_sim.ops.im2col import Sizes, Window, resolve_padding
from lowbit_sim.ops.linear import linear, matmul
from lowbit_sim.ops.operand import CallSite
from lowbit_sim.ops.weighted_sum import weighted_sum


@dataclass(frozen=True)
class Product:
    """A function of torch and its emulation.

    Attributes:
        parameters: The names that `run` takes for the function's arguments, in torch's order.
        run: The emulation, of the numerics, where it runs, and the arguments by name.
    """

    parameters: tuple[str, ...]
    run: Callable[..., Tensor]


def bind(parameters: Sequence[str], args: Sequence[Any], kwargs: dict[str, Any]) -> dict[str, Any]:
    """A call's arguments by the names that the emulation has for them.

    Raises:
        TypeError: An argument that the emulation does not know, such as out.
    """
    unknown = [name for name, value in kwargs.items() if name not in parameters and value is not None]
    if unknown or len(args) > len(parameters):
        shown = ", ".join(unknown) or f"{len(args)} positional ones"
        raise TypeError(f"with arguments {', '.join(parameters)}, not {shown}")
    named = {name: value for name, value in kwargs.items() if name in parameters}
    return dict(zip(parameters, args, strict=False)) | named


def _matmul(spec: FunctionalSpec, at: CallSite, **factors: Tensor) -> Tensor:
    a, b = factors.values()
    return matmul(a, b, spec.products, at)


def _reversed(spec: FunctionalSpec, at: CallSite, self: Tensor, other: Tensor) -> Tensor:
    return matmul(other, self, spec.products, at)


def _linear(
    spec: FunctionalSpec, at: CallSite, input: Tensor, weight: Tensor, bias: Tensor | None = None
) -> Tensor:
    if weight.ndim == 1:
        y = matmul(input, weight, spec.products, at)
        return y if bias is None else y + bias
    return linear(input, weight, bias, spec.products, at)


def _added(
    spec: FunctionalSpec, at: CallSite, input: Tensor, beta: float = 1, alpha: float = 1, **factors: Tensor
) -> Tensor:
    """beta input + alpha a b, added in float32; with beta = 0 the input does not count, whatever it holds."""
    a, b = factors.values()
    return weighted_sum(input, matmul(a, b, spec.products, at), beta, alpha, at.layer)


def _einsum(spec: FunctionalSpec, at: CallSite, equation: str, first: Any, second: Any = None) -> Tensor:
    operands = first if isinstance(first, list | tuple) else [first] + [second] * (second is not None)
    if len(operands) == 1:  # a transposition, a diagonal or a plain sum
        return torch.einsum(equation, operands)
    return einsum(equation, operands, spec.products, at)


def _attention(spec: FunctionalSpec, at: CallSite, **arguments: Any) -> Tensor:
    return scaled_dot_product_attention(**arguments, spec=spec.attention_spec, at=at)


def _each(value: int | Sequence[int], axes: int) -> Sizes:
    values = (value,) if isinstance(value, int) else tuple(value)
    return values * axes if len(values) == 1 else values


def _conv(axes: int) -> Callable[..., Tensor]:
    def run(
        spec: FunctionalSpec,
        at: CallSite,
        input: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
    ) -> Tensor:
        kernel, spacing = tuple(weight.shape[2:]), _each(dilation, axes)
        zeros = padding if isinstance(padding, str) else _each(padding, axes)
        window = Window(
            kernel=kernel,
            stride=_each(stride, axes),
            dilation=spacing,
            padding=resolve_padding(zeros, kernel, spacing),
            groups=groups,
        )
        return conv(input, weight, bias, window, spec.products, at)

    return run


def _conv_transpose(axes: int) -> Callable[..., Tensor]:
    def run(
        spec: FunctionalSpec,
        at: CallSite,
        input: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        stride: Any = 1,
        padding: Any = 0,
        output_padding: Any = 0,
        groups: int = 1,
        dilation: Any = 1,
    ) -> Tensor:
        kernel, spacing = tuple(weight.shape[2:]), _each(dilation, axes)
        window = Window(
            kernel=kernel,
            stride=_each(stride, axes),
            dilation=spacing,
            padding=resolve_padding(_each(padding, axes), kernel, spacing),
            groups=groups,
        )
        extra = _each(output_padding, axes)
        return conv_transpose(input, weight, bias, window, extra, spec.products, at)

    return run


_CONV = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
_TRANSPOSE = ("input", "weight", "bias", "stride", "padding", "output_padding", "groups", "dilation")
_ATTENTION = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal", "scale", "enable_gqa")

#: By the function's name, which methods of tensors share.
PRODUCTS: dict[str, Product] = {
    "matmul": Product(("input", "other"), _matmul),
    "linalg_matmul": Product(("input", "other"), _matmul),
    "__matmul__": Product(("input", "other"), _matmul),
    "__rmatmul__": Product(("self", "other"), _reversed),
    "bmm": Product(("input", "mat2"), _matmul),
    "mm": Product(("input", "mat2"), _matmul),
    "mv": Product(("input", "vec"), _matmul),
    "dot": Product(("input", "tensor"), _matmul),
    "addmm": Product(("input", "mat1", "mat2", "beta", "alpha"), _added),
    "addmv": Product(("input", "mat", "vec", "beta", "alpha"), _added),
    "baddbmm": Product(("input", "batch1", "batch2", "beta", "alpha"), _added),
    "linear": Product(("input", "weight", "bias"), _linear),
    "einsum": Product(("equation", "first", "second"), _einsum),
    "conv1d": Product(_CONV, _conv(1)),
    "conv2d": Product(_CONV, _conv(2)),
    "conv3d": Product(_CONV, _conv(3)),
    "conv_transpose1d": Product(_TRANSPOSE, _conv_transpose(1)),
    "conv_transpose2d": Product(_TRANSPOSE, _conv_transpose(2)),
    "conv_transpose3d": Product(_TRANSPOSE, _conv_transpose(3)),
    "scaled_dot_product_attention": Product(_ATTENTION, _attention),
}

_ADD_IN_PLACE = "it adds to a tensor in place; the form without the underscore is emulated"
_OTHER_SUM = "its sum is not laid out as one GEMM"
_LAYER = "it is a whole layer; use the module of torch.nn, which has a twin"

#: Functions that sum products and have no emulation, with the reason.
REFUSED: dict[str, str] = {
    **dict.fromkeys(("addmm_", "addmv_", "baddbmm_", "addbmm_"), _ADD_IN_PLACE),
    **dict.fromkeys(
        ("addbmm", "bilinear", "inner", "vdot", "vecdot", "linalg_vecdot", "tensordot", "chain_matmul"),
        _OTHER_SUM,
    ),
    **dict.fromkeys(
        ("linalg_multi_dot", "matrix_power", "linalg_matrix_power", "cdist", "conv_tbc"), _OTHER_SUM
    ),
    **dict.fromkeys(("sspaddmm", "smm", "hspmm", "_scaled_mm", "_scaled_dot_product_attention"), _OTHER_SUM),
    **dict.fromkeys(
        ("multi_head_attention_forward", "_native_multi_head_attention", "_transformer_encoder_layer_fwd"),
        _LAYER,
    ),
    **dict.fromkeys(("lstm", "gru", "rnn_tanh", "rnn_relu"), _LAYER),
    **dict.fromkeys(("lstm_cell", "gru_cell", "rnn_tanh_cell", "rnn_relu_cell"), _LAYER),
}
