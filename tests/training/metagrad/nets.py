"""Small networks and steps that the tests of MetaGrad share."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer

import lowbit_sim as lb
from lowbit_sim.training.examples import Examples
from lowbit_sim.training.metagrad.hypernetworks import Hypernetwork
from lowbit_sim.training.recipe import Recipe, Step

STOCHASTIC = lb.Rounding("stochastic", random_bits=8)
INT4 = lb.OpSpec.uniform(lb.INT4, gradient_rounding=STOCHASTIC)

#: A hypernetwork of each kind, small.
HYPERNETWORKS: dict[str, Callable[[], Hypernetwork]] = {
    "fc_grad": lambda: lb.FCGrad(8),
    "fc_grad relu": lambda: lb.FCGrad(8, activation="relu"),
    "multi_fc": lambda: lb.MultiFC(8, 3),
    "lstm_fc": lambda: lb.LSTMFC(4),
    "moment_fc": lambda: lb.MomentFC(4),
}


def low_precision_hypernetwork() -> Hypernetwork:
    """Away from the identity, with GEMMs in INT8 that draw random bits forward and backward."""
    m = lb.MultiFC(8, 3, initial="paper")
    drawn = lb.Quantizer(lb.INT8, rounding=STOCHASTIC)
    gemm = lb.GemmSpec(lhs=drawn, rhs=drawn)
    rules = [lb.Rule("*", lb.OpSpec(output=gemm, grad_input=gemm, grad_weight=gemm))]
    return lb.convert(m, rules, seed=6)  # type: ignore[return-value]


#: phi stays as it is.
FROZEN = lb.PhiTraining(learning_rate=0.0)


class Attending(nn.Module):
    """A classifier of sequences: one attention, one linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        """[N, L, 8] to [N, 3]."""
        return self.head(self.attention(x, x, x, need_weights=False)[0].mean(1))


def dense() -> nn.Sequential:
    """Inputs [N, 6]."""
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))


def convolutional() -> nn.Sequential:
    """Inputs [N, 2, 6, 6]; with a batch norm."""
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Conv2d(4, 3, 3),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )


#: Each with the shape of a sample.
NETS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "dense": (dense, (6,)),
    "convolutional": (convolutional, (2, 6, 6)),
    "attention": (Attending, (5, 8)),
}


def net(kind: str = "dense", *, spec: lb.OpSpec | None = INT4) -> Any:
    """A network, emulated unless `spec` is None."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = NETS[kind][0]()
    return model if spec is None else lb.convert(model, [lb.Rule("*", spec)], seed=2)


def batches(kind: str, count: int, size: int = 6) -> list[Examples]:
    """Batches of random inputs and classes."""
    generator = torch.Generator().manual_seed(3)
    return [
        Examples(
            inputs=torch.randn(size, *NETS[kind][1], generator=generator),
            targets=torch.randint(0, 3, (size,), generator=generator),
        )
        for _ in range(count)
    ]


def step_through(
    model: nn.Module,
    optimizer: Optimizer,
    data: Iterable[Examples],
    *recipes: Recipe,
    micro_batches: int = 1,
    start: int = 0,
) -> None:
    """Plain training steps with recipes in the order given."""
    for index, batch in enumerate(data, start):
        step = Step(index=index, epoch=0, model=model, optimizer=optimizer, batch=batch)
        optimizer.zero_grad(set_to_none=True)
        for recipe in recipes:
            recipe.before_step(step)
        for inputs, targets in zip(
            batch.inputs.chunk(micro_batches), batch.targets.chunk(micro_batches), strict=True
        ):
            (F.cross_entropy(model(inputs), targets) / micro_batches).backward()
        for recipe in recipes:
            recipe.on_gradients(step)
        optimizer.step()
        for recipe in recipes:
            recipe.after_step(step)


def bits(model: nn.Module) -> list[bytes]:
    """The bits of everything that training changes."""
    return [t.detach().numpy().tobytes() for t in model.state_dict().values()]
