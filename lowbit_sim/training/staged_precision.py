"""A run in stages, each with a precision of its own: what two-step, progressive and plain quantised training share.

Layers are put on DoReFa's grids as `nn.precision_switch` says. A stage starts from the weights, running statistics
and momentum with which the one before it ended; nothing but the precision and, if it is asked for, the learning
rate's schedule changes from its last step to the next. All stages share one number of steps, so that methods with
different numbers of stages are compared at equal updates. Evaluations are in the precision of the stage they fall in;
before the first step the model is in that of the last one, which is what is deployed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from lowbit_sim.nn.dorefa_grid import Precision, check_clip
from lowbit_sim.nn.precision_switch import add_switches, set_precision, switches
from lowbit_sim.training.grid_owners import refuse_other_owners
from lowbit_sim.training.recipe import ForwardPass, Recipe, Stage, Step
from lowbit_sim.training.settings import TrainingSettings, learning_rate


@dataclass(frozen=True, kw_only=True)
class PrecisionStage:
    """A stage.

    Args:
        precision: Of the quantised layers.
        steps: How many steps it takes.

    Raises:
        ValueError: No steps.
    """

    precision: Precision
    steps: int

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"a stage has at least one step, got {self.steps} in {self.precision}")


def in_steps(stages: Sequence[tuple[Precision, float]], steps: int) -> tuple[PrecisionStage, ...]:
    """Stages of a run.

    Args:
        stages: For each its precision and its share of the run, relative to the others'. Those without a share are
            left out; neighbours of one precision are one stage.
        steps: Steps of the whole run.

    Raises:
        ValueError: Negative shares, none at all, or more stages than steps.
    """
    if any(share < 0 for _, share in stages) or not sum(share for _, share in stages) > 0:
        raise ValueError(
            f"the shares of stages must be at least 0 and not all 0, got {[s for _, s in stages]}"
        )
    joined: list[tuple[Precision, float]] = []
    for precision, share in stages:
        if share and joined and joined[-1][0] == precision:
            joined[-1] = (precision, joined[-1][1] + share)
        elif share:
            joined.append((precision, share))
    whole, ends, until = sum(share for _, share in joined), [0], 0.0
    for _, share in joined:
        until += share
        ends.append(round(until / whole * steps))
    lengths = [after - before for before, after in zip(ends, ends[1:], strict=False)]
    if min(lengths) < 1:
        raise ValueError(
            f"a run of {steps} steps is too short for its {len(joined)} stages "
            f"({', '.join(str(precision) for precision, _ in joined)}): each takes at least one"
        )
    return tuple(PrecisionStage(precision=p, steps=n) for (p, _), n in zip(joined, lengths, strict=True))


class StagedPrecision:
    """A recipe; see the module.

    Args:
        stages: In order; together they are the run.
        layers: Patterns of the paths of the layers to quantise; None for all linear layers and convolutions but the
            first and the last.
        clip: Upper end of the inputs' range.
        restarts: The run's settings, where each stage runs their learning-rate schedule over its own steps; None for
            one schedule over the whole run.

    Raises:
        ValueError: No stages, or a range that is none.
    """

    def __init__(
        self,
        stages: Sequence[PrecisionStage],
        *,
        layers: Sequence[str] | None = None,
        clip: float = 1.0,
        restarts: TrainingSettings | None = None,
    ) -> None:
        if not stages:
            raise ValueError("a run has at least one stage, got none")
        check_clip(clip)
        self.precision_stages = tuple(stages)
        self.layers = None if layers is None else tuple(layers)
        self.clip, self.restarts = clip, restarts
        self._loss = 0.0
        self._last_loss: float | None = None
        self._switch: dict[str, float] = {}
        self._current = self.stages()[0]

    @property
    def last(self) -> Precision:
        """The precision that the run ends in."""
        return self.precision_stages[-1].precision

    def stages(self) -> list[Stage]:
        """The stages, each called by its precision."""
        found: list[Stage] = []
        for each in self.precision_stages:
            first = found[-1].first_step + found[-1].steps if found else 0
            found.append(Stage(name=str(each.precision), first_step=first, steps=each.steps))
        return found

    def stage_at(self, step: int) -> tuple[Stage, Precision]:
        """The stage of a step, and its precision; steps after the last stage belong to it."""
        stages = self.stages()
        number = max(i for i, stage in enumerate(stages) if stage.first_step <= step)
        return stages[number], self.precision_stages[number].precision

    def check_place(self, before: Mapping[str, Recipe], behind: Mapping[str, Recipe]) -> None:
        """Refuse other recipes that decide about weights or inputs."""
        refuse_other_owners(before, behind)

    def prepare(self, model: nn.Module) -> None:
        """Give the layers their switches, and put them in the last stage's precision.

        Raises:
            ValueError: Layers that can't be switched, or can't run in one of the stages' precisions.
        """
        add_switches(model, self.layers, clip=self.clip)
        for switch in switches(model).values():
            for stage in self.precision_stages:
                switch.check(stage.precision)
        set_precision(model, self.last)

    def before_step(self, step: Step) -> None:
        """Put the layers in the stage's precision, and the learning rate where its schedule is."""
        self._current, precision = self.stage_at(step.index)
        set_precision(step.model, precision)
        self._loss = 0.0
        if self.restarts is not None:
            rate = learning_rate(self.restarts, step.index - self._current.first_step, self._current.steps)
            for group in step.optimizer.param_groups:
                group["lr"] = rate

    def on_loss(self, step: Step, forward: ForwardPass, loss: Tensor) -> Tensor:
        """The loss as it is, whose value is noted."""
        if not loss.is_meta:
            self._loss += forward.share * float(loss.detach())
        return loss

    def on_gradients(self, step: Step) -> None:
        """Nothing."""

    def after_step(self, step: Step) -> None:
        """Note the losses on both sides of a switch."""
        if step.index == self._current.first_step and step.index:
            before = {} if self._last_loss is None else {"loss_before_switch": self._last_loss}
            self._switch = {**before, "loss_after_switch": self._loss}
        self._last_loss = self._loss

    def measurements(self) -> dict[str, float]:
        """Bits of the stage, and the training losses of the steps just before and after the last switch."""
        _, precision = self.stage_at(self._current.first_step)
        bits = {"weight_bits": precision.weight_bits, "activation_bits": precision.activation_bits}
        return {**{name: float(value) for name, value in bits.items()}, **self._switch}

    def state_dict(self) -> dict[str, Any]:
        """The losses that are noted, and the step at which the stage began."""
        return {
            "last_loss": self._last_loss,
            "switch": dict(self._switch),
            "first_step": self._current.first_step,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a `state_dict`."""
        self._last_loss = state["last_loss"]
        self._switch = dict(state["switch"])
        self._current, _ = self.stage_at(state["first_step"])
