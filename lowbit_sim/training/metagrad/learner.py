"""The hypernetwork at work: it corrects a step's gradient, and learns from the next step's.

Both run over the same chunks with the same inputs; learning computes the last correction again with its graph, chunk
by chunk, and takes a vector-Jacobian product of each. Where the hypernetwork's layers draw random bits, each chunk
counts as a step of theirs, so that chunks have bits of their own and learning finds those of the correction.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from lowbit_sim.nn.convert import random_steps, set_random_steps
from lowbit_sim.nn.state import emulation_state, load_emulation_state
from lowbit_sim.training.metagrad.billing import bill_phi, hypernetwork_events
from lowbit_sim.training.metagrad.coordinates import Chunk, FlatLayout, norms
from lowbit_sim.training.metagrad.hypernetworks import Hypernetwork, State
from lowbit_sim.training.metagrad.memory import Memory
from lowbit_sim.training.metagrad.phi import PhiTraining, load_optimizer_state, optimizer_state

_STATE = ("hypernetwork", "emulation", "random_steps", "optimizer", "coordinates", "largest_rate")


@dataclass(kw_only=True, eq=False)
class Learner:
    """A hypernetwork, its optimiser, and what is kept of the last step.

    Attributes:
        hypernetwork: M.
        phi: How it is trained.
        seed: Seed of a low-precision update of phi.
        memory: What is kept of the last step; None before the first.
    """

    hypernetwork: Hypernetwork
    phi: PhiTraining
    seed: int
    memory: Memory | None = None
    _optimizer: Optimizer | None = None
    _loaded: dict[str, Any] | None = None
    _largest_rate: float = 0.0
    _random_steps: dict[str, int] = field(default_factory=dict)

    @property
    def dtype(self) -> torch.dtype:
        """What the hypernetwork computes in."""
        return next(self.hypernetwork.parameters()).dtype

    def prepare(self, shapes: dict[str, tuple[int, ...]], device: torch.device) -> Memory:
        """What is kept, for parameters of these names and shapes.

        Raises:
            ValueError: Other parameters than those of the step before, or of the state that was loaded.
        """
        if self.memory is not None and self.memory.layout.device != device:
            self.memory, self._loaded = None, self.state_dict()
        if self.memory is None:
            self.memory = self._start(FlatLayout(shapes, device))
        if self.memory.layout.shapes != shapes:
            raise ValueError(_others(self.memory.layout.shapes, shapes))
        return self.memory

    def _start(self, layout: FlatLayout) -> Memory:
        self.hypernetwork.to(layout.device)
        self._optimizer = self.phi.build(self.hypernetwork, self.seed)
        memory = Memory(layout=layout)
        if self._loaded is not None:
            load_optimizer_state(self._optimizer, self.hypernetwork, self._loaded["optimizer"])
            if self._loaded["coordinates"]:
                memory.load(self._loaded["coordinates"], self.dtype)
            self._loaded = None
        if not memory.state:
            memory.state = tuple(
                torch.zeros((features, layout.size), dtype=self.dtype, device=layout.device)
                for features in self.hypernetwork.state_features
            )
        return memory

    def correct(self) -> Tensor:
        """M of what is kept [N]."""
        assert self.memory is not None
        self._random_steps = random_steps(self.hypernetwork)
        with torch.no_grad(), hypernetwork_events(self.hypernetwork):
            pieces = [self._run(*each)[0] for each in enumerate(self.memory.layout.chunks)]
        self._draw(len(pieces))
        return pieces[0] if len(pieces) == 1 else torch.cat(pieces)

    def learn(self, direction: Tensor | None, rate: float) -> float | None:
        """Train phi, and move the hypernetwork's state on by a step.

        Args:
            direction: The loss' derivative by the last correction [N], or None if that was not committed.
            rate: The model's learning rate, which phi's schedule may follow.

        Returns:
            The norm of phi's gradient; None where phi was not trained: there was no direction, its learning rate is
            0, or its gradient is not finite.
        """
        self._largest_rate = max(self._largest_rate, rate)
        trains = direction is not None and self.phi.learning_rate > 0
        if not trains and not self.hypernetwork.state_features:
            return None
        with torch.set_grad_enabled(trains), hypernetwork_events(self.hypernetwork):
            gradients = self._replay(direction if trains else None)
        return self._step(gradients, rate) if trains else None

    def _replay(self, direction: Tensor | None) -> list[Tensor]:
        assert self.memory is not None
        parameters = list(self.hypernetwork.parameters())
        sums = [torch.zeros_like(p) for p in parameters]
        for number, chunk in enumerate(self.memory.layout.chunks):
            y, state = self._run(number, chunk)
            if direction is not None:
                found = torch.autograd.grad(
                    y, parameters, grad_outputs=chunk.of(direction), materialize_grads=True
                )
                for total, gradient in zip(sums, found, strict=True):
                    total.add_(gradient)
            for mine, new in zip(self.memory.state, state, strict=True):
                chunk.of(mine).copy_(new.detach())
        self._draw(len(self.memory.layout.chunks))
        return sums

    def _run(self, number: int, chunk: Chunk) -> tuple[Tensor, State]:
        assert self.memory is not None
        self._draw(number)
        coordinates = self.memory.coordinates(chunk, with_scales=self.hypernetwork.reads_scales)
        return self.hypernetwork(coordinates, tuple(chunk.of(s) for s in self.memory.state))

    def _draw(self, number: int) -> None:
        """Have the hypernetwork draw the random bits of a chunk of the last correction."""
        if self._random_steps:
            steps = {path: step + number for path, step in self._random_steps.items()}
            set_random_steps(self.hypernetwork, steps)

    def _step(self, gradients: Sequence[Tensor], rate: float) -> float | None:
        assert self._optimizer is not None
        norm = torch.stack(norms(gradients)).norm()
        value = 0.0 if norm.is_meta else float(norm)
        if not math.isfinite(value):
            return None
        for p, g in zip(self.hypernetwork.parameters(), gradients, strict=True):
            p.grad = g
        for group in self._optimizer.param_groups:
            group["lr"] = self.phi.rate(rate, self._largest_rate)
        self._optimizer.step()
        bill_phi(self._optimizer)
        self._optimizer.zero_grad(set_to_none=True)
        return value

    def own_measurements(self) -> dict[str, float]:
        """The hypernetwork's; its random bits stay where they are."""
        steps = random_steps(self.hypernetwork)
        try:
            return self.hypernetwork.measurements()
        finally:
            set_random_steps(self.hypernetwork, steps)

    def memory_bytes(self) -> dict[str, int]:
        """Bytes kept between steps, by what is kept."""
        kept = {} if self.memory is None else self.memory.bytes()
        states = [] if self._optimizer is None else self._optimizer.state.values()
        tensors = [t for each in states for t in each.values() if isinstance(t, Tensor)]
        kept["phi"] = sum(p.numel() * p.element_size() for p in self.hypernetwork.parameters())
        kept["phi_optimizer"] = sum(t.numel() * t.element_size() for t in tensors)
        return kept

    def state_dict(self) -> dict[str, Any]:
        """All that it needs to go on bit for bit; tensors are copied."""
        if self._loaded is not None:
            return dict(self._loaded)
        values = (
            {name: t.clone() for name, t in self.hypernetwork.state_dict().items()},
            emulation_state(self.hypernetwork),
            dict(self._random_steps),
            {} if self._optimizer is None else optimizer_state(self._optimizer, self.hypernetwork),
            {} if self.memory is None else self.memory.by_name(),
            self._largest_rate,
        )
        return dict(zip(_STATE, values, strict=True))

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a `state_dict`; what belongs to the model's parameters is put in place at the next step.

        Raises:
            ValueError: Not such a state, or that of another hypernetwork.
        """
        if not isinstance(state, dict) or set(state) != set(_STATE):
            raise ValueError(f"the state of a hypernetwork's training has the keys {', '.join(_STATE)}")
        mine = {name: tuple(t.shape) for name, t in self.hypernetwork.state_dict().items()}
        given = {name: tuple(t.shape) for name, t in state["hypernetwork"].items()}
        if mine != given:
            raise ValueError(
                f"the state is that of another hypernetwork: it has {given}, {type(self.hypernetwork).__name__} has "
                f"{mine}"
            )
        self.hypernetwork.load_state_dict(state["hypernetwork"])
        load_emulation_state(self.hypernetwork, state["emulation"])
        self._random_steps, self._largest_rate = dict(state["random_steps"]), state["largest_rate"]
        self.memory, self._optimizer, self._loaded = None, None, dict(state)


def _others(before: dict[str, tuple[int, ...]], now: dict[str, tuple[int, ...]]) -> str:
    """What has become of the parameters."""
    kinds = {
        "gone or frozen": before.keys() - now.keys(),
        "new": now.keys() - before.keys(),
        "of another shape": {name for name in before.keys() & now.keys() if before[name] != now[name]},
    }
    told = "; ".join(f"{kind}: {', '.join(sorted(names))}" for kind, names in kinds.items() if names)
    return (
        f"the parameters to correct are others than in the step before ({told}): name with `parameters` those "
        "that are corrected all through, or go on with a new MetaGrad"
    )
