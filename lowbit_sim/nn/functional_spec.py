"""The numerics of the products that a module's own forward pass calls as functions."""

from __future__ import annotations

from dataclasses import dataclass

from lowbit_sim.arith.spec import GemmSpec, OpSpec
from lowbit_sim.ops.attention import AttentionSpec


@dataclass(frozen=True)
class FunctionalSpec:
    """Numerics for `torch.matmul`, `F.linear`, `F.scaled_dot_product_attention` and their like in a module's forward.

    The products of the module's children are not meant: those have rules of their own.

    Args:
        products: Every product of two tensors: the first is the input, the second the weight. Also every linear
            layer and convolution.
        attention: `F.scaled_dot_product_attention`; by default both of its products are like `products`.

    Raises:
        TypeError: Something else than an `OpSpec` or an `AttentionSpec`.
    """

    products: OpSpec
    attention: AttentionSpec | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.products, OpSpec):
            raise TypeError(f"products takes an OpSpec, got {self.products!r}")
        if self.attention is not None and not isinstance(self.attention, AttentionSpec):
            raise TypeError(f"attention takes an AttentionSpec or None, got {self.attention!r}")

    def __str__(self) -> str:
        attention = f", attention: {self.attention}" if self.attention else ""
        return f"products ({self.products}){attention}"

    @property
    def attention_spec(self) -> AttentionSpec:
        """The attention's numerics, `products` where none is given."""
        return self.attention or AttentionSpec.uniform(self.products)

    @property
    def forward_gemms(self) -> tuple[GemmSpec | None, ...]:
        """The GEMMs that a forward pass may run."""
        attention = self.attention_spec
        return self.products.output, attention.scores.output, attention.values.output


#: What a rule may give a layer.
LayerSpec = OpSpec | FunctionalSpec


def forward_gemms(spec: LayerSpec) -> tuple[GemmSpec | None, ...]:
    """The GEMMs that a forward pass of a layer may run."""
    return spec.forward_gemms if isinstance(spec, FunctionalSpec) else (spec.output,)
