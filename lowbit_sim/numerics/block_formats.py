"""Block formats: elements of a narrow format that share a scale.

value = element * scale. Sources: OCP Microscaling Formats (MX) Specification 1.0 (E8M0 scales over 32
elements); NVIDIA's NVFP4 (E4M3 scales over 16 elements and one float32 scale for the tensor); block floating
point with one exponent as in QPyTorch's `BlockFloatingPoint` (Zhang et al. 2019).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from lowbit_sim.numerics.float_formats import ExponentFormat, FloatFormat
from lowbit_sim.numerics.integer_formats import FixedFormat, IntFormat
from lowbit_sim.numerics.suggest import unknown
from lowbit_sim.numerics.whole import is_whole

#: How the exponent of a block follows from its largest magnitude; see `reference_blocks.shared_exponent`.
ScaleExponentRule = Literal["floor", "even", "ceil"]


@dataclass(frozen=True, kw_only=True)
class BlockFormat:
    """Elements that share a scale; elements beyond their format's largest value always saturate.

    Args:
        element: Format of an element.
        scale: Format of a scale.
        block: How many neighbours along the last axis (the reduction axis of a GEMM operand) share a scale; 0 for
            one scale for the whole tensor, or for each index along `dim`.
        rule: How a power-of-two scale follows from the block's largest magnitude. A float scale is
            absmax / element.max_value rounded into the scale's format, and takes the default.
        tensor_scale: Whether a float32 scale for the whole tensor brings the block scales into their format's
            range. Only with a float scale.
        dim: With block=0, the axis whose every index has a scale of its own; None for one scale in all.
        name: A name for messages and reports.

    Raises:
        TypeError: An element or a scale that is not such a format.
        ValueError: Parameters out of range or that contradict each other.
    """

    element: IntFormat | FixedFormat | FloatFormat
    scale: ExponentFormat | FloatFormat = ExponentFormat()
    block: int = 32
    rule: ScaleExponentRule = "floor"
    tensor_scale: bool = False
    dim: int | None = None
    name: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.element, IntFormat | FixedFormat | FloatFormat):
            raise TypeError(
                f"a block's element is an integer, fixed-point or float format, got {self.element!r}"
            )
        if not isinstance(self.scale, ExponentFormat | FloatFormat):
            raise TypeError(f"a block's scale is ExponentFormat() or a float format, got {self.scale!r}")
        if isinstance(self.element, IntFormat) and not self.element.signed:
            raise ValueError(f"a block's elements are signed, got {self.element}")
        if not is_whole(self.block, 0, 1 << 20) or self.block == 1:
            raise ValueError(
                f"a block has 2 to 2^20 elements, or block=0 for no blocks, got block={self.block}"
            )
        if self.rule not in get_args(ScaleExponentRule):
            raise ValueError(unknown("scale rule", self.rule, get_args(ScaleExponentRule)))
        if self.dim is not None and (self.block or not is_whole(self.dim, 0, 63)):
            raise ValueError(
                f"dim is an axis from 0 on and goes with block=0, got dim={self.dim}, block={self.block}"
            )
        if isinstance(self.scale, ExponentFormat) and self.tensor_scale:
            raise ValueError("a power-of-two scale needs no tensor scale: pass tensor_scale=False")
        if isinstance(self.scale, FloatFormat) and self.rule != "floor":
            raise ValueError(
                f"rule={self.rule!r} is about power-of-two scales, but the scale is {self.scale}"
            )

    @property
    def bits(self) -> int:
        """Width of an element's code; the scales come on top (`scale_bits_per_element`)."""
        return self.element.bits

    @property
    def scale_bits_per_element(self) -> float:
        """Bits of scale that an element of a full block carries; 0 where a scale is not shared by a fixed number."""
        return self.scale.bits / self.block if self.block else 0.0

    @property
    def unit(self) -> float | None:
        """The element's unit: every value before scaling is a whole number of these, if not None."""
        return self.element.unit

    @property
    def max_value(self) -> float:
        """The element's largest value."""
        return self.element.max_value

    def __str__(self) -> str:
        if self.name:
            return self.name
        shared = f"dim={self.dim}" if self.dim is not None else f"block={self.block}"
        rule = "" if self.rule == "floor" else f",{self.rule}"
        return (
            f"block<{self.element},{self.scale},{shared}{rule}{',tensor_scale' if self.tensor_scale else ''}>"
        )


def block_floating_point(word_length: int, block: int = 0, dim: int | None = None) -> BlockFormat:
    """Block floating point: sign and magnitude of `word_length` bits, the block's largest power of two in front.

    The elements are fixed<word_length,word_length-2,symmetric>, below 2 in magnitude, as MXINT8's are.

    Args:
        word_length: Bits of an element with its sign, 2 to 16.
        block: As in `BlockFormat`.
        dim: As in `BlockFormat`.

    Raises:
        ValueError: Parameters out of range.
    """
    element = FixedFormat(word_length=word_length, fraction_length=word_length - 2, symmetric=True)
    shared = f",dim={dim}" if dim is not None else f",{block}" if block else ""
    return BlockFormat(element=element, block=block, dim=dim, name=f"bfp<{word_length}{shared}>")
