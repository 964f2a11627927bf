"""Hypernetworks: coordinate-wise functions M(gradient, ...) with parameters that all layers share.

    FCGrad    M = FC(g)                          the gradient alone
    MultiFC   M = g FC(w)                        a gain from the pre-processed weight
    LSTMFC    M = g FC(LSTM(w))                  a gain from the weight's past (a state for each coordinate)
    MomentFC  see `moment_fc.py`

With `initial="identity"` (ours, the default) M is the gradient plus the same expression with its last layer at zero,
so that training starts as plain training, bit for bit; with "paper" there is no such sum and all layers are random,
so that about half of all seeds start uphill. FC has no biases and, unless `activation="relu"`, no non-linearity:
FCGrad then is one number times the gradient, with ReLU one for either sign. Native layers are computed as what they
come to, FC(x) = x FC(1) or, with ReLU, max(x, 0) FC(1) + min(x, 0) (-FC(-1)): the same function, whose products round
in another order.

Source: Chen et al., "MetaQuant: Learning to Quantize by Learning to Penetrate Non-differentiable Quantization",
NeurIPS 2019, section 3.3; hidden features 100 as there.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor, nn

from lowbit_sim.nn.emulation import EmulatedLayer
from lowbit_sim.numerics.suggest import unknown
from lowbit_sim.training.metagrad.coordinates import Coordinates, needed

Initial = Literal["identity", "paper"]
Activation = Literal["none", "relu"]

#: How a hypernetwork reads the weight: not at all, as the pre-processing's papers define it (within [0, 1] for
#: DoReFa), or as a number with a sign that is that of the original weight.
WeightReading = Literal["none", "preprocessed", "signed"]

#: What a hypernetwork remembers of each coordinate: tensors [features, n].
State = tuple[Tensor, ...]


class Hypernetwork(nn.Module):
    """Base of the hypernetworks. A subclass states what it reads and corrects a chunk of coordinates.

    Attributes:
        weight_reading: How it reads the weight.
        moment_decay: Factor of the running mean of gradients that it reads; None if it reads none.
        reads_scales: Whether it reads the root mean squares of each tensor.
        state_features: How many numbers of each coordinate each tensor of its state holds.
    """

    weight_reading: ClassVar[WeightReading] = "none"
    reads_scales: ClassVar[bool] = False
    moment_decay: float | None = None
    state_features: tuple[int, ...] = ()

    def forward(self, c: Coordinates, state: State) -> tuple[Tensor, State]:
        """Correct a chunk.

        Args:
            c: The coordinates.
            state: What it remembers of them, all zeros at first.

        Returns:
            The corrected gradient [n], and the state that the next step starts from.
        """
        raise NotImplementedError

    def measurements(self) -> dict[str, float]:
        """Values that tell what it does, by name."""
        return {}


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Initial weights depend on the seed alone; torch's global generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def check_initial(initial: str) -> None:
    """Refuse an unknown start.

    Raises:
        ValueError: Naming the known ones.
    """
    if initial not in get_args(Initial):
        raise ValueError(unknown("initial state of a hypernetwork", initial, get_args(Initial)))


def check_positive(name: str, value: object) -> None:
    """Refuse a number of features or layers that is not a positive integer.

    Raises:
        ValueError: Naming the value.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{name} must be a positive integer, got {value!r}")


def through(layer: nn.Module, rows: Tensor) -> Tensor:
    """A linear layer over coordinates that lie in rows, [inputs, n] to [outputs, n].

    Coordinates are many and features few: W x with a row for each feature is ten times faster than nn.Linear's x W^T.
    """
    if isinstance(layer, EmulatedLayer):
        return layer(rows.t()).t()
    assert isinstance(layer, nn.Linear)
    y = layer.weight @ rows
    return y if layer.bias is None else y + layer.bias.unsqueeze(1)


class FullyConnected(nn.Module):
    """Linear layers 1 -> hidden -> ... -> 1 without biases, [n] to [n].

    Args:
        hidden: Features between two layers.
        depth: How many layers.
        activation: What stands between two layers.
        zero: Whether the last layer starts at zero.
    """

    def __init__(self, *, hidden: int, depth: int, activation: Activation, zero: bool) -> None:
        super().__init__()
        check_positive("hidden", hidden)
        check_positive("layers", depth)
        if activation not in get_args(Activation):
            raise ValueError(unknown("activation", activation, get_args(Activation)))
        self.activation = activation
        sizes = [1, *[hidden] * (depth - 1), 1]
        self.layers = nn.ModuleList(nn.Linear(*pair, bias=False) for pair in pairwise(sizes))
        if zero:
            nn.init.zeros_(self.layers[-1].weight)  # pyright: ignore[reportArgumentType]

    @property
    def is_native(self) -> bool:
        """Whether no layer is emulated, so that only the function matters and not how it is computed."""
        return not any(isinstance(m, EmulatedLayer) for m in self.layers)

    def slopes(self) -> tuple[Tensor, Tensor]:
        """FC(1) and -FC(-1), the factors of positive and negative numbers; without a non-linearity they are equal."""
        first: Tensor = self.layers[0].weight  # pyright: ignore[reportAssignmentType]
        if self.activation == "none":
            slope = self._behind_first(first).squeeze()
            return slope, slope
        up, down = self._behind_first(torch.cat((first, -first), dim=1)).squeeze(0)
        return up, -down

    def layered(self, x: Tensor) -> Tensor:
        """[n] to [n], layer by layer."""
        return self._behind_first(through(self.layers[0], x.unsqueeze(0))).squeeze(0)

    def forward(self, x: Tensor) -> Tensor:
        """[n] to [n]."""
        if not self.is_native:
            return self.layered(x)
        positive, negative = self.slopes()  # a hundredth of the layers' work
        if self.activation == "none":
            return x * positive
        return x.clamp(min=0) * positive + x.clamp(max=0) * negative

    def _behind_first(self, rows: Tensor) -> Tensor:
        """What the other layers make of the first one's output [features, n]."""
        for layer in self.layers[1:]:
            rows = through(layer, torch.relu(rows) if self.activation == "relu" else rows)
        return rows


class FCGrad(Hypernetwork):
    """M(g) = FC(g): without a non-linearity one learned number times the gradient, a hypergradient learning rate.

    Args:
        hidden: Features between the two layers.
        activation: "none" as in the paper's runs, or "relu": then one number for positive gradients and one for
            negative ones, which makes M biased.
        initial: "identity" or "paper".
        seed: Seed of the initial weights.

    Raises:
        ValueError: Unknown names, or `hidden` that is not positive.
    """

    def __init__(
        self,
        hidden: int = 100,
        *,
        activation: Activation = "none",
        initial: Initial = "identity",
        seed: int = 0,
    ) -> None:
        super().__init__()
        check_initial(initial)
        self.identity = initial == "identity"
        with seeded(seed):
            self.fc = FullyConnected(hidden=hidden, depth=2, activation=activation, zero=self.identity)

    def forward(self, c: Coordinates, state: State) -> tuple[Tensor, State]:
        """See the class."""
        y = self.fc(c.gradient)
        return (c.gradient + y if self.identity else y), state

    @torch.no_grad()
    def measurements(self) -> dict[str, float]:
        """The numbers that M multiplies with: `c`, or `c_positive` and `c_negative` where they differ."""
        first = next(self.fc.parameters())
        ones = torch.tensor([1.0, -1.0], dtype=first.dtype, device=first.device)
        y, _ = self(Coordinates(gradient=ones), ())
        if self.fc.activation == "none":
            return {"c": float(y[0])}
        return {"c_positive": float(y[0]), "c_negative": -float(y[1])}


class MultiFC(Hypernetwork):
    """M(g, w) = g FC(w): a gain that depends on the pre-processed weight.

    Args:
        hidden: Features between two layers.
        layers: How many layers FC has: 2 in the paper's text, 3 by default in its authors' code.
        activation: "none" or "relu".
        initial: "identity": g (1 + FC(w)) with the last layer at zero, or "paper": g FC(w).
        seed: Seed of the initial weights.

    Raises:
        ValueError: Unknown names, or numbers that are not positive.
    """

    weight_reading = "preprocessed"

    def __init__(
        self,
        hidden: int = 100,
        layers: int = 2,
        *,
        activation: Activation = "none",
        initial: Initial = "identity",
        seed: int = 0,
    ) -> None:
        super().__init__()
        check_initial(initial)
        self.identity = initial == "identity"
        with seeded(seed):
            self.fc = FullyConnected(hidden=hidden, depth=layers, activation=activation, zero=self.identity)

    def forward(self, c: Coordinates, state: State) -> tuple[Tensor, State]:
        """See the class."""
        gain = self.fc(needed(c.weight))
        return c.gradient * (1 + gain if self.identity else gain), state
