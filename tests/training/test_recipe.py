from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import torch
from torch import nn

from lowbit_sim.training.loop import train
from lowbit_sim.training.recipe import (
    ForwardPass,
    LossChanging,
    Measured,
    Placed,
    Preparing,
    Recipe,
    Stage,
    Staged,
    Stateful,
    Step,
    Undecayed,
    compose,
)
from lowbit_sim.training.settings import build_optimizer
from lowbit_sim.training.workload import trace_training_step
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


@dataclass
class Nothing:
    """A recipe that does nothing in a step."""

    def before_step(self, step: Step) -> None: ...

    def on_gradients(self, step: Step) -> None: ...

    def after_step(self, step: Step) -> None: ...


@dataclass
class Offset(Nothing):
    """Adds a trained offset to the logits, and keeps the weight decay from it."""

    refused: str = ""

    def prepare(self, model: nn.Module) -> None:
        if self.refused:
            raise ValueError(self.refused)
        model.register_parameter("offset", nn.Parameter(torch.ones(3)))
        model.register_forward_hook(self._shift)

    def _shift(self, module: nn.Module, args: Any, output: torch.Tensor) -> torch.Tensor:
        return output + module.get_parameter("offset")

    def without_weight_decay(self, model: nn.Module) -> Iterable[nn.Parameter]:
        return [p for name, p in model.named_parameters() if name == "offset"]


def test_what_a_recipe_prepares_is_trained():
    model = toy_model()
    train(model, toy_examples(), toy_examples(5), SETTINGS, recipes=[Offset()])
    assert not torch.equal(model.get_parameter("offset"), torch.ones(3))


def test_the_weight_decay_is_kept_from_what_a_recipe_names():
    model, recipe = toy_model(), Offset()
    recipe.prepare(model)
    optimizer = build_optimizer(
        model, replace(SETTINGS, weight_decay=0.1), recipe.without_weight_decay(model)
    )
    decays = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert {name: decays[id(p)] for name, p in model.named_parameters()} == {
        **{name: 0.1 for name, _ in toy_model().named_parameters()},
        "offset": 0.0,
    }
    assert len(build_optimizer(toy_model(), SETTINGS).param_groups) == 1


def test_what_a_recipe_refuses_names_it():
    with pytest.raises(ValueError, match="^offset: not this model$"):
        train(toy_model(), toy_examples(), toy_examples(5), SETTINGS, recipes=[Offset("not this model")])


@dataclass
class Scaled(Nothing):
    """Multiplies the loss, and notes what it was given."""

    factor: float
    shares: list[float] = field(default_factory=list)
    examples: list[int] = field(default_factory=list)

    def on_loss(self, step: Step, forward: ForwardPass, loss: torch.Tensor) -> torch.Tensor:
        assert forward.logits.shape == (len(forward.part), 3)
        self.shares.append(forward.share)
        self.examples.append(len(forward.part))
        return loss * self.factor


def test_recipes_change_the_loss_in_their_order_and_the_metrics_stay_cross_entropies():
    """Twice and half is nothing; the training loss that is reported is the cross-entropy."""
    plain, both, twice = toy_model(), toy_model(), toy_model()
    expected = train(plain, toy_examples(), toy_examples(5), SETTINGS)
    train(both, toy_examples(), toy_examples(5), SETTINGS, recipes=[Scaled(2.0), Scaled(0.5)])
    result = train(twice, toy_examples(), toy_examples(5), replace(SETTINGS, epochs=1), recipes=[Scaled(2.0)])
    assert parameter_bits(both) == parameter_bits(plain)
    assert parameter_bits(twice) != parameter_bits(plain)
    assert result.epochs[0].train_loss != 2 * expected.epochs[0].train_loss


def test_micro_batches_are_told_their_share():
    recipe = Scaled(1.0)
    settings = replace(SETTINGS, epochs=1, accumulation=2)
    train(toy_model(), toy_examples(20), toy_examples(5), settings, recipes=[recipe])
    assert recipe.examples == [4, 4, 4, 4, 4]
    assert recipe.shares == [0.5, 0.5, 0.5, 0.5, 1.0]


def test_a_loss_that_a_recipe_makes_infinite_is_a_divergence():
    result = train(toy_model(), toy_examples(), toy_examples(5), SETTINGS, recipes=[Scaled(float("inf"))])
    assert (result.status, result.reason) == ("diverged", "epoch 0: step 0: the training loss is inf")


@dataclass
class Picky(Nothing):
    """Stands first, and alone."""

    seen: list[tuple[list[str], list[str]]] = field(default_factory=list)

    def check_place(self, before: Mapping[str, Recipe], behind: Mapping[str, Recipe]) -> None:
        self.seen.append((list(before), list(behind)))
        if before:
            raise ValueError(f"{next(iter(before))} before it is one too many")


def test_a_recipe_refuses_its_place_when_recipes_are_composed():
    first = Picky()
    compose({"a": first, "b": Nothing(), "c": Nothing()})
    assert first.seen == [([], ["b", "c"])]
    with pytest.raises(ValueError, match="^picky: nothing before it is one too many$"):
        compose([Nothing(), Picky()])


@dataclass
class Phases(Nothing):
    phases: Sequence[Stage] = ()

    def stages(self) -> Sequence[Stage]:
        return self.phases


def stage(name: str, first: int, steps: int) -> Stage:
    return Stage(name=name, first_step=first, steps=steps)


def test_stages_of_several_recipes_are_laid_over_one_another():
    one = Phases([stage("a", 0, 4), stage("b", 4, 6)])
    two = Phases([stage("x", 0, 7), stage("y", 7, 3)])
    assert compose([one]).stages() == list(one.phases)
    assert compose([one, Nothing(), two]).stages() == [
        stage("a, x", 0, 4),
        stage("b, x", 4, 3),
        stage("b, y", 7, 3),
    ]
    assert compose([Nothing(), Phases()]).stages() == []
    assert [s.middle_step for s in one.phases] == [2, 7]


def test_a_traced_step_is_the_one_asked_for():
    @dataclass
    class Numbers(Nothing):
        seen: list[int] = field(default_factory=list)

        def before_step(self, step: Step) -> None:
            self.seen.append(step.index)

        def __deepcopy__(self, memo: object) -> "Numbers":
            return self

    model, batch, recipe = toy_model(), toy_examples(4), Numbers()
    optimizer = build_optimizer(model, SETTINGS)
    trace_training_step(model, batch.inputs, batch.targets, optimizer, recipes=[recipe], index=7)
    assert recipe.seen == [7, 7]


def test_a_composition_has_what_its_recipes_have():
    composed = compose([Picky(), Offset(), Scaled(2.0), Phases([stage("a", 0, 1)])])
    for protocol in (Preparing, Undecayed, LossChanging, Staged, Measured, Stateful):
        assert isinstance(composed, protocol)
    assert isinstance(Picky(), Placed)
    assert not isinstance(Nothing(), Preparing | Undecayed | LossChanging | Staged | Placed)
