from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import lowbit_sim as lb
from lowbit_sim.quant.scaling import EmaScale
from lowbit_sim.training.checkpoint import Checkpoint, CheckpointError
from lowbit_sim.training.loop import train
from lowbit_sim.training.metrics import EpochMetrics, TrainingResult
from lowbit_sim.training.recipe import Recipe, Step
from lowbit_sim.training.settings import TrainingSettings
from lowbit_sim.training.update_spec import UpdateSpec
from tests.training.toys import parameter_bits, toy_examples, toy_model

SR = lb.Rounding("stochastic", random_bits=8)
STOCHASTIC = lb.OpSpec.uniform(lb.INT4, gradient_rounding=SR)
RUNNING = lb.OpSpec.uniform(lb.INT8, scale=EmaScale(momentum=0.9))
SETTINGS = TrainingSettings(epochs=4, batch_size=8, learning_rate=0.1, seed=3)
LOW_PRECISION = replace(SETTINGS, update=UpdateSpec.uniform(lb.parse_format("bf16"), SR), accumulation=2)


class Stopped(Exception):
    """The end of a run in the middle."""


@dataclass
class Heavy:
    """Momentum of its own, keyed by parameter name, and a step size that moves: what a checkpoint must not lose."""

    kept: dict[str, torch.Tensor] = field(default_factory=dict)
    size: float = 1.0

    def before_step(self, step: Step) -> None: ...

    def on_gradients(self, step: Step) -> None:
        self.size *= 0.97
        for name, p in step.model.named_parameters():
            assert p.grad is not None
            self.kept[name] = 0.5 * self.kept.get(name, torch.zeros_like(p.grad)) + p.grad
            p.grad.copy_(self.size * self.kept[name])

    def after_step(self, step: Step) -> None: ...

    def state_dict(self) -> dict[str, Any]:
        return {"kept": dict(self.kept), "size": self.size}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.kept, self.size = dict(state["kept"]), state["size"]

    def measurements(self) -> dict[str, float]:
        return {"size": self.size}


def dropout_model() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.Dropout(0.5), nn.ReLU(), nn.Linear(8, 3))


@dataclass(frozen=True)
class Case:
    """What is trained: every kind of state that a run carries stands in one of them."""

    spec: lb.OpSpec | None = None
    settings: TrainingSettings = SETTINGS
    recipe: Callable[[], list[Recipe]] = list
    network: Callable[[], nn.Module] = toy_model

    def model(self) -> nn.Module:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return lb.convert(self.network(), [lb.Rule("*", self.spec)], seed=5)

    def train(self, model: nn.Module, **arguments: Any) -> TrainingResult:
        examples = toy_examples(20), toy_examples(5, seed=1)
        return train(model, *examples, self.settings, recipes=self.recipe(), **arguments)


CASES = {
    "native": Case(),
    "dropout": Case(network=dropout_model),
    "stochastic": Case(spec=STOCHASTIC),
    "running_scales": Case(spec=RUNNING),
    "low_precision_update_in_micro_batches": Case(spec=STOCHASTIC, settings=LOW_PRECISION),
    "recipe_with_state": Case(spec=STOCHASTIC, recipe=lambda: [Heavy()]),
}


def without_times(epochs: tuple[EpochMetrics, ...]) -> list[EpochMetrics]:
    return [replace(epoch, seconds=0.0) for epoch in epochs]


def stopped_after(epochs: int, case: Case, checkpoint: Checkpoint) -> None:
    """Train and stop in the epoch after the given number of them."""

    def stop(metrics: EpochMetrics) -> None:
        if metrics.epoch == epochs:
            raise Stopped

    with pytest.raises(Stopped):
        case.train(case.model(), on_epoch=stop, checkpoint=checkpoint)


@pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))
@pytest.mark.parametrize("epochs", [0, 1, 3])
def test_a_run_goes_on_bit_for_bit(tmp_path, case, epochs):
    whole, rest = case.model(), case.model()
    expected = case.train(whole)
    resumed: list[int] = []
    checkpoint = Checkpoint(path=tmp_path / "run", on_resume=resumed.append)
    stopped_after(epochs, case, checkpoint)
    told: list[EpochMetrics] = []
    result = case.train(rest, on_epoch=told.append, checkpoint=checkpoint)
    assert resumed == [0, epochs]
    assert parameter_bits(rest) == parameter_bits(whole)
    assert without_times(result.epochs) == without_times(expected.epochs)
    assert [metrics.epoch for metrics in told] == list(range(epochs, 4))
    assert len(result.step_seconds) == len(expected.step_seconds)


def test_a_checkpoint_changes_no_bit_of_the_run_that_writes_it(tmp_path):
    case = CASES["recipe_with_state"]
    plain, watched = case.model(), case.model()
    case.train(plain)
    case.train(watched, checkpoint=Checkpoint(path=tmp_path / "run"))
    assert parameter_bits(plain) == parameter_bits(watched)


def test_each_kind_of_state_matters(tmp_path):
    """A resumed run without one of them would part: the test above can fail."""
    case = CASES["recipe_with_state"]
    stopped_after(2, case, Checkpoint(path=tmp_path / "run"))
    forgetful = replace(case, recipe=lambda: [Forgetful()])
    whole, rest = case.model(), case.model()
    case.train(whole)
    forgetful.train(rest, checkpoint=Checkpoint(path=tmp_path / "run"))
    assert parameter_bits(rest) != parameter_bits(whole)


class Forgetful(Heavy):
    def load_state_dict(self, state: dict[str, Any]) -> None: ...


Forgetful.__name__ = "Heavy"


def test_a_run_that_ended_is_not_trained_again(tmp_path):
    case, checkpoint = CASES["native"], Checkpoint(path=tmp_path / "run")
    first, again = case.model(), case.model()
    expected = case.train(first, checkpoint=checkpoint)
    result = case.train(again, checkpoint=checkpoint, on_epoch=lambda metrics: pytest.fail("trained again"))
    assert result == expected
    assert parameter_bits(first) == parameter_bits(again)


@pytest.mark.parametrize(
    ("damage", "left"),
    [(lambda path: path.write_bytes(path.read_bytes()[:-10]), 1), (Path.unlink, 1), (lambda path: None, 2)],
    ids=["cut_off", "missing", "whole"],
)
def test_the_previous_checkpoint_is_used_where_the_newest_is_not_whole(tmp_path, damage, left):
    case, refused, resumed = CASES["stochastic"], [], []
    stopped_after(2, case, Checkpoint(path=tmp_path / "run"))
    damage(tmp_path / "run")
    checkpoint = Checkpoint(path=tmp_path / "run", on_resume=resumed.append, on_refused=refused.append)
    whole, rest = case.model(), case.model()
    case.train(whole)
    case.train(rest, checkpoint=checkpoint)
    assert resumed == [left]
    assert parameter_bits(rest) == parameter_bits(whole)
    assert all("is cut off or damaged" in text for text in refused)
    assert len(refused) == (1 if damage not in (Path.unlink,) and left == 1 else 0)


def test_without_a_checkpoint_that_is_whole_the_run_starts_anew(tmp_path):
    case, resumed = CASES["native"], []
    stopped_after(2, case, Checkpoint(path=tmp_path / "run"))
    for path in tmp_path.iterdir():
        path.write_bytes(b"")
    case.train(case.model(), checkpoint=Checkpoint(path=tmp_path / "run", on_resume=resumed.append))
    assert resumed == [0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"settings": replace(SETTINGS, learning_rate=0.2)},
            "its settings is .*learning_rate=0.1.*this run's",
        ),
        ({"settings": replace(SETTINGS, epochs=5)}, "its settings"),
        ({"recipe": lambda: [Heavy()]}, "its recipes is none, this run's heavy"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(tmp_path, changes, message):
    case = CASES["native"]
    stopped_after(2, case, Checkpoint(path=tmp_path / "run"))
    other = replace(case, **changes)
    with pytest.raises(CheckpointError, match=message):
        other.train(other.model(), checkpoint=Checkpoint(path=tmp_path / "run"))


def test_a_checkpoint_of_another_study_arm_or_torch_is_refused(tmp_path, monkeypatch):
    case = CASES["native"]
    stopped_after(2, case, Checkpoint(path=tmp_path / "run", identity={"study": "a", "arm": "INT4"}))
    for study, arm, message in (
        ("b", "INT4", "its study is a, this run's b"),
        ("a", "INT8", "its arm is INT4"),
    ):
        checkpoint = Checkpoint(path=tmp_path / "run", identity={"study": study, "arm": arm})
        with pytest.raises(CheckpointError, match=f"belongs to another run: {message}"):
            case.train(case.model(), checkpoint=checkpoint)
    monkeypatch.setattr(torch, "__version__", "9.9.9")
    with pytest.raises(CheckpointError, match="its torch is .*, this run's 9.9.9"):
        case.train(
            case.model(), checkpoint=Checkpoint(path=tmp_path / "run", identity={"study": "a", "arm": "INT4"})
        )


def test_files_are_removed(tmp_path):
    checkpoint = Checkpoint(path=tmp_path / "run")
    stopped_after(2, CASES["native"], checkpoint)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run", "run.previous"]
    checkpoint.remove()
    assert list(tmp_path.iterdir()) == []
