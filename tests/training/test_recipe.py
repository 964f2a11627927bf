from dataclasses import dataclass, field
from typing import Any

import pytest
import torch

from lowbit_sim.training.loop import train
from lowbit_sim.training.recipe import Measured, Stateful, Step, compose
from tests.training.toys import SETTINGS, parameter_bits, toy_examples, toy_model


@dataclass
class Witness:
    """Notes each moment at which it is called, and whether the gradients and the weights are as promised."""

    name: str = ""
    log: list[str] = field(default_factory=list)
    steps: list[tuple[int, int]] = field(default_factory=list)
    weight: torch.Tensor | None = None

    def before_step(self, step: Step) -> None:
        assert all(p.grad is None for p in step.model.parameters())
        self.weight = next(step.model.parameters()).detach().clone()
        self.steps.append((step.index, step.epoch))
        self.log.append(f"{self.name}before")

    def on_gradients(self, step: Step) -> None:
        assert all(p.grad is not None for p in step.model.parameters())
        assert torch.equal(next(step.model.parameters()), self.weight)
        self.log.append(f"{self.name}gradients")

    def after_step(self, step: Step) -> None:
        assert not torch.equal(next(step.model.parameters()), self.weight)
        self.log.append(f"{self.name}after")


def test_each_moment_comes_in_its_place_in_every_step():
    witness = Witness()
    train(toy_model(), toy_examples(20), toy_examples(5), SETTINGS, recipes=[witness])
    assert witness.log == ["before", "gradients", "after"] * 6  # 2 epochs of ceil(20 / 8) steps
    assert witness.steps == [(0, 0), (1, 0), (2, 0), (3, 1), (4, 1), (5, 1)]


def test_composed_recipes_act_in_their_order():
    log: list[str] = []
    train(
        toy_model(),
        toy_examples(8),
        toy_examples(5),
        SETTINGS,
        recipes=[Witness(name="a.", log=log), Witness(name="b.", log=log)],
    )
    assert log[:6] == ["a.before", "b.before", "a.gradients", "b.gradients", "a.after", "b.after"]


@dataclass(frozen=True)
class DoubleGradients:
    def before_step(self, step: Step) -> None: ...

    def on_gradients(self, step: Step) -> None:
        for p in step.model.parameters():
            assert p.grad is not None
            p.grad.mul_(2)

    def after_step(self, step: Step) -> None: ...


def test_a_recipe_that_changes_gradients_changes_training():
    plain, doubled = toy_model(), toy_model()
    train(plain, toy_examples(), toy_examples(5), SETTINGS)
    train(doubled, toy_examples(), toy_examples(5), SETTINGS, recipes=[DoubleGradients()])
    assert parameter_bits(plain) != parameter_bits(doubled)


def test_no_recipes_and_the_empty_composition_are_plain_training_bit_for_bit():
    plain, composed = toy_model(), toy_model()
    train(plain, toy_examples(), toy_examples(5), SETTINGS)
    train(composed, toy_examples(), toy_examples(5), SETTINGS, recipes=[compose([])])
    assert parameter_bits(plain) == parameter_bits(composed)


@dataclass
class Counter:
    """Keeps a state and measures it."""

    steps_done: int = 0
    scale: float = 1.0

    def before_step(self, step: Step) -> None: ...

    def on_gradients(self, step: Step) -> None: ...

    def after_step(self, step: Step) -> None:
        self.steps_done += 1

    def state_dict(self) -> dict[str, Any]:
        return {"steps_done": self.steps_done}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.steps_done = state["steps_done"]

    def measurements(self) -> dict[str, float]:
        return {"steps": self.scale * self.steps_done}


def test_measurements_of_every_epoch_bear_the_recipes_names():
    recipes = [Counter(), DoubleGradients(), Counter(scale=-1.0)]
    result = train(toy_model(), toy_examples(20), toy_examples(5), SETTINGS, recipes=recipes)
    assert [epoch.measurements for epoch in result.epochs] == [
        {"counter.steps": 3, "counter_2.steps": -3},
        {"counter.steps": 6, "counter_2.steps": -6},
    ]


def test_names_that_are_given_are_kept():
    recipes = {"mine": Counter(), "other": DoubleGradients()}
    result = train(toy_model(), toy_examples(8), toy_examples(5), SETTINGS, recipes=recipes)
    assert result.epochs[0].measurements == {"mine.steps": 1}


def test_a_composition_hands_states_on_and_refuses_those_of_others():
    composed = compose([Counter(steps_done=3), DoubleGradients(), Counter(steps_done=5)])
    state = composed.state_dict()
    assert state == {"counter": {"steps_done": 3}, "counter_2": {"steps_done": 5}}
    first, second = Counter(), Counter()
    compose([first, DoubleGradients(), second]).load_state_dict(state)
    assert (first.steps_done, second.steps_done) == (3, 5)
    with pytest.raises(ValueError, match="recipes counter, counter_2, but those with a state are counter$"):
        compose([Counter()]).load_state_dict(state)


def test_the_protocols_tell_who_keeps_a_state():
    assert isinstance(Counter(), Stateful)
    assert isinstance(Counter(), Measured)
    assert not isinstance(DoubleGradients(), Stateful | Measured)
