"""The floating-point multiply-accumulate unit: what happens between two values and a rounded sum."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

from lowbit_sim.arith.mac import SummationOrder
from lowbit_sim.numerics.catalog import FP32
from lowbit_sim.numerics.formats import FloatFormat
from lowbit_sim.numerics.interop import from_qtorch, is_qtorch
from lowbit_sim.numerics.reference import overflow_code
from lowbit_sim.numerics.rounding import Rounding
from lowbit_sim.numerics.suggest import unknown
from lowbit_sim.numerics.whole import is_whole

#: Most of mantissa_bits + random_bits: a sum is rounded from 53 bits, of which the last is a sticky bit.
MAX_STOCHASTIC_BITS = 50


@dataclass(frozen=True, kw_only=True)
class FloatMacUnit:
    """Products added into a floating-point accumulator that rounds after every addition.

    accumulator = round(accumulator + product), each time once and from the exact sum, as a fused multiply-add
    does. Inside a chunk the accumulator starts at +0; the chunks' sums go, in order, into the outer one, which
    starts at +0 too. With neither `chunk` nor `outer` there is no outer accumulator.

    * `order="tree"` adds a chunk's products in a balanced tree: adjacent pairs level by level, an odd one is
      carried up as it is, every node rounds; the root is added to the chunk's accumulator.
    * `kahan` is compensated summation (Kahan, "Further remarks on reducing truncation errors", CACM 8(1),
      1965): y = term - c; t = sum + y; c = (t - sum) - y; sum = t, each of the four rounded in the
      accumulator's format, c from zero in every chunk and in the outer accumulator.
    * Infinities and NaN follow IEEE 754, after which `rounding.overflow` decides: "saturate" turns an infinite
      sum into the largest finite value. An exact zero is +0, but -0 for mode "down" and for two -0 (IEEE
      754-2019 section 6.3).

    Args:
        accumulator: Format of the accumulator.
        rounding: Mode and overflow ("infinity" or "saturate") of every addition, inner and outer. Stochastic
            rounding draws its bits from a `Stream`.
        chunk: Products summed in the inner accumulator before its sum moves on; 0 for the whole reduction.
        outer: Format of the accumulator of the chunks' sums; by default the inner one's.
        order: "sequential" (k ascending) or "tree", inside a chunk.
        product: Format that products are rounded to before they are added; None keeps them exact.
        product_rounding: Rounding of products, not stochastic; by default to nearest even, with the
            additions' overflow.
        kahan: Compensated summation; for sequential order.

    Raises:
        ValueError: A chunk or order outside these, "wrap", an overflow to infinity in a format with neither
            infinity nor NaN, stochastic products, more than 50 mantissa and random bits, or a Kahan tree.
    """

    accumulator: FloatFormat = FP32
    rounding: Rounding = Rounding(overflow="infinity")
    chunk: int = 0
    outer: FloatFormat | None = None
    order: SummationOrder = "sequential"
    product: FloatFormat | None = None
    product_rounding: Rounding | None = None
    kahan: bool = False

    def __post_init__(self) -> None:
        for name in ("accumulator", "outer", "product"):
            if is_qtorch(getattr(self, name)):
                object.__setattr__(self, name, from_qtorch(getattr(self, name)))
        if not is_whole(self.chunk, 0, 1 << 62):
            raise ValueError(f"a chunk has 0 or more products, got chunk={self.chunk}")
        if self.order not in get_args(SummationOrder):
            raise ValueError(unknown("order of summation", self.order, get_args(SummationOrder)))
        if self.kahan and self.order != "sequential":
            raise ValueError("compensated summation is sequential: kahan=True needs order='sequential'")
        for name, fmt in (("accumulator", self.accumulator), ("outer", self.outer)):
            _check_accumulator(name, fmt, self.rounding)
        self._check_product()

    def _check_product(self) -> None:
        if self.product is None:
            if self.product_rounding is not None:
                raise ValueError("product_rounding needs a product format: without one products are exact")
            return
        if self.rounding_of_products.is_stochastic:
            raise ValueError("products are not rounded stochastically: give a deterministic product_rounding")
        _check_accumulator("product", self.product, self.rounding_of_products)

    def __str__(self) -> str:
        text = f"{self.accumulator} {self.rounding.mode}"
        if self.rounding.is_stochastic:
            text += f" (r={self.rounding.random_bits})"
        text += " saturate" if self.rounding.overflow == "saturate" else ""
        text += " kahan" if self.kahan else ""
        text += " tree" if self.order == "tree" else ""
        text += f" of {self.product} {self.rounding_of_products.mode} products" if self.product else ""
        text += f" in chunks of {self.chunk}" if self.chunk else ""
        return text + (f" into {self.result_format}" if self.has_outer else "")

    @property
    def has_outer(self) -> bool:
        """Whether chunks' sums move on into an outer accumulator."""
        return bool(self.chunk) or self.outer is not None

    @property
    def result_format(self) -> FloatFormat:
        """Format of the result: the outer accumulator's."""
        return self.outer or self.accumulator

    @property
    def rounding_of_products(self) -> Rounding:
        """How products are rounded where they have a format."""
        return self.product_rounding or Rounding(overflow=self.rounding.overflow)

    def chunk_length(self, reduction: int) -> int:
        """Products in a full chunk of a reduction of a given length."""
        return self.chunk or max(reduction, 1)

    def additions(self, reduction: int) -> int:
        """Rounded additions that one result takes, inner and outer; compensated summation takes four a term."""
        chunks = -(-reduction // self.chunk_length(reduction))
        terms = reduction + (chunks if self.has_outer else 0)
        return 4 * terms if self.kahan else terms


def _check_accumulator(name: str, fmt: FloatFormat | None, rounding: Rounding) -> None:
    if fmt is None:
        return
    if not isinstance(fmt, FloatFormat):
        raise ValueError(f"{name} takes a FloatFormat, got {fmt!r}")
    if rounding.overflow == "wrap":
        raise ValueError(f"{name} {fmt} can't wrap: a float's overflow is 'infinity' or 'saturate'")
    overflow_code(fmt, rounding)
    if rounding.is_stochastic and fmt.mantissa_bits + rounding.random_bits > MAX_STOCHASTIC_BITS:
        raise ValueError(
            f"{name} {fmt} has {fmt.mantissa_bits} mantissa bits: stochastic rounding draws at most "
            f"{MAX_STOCHASTIC_BITS - fmt.mantissa_bits}, got random_bits={rounding.random_bits}"
        )
