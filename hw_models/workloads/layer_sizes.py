"""A layer that multiplies, by its sizes alone."""

from __future__ import annotations

from dataclasses import dataclass

from hw_models.workloads.stored import FLOAT32, Stored
from lowbit_sim.trace import ConvGeometry, Role


@dataclass(frozen=True, kw_only=True)
class Layer:
    """`count` equal GEMMs [M, K] x [K, N], or the convolution that they unfold.

    Attributes:
        name: The layer's name, for the events.
        M, N, K: Sizes of the forward GEMM; for a convolution of each group's.
        count: Groups of a convolution, matrices of a batch.
        conv: The convolution.
        weights: Whether the right factor is a parameter, which the update changes; else it is an activation.
        input_gradient: Whether the gradient of the input is needed: not by the first layer of a model.
        input_kept: Whether the real input stays in memory for another operator anyway.
        bias: Whether a bias, one number for each of the count * N columns, is added to the result.
        stored: In which formats its input, its result and their gradients are stored.
    """

    name: str
    M: int
    N: int
    K: int
    count: int = 1
    conv: ConvGeometry | None = None
    weights: bool = True
    input_gradient: bool = True
    input_kept: bool = False
    bias: bool = False
    stored: Stored = FLOAT32

    def __post_init__(self) -> None:
        for what in ("M", "N", "K", "count"):
            if getattr(self, what) < 1:
                raise ValueError(f"layer {self.name!r}: {what} must be at least 1, got {getattr(self, what)}")

    def sizes(self, role: Role) -> tuple[int, int, int]:
        """(M, N, K) of one GEMM of a role."""
        m, n, k = self.M, self.N, self.K
        if role == "output":
            return m, n, k
        if role == "grad_weight":
            return n, k, m
        if self.conv is None:
            return m, k, n
        c = self.conv
        taps = c.kernel_height * c.kernel_width
        return c.batch * c.in_height * c.in_width, c.in_channels // c.groups, taps * n

    @property
    def elements(self) -> dict[str, int]:
        """Elements of the tensors x, w, g and the bias b, in their own layouts."""
        x = self.count * self.M * self.K
        if self.conv is not None:
            c = self.conv
            x = c.batch * c.in_channels * c.in_height * c.in_width
        columns = self.count * self.N
        return {"x": x, "w": columns * self.K, "g": columns * self.M, "b": columns if self.bias else 0}

    def together(self, role: Role, side: int) -> int:
        """Neighbours along the reduction that come together in every window in which one of them occurs."""
        conv, (_, _, reduction) = self.conv, self.sizes(role)
        if conv is None or conv.kernel_height * conv.kernel_width == 1:
            return reduction
        match role, side:
            case "output", 0:
                return conv.in_channels // conv.groups
            case "grad_input", 0:
                return conv.out_channels // conv.groups
            case "grad_weight", 1:
                return 1
            case _:
                return reduction


#: The tensors on the left and right of each role's GEMM.
OPERANDS: dict[Role, tuple[str, str]] = {
    "output": ("x", "w"),
    "grad_input": ("g", "w"),
    "grad_weight": ("g", "x"),
}

#: The tensor of whose size each role's result is.
RESULTS: dict[Role, str] = {"output": "g", "grad_input": "x", "grad_weight": "w"}


def conv_layer(name: str, conv: ConvGeometry, *, input_gradient: bool = True) -> Layer:
    """The layer of a convolution."""
    return Layer(
        name=name,
        M=conv.batch * conv.out_height * conv.out_width,
        N=conv.out_channels // conv.groups,
        K=conv.kernel_height * conv.kernel_width * (conv.in_channels // conv.groups),
        count=conv.groups,
        conv=conv,
        input_gradient=input_gradient,
    )
