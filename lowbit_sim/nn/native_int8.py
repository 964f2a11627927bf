"""INT8 training on the machine's own integer units: the twin of the emulated arm with a 32-bit accumulator.

    q = round(x / s) in -127..127, s = max|x| / 127        y = fp32(sum_k q_x q_w) fp32(s_x s_w)

Operands of all three GEMMs, gradients too, are quantised with one scale for a tensor and rounded to nearest even;
products are `torch._int_mm`'s, which adds in 32 bits modulo 2^32: on the tensor cores of a CUDA device, on a CPU with
VNNI's instructions. So all values are those of `OpSpec.uniform(INT8, mac=MAC)`, bit for bit, in plain torch
operations but for the quantiser's own kernels where the device has them. Nothing is counted, billed or proven.

A GPU's host never waits for a value, so that the layers can be recorded into a CUDA graph. Hence a NaN raises
`NotANumberError` on the CPU only. On other devices it makes the operand's scale NaN, and with it every result of its
GEMMs: the loss of this step, or after a gradient's NaN that of the next.

A convolution is the same GEMMs of its unfolded codes; `grad_input` is a convolution of the gradient, with a stride's
zeros inserted, with the kernel turned round.

Sources: Jacob et al., "Quantization and training of neural networks for efficient integer-arithmetic-only inference",
CVPR 2018 (the products); Zhu et al., "Towards unified INT8 training", CVPR 2020 (INT8 in all three GEMMs).
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lowbit_sim.arith.backends import cuda_products
from lowbit_sim.arith.mac import MacUnit
from lowbit_sim.nn.convert import UnsupportedModuleError
from lowbit_sim.nn.registry import multiplies, retyped
from lowbit_sim.numerics import triton_support
from lowbit_sim.numerics.catalog import INT8
from lowbit_sim.numerics.rounding import Rounding
from lowbit_sim.ops.bias import add_bias
from lowbit_sim.quant.codes import to_codes
from lowbit_sim.quant.granularity import PerTensor
from lowbit_sim.quant.quantizer import Quantizer, missing_kernel
from lowbit_sim.quant.scaling import MIN_SCALE, scale_of_clip

#: The accumulator of the machine's units.
MAC = MacUnit(accumulator_bits=32, overflow="wrap")

_QUANTIZER = Quantizer(INT8)

Codes = tuple[Tensor, Tensor]


def int8_codes(x: Tensor) -> Codes:
    """int8 codes of x's shape and their scale, float32 [].

    Raises:
        NotANumberError: x, on the CPU, holds NaN. Elsewhere the codes are undefined then and the scale is NaN.
    """
    if not x.numel() or missing_kernel(x.device) is not None:
        return plain_int8_codes(x)
    if triton_support.uses_triton(x.device):
        return _int8_codes_on_gpu(x)
    quantized = _QUANTIZER(x)
    return quantized.codes, quantized.scale.reshape(())


def _int8_codes_on_gpu(x: Tensor) -> Codes:
    """The quantiser's kernels without its question to the device whether there is a NaN."""
    from lowbit_sim.quant.triton_extremes import region_maxima

    x, granularity = x.detach().resolve_neg().to(torch.float32).contiguous(), PerTensor()
    largest = region_maxima(x, granularity, magnitudes=True)[0]
    # The kernel leaves infinities out and gives infinity for NaN.
    scale = torch.where(torch.isinf(largest), torch.nan, scale_of_clip(largest, INT8))
    codes = to_codes(x, scale, None, granularity, INT8, Rounding(), None)
    return codes, scale.reshape(())


def plain_int8_codes(x: Tensor) -> Codes:
    """The same by torch's operations, on any device; the codes of NaN are undefined and their scale is NaN."""
    x = x.detach().to(torch.float32)
    if not x.numel():
        return x.to(torch.int8), torch.ones((), device=x.device)
    magnitudes = x.abs()
    largest = magnitudes.masked_fill_(magnitudes == torch.inf, 0).amax()  # infinities saturate
    # A tensor, because dividing by a Python number multiplies by its reciprocal on a GPU, which differs.
    quotient = largest / torch.full_like(largest, 127)
    scale = torch.where(largest == 0, 1.0, quotient.clamp_min(MIN_SCALE))
    return (x * scale.reciprocal()).round_().clamp_(-127, 127).to(torch.int8), scale


def int8_product(a: Tensor, b: Tensor) -> Tensor:
    """The product of int8 a [M, K] and b [K, N] modulo 2^32, int32 [M, N], on the machine's integer units."""
    if a.device.type == "cuda":
        return cuda_products.int8_product(a, b)
    return torch._int_mm(_row_major(a), _row_major(b))  # pyright: ignore[reportPrivateImportUsage]


def _row_major(x: Tensor) -> Tensor:
    """x with the strides that its sizes call for, also of axes of size 1: `_int_mm` reads others as garbage."""
    return x.contiguous().as_strided(x.shape, (x.shape[1], 1))


def _dequantized(sums: Tensor, left: Tensor, right: Tensor) -> Tensor:
    # Contiguous as torch's own layers give it: what follows adds in the order of memory.
    return sums.to(torch.float32, memory_format=torch.contiguous_format).mul_(left * right)


class _LinearFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        (qx, sx), (qw, sw) = int8_codes(x), int8_codes(weight)
        ctx.save_for_backward(qx, sx, qw, sw)
        return _dequantized(int8_product(qx, qw.t()), sx, sw)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, Tensor | None]:  # type: ignore[override]
        qx, sx, qw, sw = ctx.saved_tensors
        qg, sg = int8_codes(g)
        to_input, to_weight = ctx.needs_input_grad
        return (
            _dequantized(int8_product(qg, qw), sg, sw) if to_input else None,
            _dequantized(int8_product(qg.t(), qx), sg, sx) if to_weight else None,
        )


class _ConvFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, conv: nn.Conv2d) -> Tensor:
        (qx, sx), (qw, sw) = int8_codes(x), int8_codes(weight)
        ctx.conv, ctx.size = conv, x.shape[2:]
        ctx.save_for_backward(qx, sx, qw, sw)
        columns, (height, width) = _unfolded(qx, conv)
        sums = int8_product(columns, _by_tap(qw).t())  # [B OH OW, O]
        return _dequantized(sums.reshape(len(x), height, width, -1).permute(0, 3, 1, 2), sx, sw)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, Tensor | None, None]:  # type: ignore[override]
        qx, sx, qw, sw = ctx.saved_tensors
        qg, sg = int8_codes(g.contiguous())
        to_input, to_weight = ctx.needs_input_grad[:2]
        grad_input = grad_weight = None
        if to_input:
            grad_input = _dequantized(_input_sums(qg, qw, ctx.conv, ctx.size), sg, sw)
        if to_weight:
            grad_weight = _dequantized(_weight_sums(qg, qx, ctx.conv), sg, sx)
        return grad_input, grad_weight, None


def _by_tap(weight: Tensor) -> Tensor:
    """A kernel [O, C, KH, KW] as [O, KH KW C]."""
    return weight.permute(0, 2, 3, 1).reshape(len(weight), -1)


def _windows(
    x: Tensor, kernel: tuple[int, int], stride: tuple[int, int], dilation: tuple[int, int]
) -> Tensor:
    """Every window of x [B, H, W, C], a copy: [B, OH, OW, KH, KW, C]."""
    batch, height, width, channels = x.shape
    size = [
        (length - dilation[i] * (kernel[i] - 1) - 1) // stride[i] + 1
        for i, length in enumerate((height, width))
    ]
    of_sample, of_row, of_column, of_channel = x.contiguous().stride()
    strides = (
        of_sample,
        of_row * stride[0],
        of_column * stride[1],
        of_row * dilation[0],
        of_column * dilation[1],
        of_channel,
    )
    return x.contiguous().as_strided((batch, *size, *kernel, channels), strides).contiguous()


def _unfolded(codes: Tensor, conv: nn.Conv2d) -> tuple[Tensor, tuple[int, int]]:
    """The codes of a convolution's input [B, C, H, W] as [B OH OW, KH KW C], and (OH, OW)."""
    rows, columns = _padding(conv)
    padded = F.pad(codes.permute(0, 2, 3, 1), (0, 0, *columns, *rows))
    windows = _windows(padded, _pair(conv.kernel_size), _pair(conv.stride), _pair(conv.dilation))
    batch, height, width = windows.shape[:3]
    return windows.reshape(batch * height * width, -1), (height, width)


def _input_sums(gradient: Tensor, weight: Tensor, conv: nn.Conv2d, size: torch.Size) -> Tensor:
    """The sums of the input's gradient, int32 [B, C, H, W]."""
    channels, kernel, dilation = weight.shape[1], _pair(conv.kernel_size), _pair(conv.dilation)
    stride = _pair(conv.stride)
    batch, outputs, height, width = gradient.shape
    spread = gradient.new_zeros(batch, (height - 1) * stride[0] + 1, (width - 1) * stride[1] + 1, outputs)
    spread[:, :: stride[0], :: stride[1]] = gradient.permute(0, 2, 3, 1)
    around: list[int] = []
    for i in (1, 0):
        reach = dilation[i] * (kernel[i] - 1)
        before = reach - _padding(conv)[i][0]
        around += [before, size[i] + reach - before - spread.shape[1 + i]]
    windows = _windows(F.pad(spread, (0, 0, *around)), kernel, (1, 1), dilation)  # [B, H, W, KH, KW, O]
    turned = weight.flip(2, 3).permute(2, 3, 0, 1).reshape(-1, channels)  # [KH KW O, C]
    sums = int8_product(windows.reshape(-1, turned.shape[0]), turned)
    return sums.reshape(batch, *size, channels).permute(0, 3, 1, 2)


def _weight_sums(gradient: Tensor, codes: Tensor, conv: nn.Conv2d) -> Tensor:
    """The sums of the kernel's gradient, int32 [O, C, KH, KW]."""
    columns, _ = _unfolded(codes, conv)
    outputs = gradient.shape[1]
    rows = gradient.permute(1, 0, 2, 3).reshape(outputs, -1)  # [O, B OH OW]
    sums = int8_product(rows, columns)
    return sums.reshape(outputs, *_pair(conv.kernel_size), -1).permute(0, 3, 1, 2)


def _pair(value: tuple[int, ...]) -> tuple[int, int]:
    first, second = value
    return first, second


def _padding(conv: nn.Conv2d) -> tuple[tuple[int, int], tuple[int, int]]:
    """Zeros before and after the rows, and before and after the columns."""
    left, right, top, bottom = conv._reversed_padding_repeated_twice
    return (top, bottom), (left, right)


class NativeInt8Linear(nn.Linear):
    """A linear layer of INT8 products."""

    def forward(self, input: Tensor) -> Tensor:
        """The layer's output; `input` is [..., in_features]."""
        rows = input.reshape(-1, self.in_features)
        y = add_bias(_LinearFunction.apply(rows, self.weight), self.bias, 0, "")  # type: ignore[arg-type]
        return y.reshape(*input.shape[:-1], self.out_features)


class NativeInt8Conv2d(nn.Conv2d):
    """A convolution of INT8 products."""

    def forward(self, input: Tensor) -> Tensor:
        """The layer's output; `input` is [B, C, H, W]."""
        return add_bias(_ConvFunction.apply(input, self.weight, self), self.bias, 2, "")  # type: ignore[arg-type]


_TWINS: dict[type[nn.Module], type[nn.Module]] = {
    nn.Linear: NativeInt8Linear,
    nn.Conv2d: NativeInt8Conv2d,
}


def convert_to_native_int8(model: nn.Module, native: Collection[str] = ()) -> nn.Module:
    """Have a model's layers multiply in INT8 on the machine's integer units; they keep their parameters.

    Args:
        model: Changed in place. Its layers are `nn.Linear` and `nn.Conv2d`, without groups and padded by zeros.
        native: Paths of layers that stay in float32.

    Returns:
        The model; a new object only if it is a layer itself.

    Raises:
        UnsupportedModuleError: Another layer that multiplies matrices; the message names it.
    """
    for path, module in list(model.named_modules()):
        if path in native or not multiplies(module):
            continue
        twin = retyped(module, _twin_of(path, module))
        if not path:
            return twin
        parent, _, name = path.rpartition(".")
        setattr(model.get_submodule(parent), name, twin)
    return model


def _twin_of(path: str, module: nn.Module) -> type[nn.Module]:
    twin = _TWINS.get(type(module))
    why = f"a {type(module).__name__}" if twin is None else ""
    if isinstance(module, nn.Conv2d) and (module.groups > 1 or module.padding_mode != "zeros"):
        why = f"a convolution with groups={module.groups} and padding_mode={module.padding_mode!r}"
    if twin is None or why:
        raise UnsupportedModuleError(
            f"{path!r} is {why}: native INT8 runs Linear and Conv2d without groups and padded by zeros. Keep it "
            "native, or emulate INT8"
        )
    return twin


def why_no_integer_units(device: torch.device) -> str | None:
    """Why INT8 products would not run on integer units of a device, or None where they do."""
    if device.type == "cuda":
        major, minor = torch.cuda.get_device_capability(device)
        if (major, minor) < (7, 5):
            return f"tensor cores multiply int8 from compute capability 7.5 on, and this device has {major}.{minor}"
        return None
    if device.type != "cpu":
        return f"torch multiplies int8 on cpu and cuda, not on {device.type}"
    if not torch.cpu._is_vnni_supported():
        return "this processor has no VNNI instructions"
    return None
