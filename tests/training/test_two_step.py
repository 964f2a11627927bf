import pytest
import torch

from lowbit_sim.nn.dorefa_grid import Precision
from lowbit_sim.nn.precision_switch import switches
from lowbit_sim.training.dorefa import dorefa
from lowbit_sim.training.recipe import Step
from lowbit_sim.training.two_step import two_step
from tests.training.grid_nets import STEPS, run
from tests.training.toys import parameter_bits

W2A2 = Precision(weight_bits=2, activation_bits=2)


def plan(recipe) -> list[tuple[str, int]]:
    return [(stage.name, stage.steps) for stage in recipe.stages()]


def test_weights_come_before_inputs():
    assert plan(two_step(W2A2, steps=100)) == [("W2A32", 50), ("W2A2", 50)]
    assert plan(two_step(W2A2, steps=100, pretraining=0.2, weights_share=0.25)) == [
        ("W32A32", 20),
        ("W2A32", 20),
        ("W2A2", 60),
    ]


def test_the_baseline_quantises_both_at_once():
    assert plan(dorefa(W2A2, steps=10)) == [("W2A2", 10)]
    assert plan(dorefa(W2A2, steps=10, pretraining=0.3)) == [("W32A32", 3), ("W2A2", 7)]


def test_two_steps_of_which_the_first_is_left_out_are_the_baseline_bit_for_bit():
    baseline, _ = run([dorefa(W2A2, steps=STEPS, pretraining=0.5)])
    other, _ = run([two_step(W2A2, steps=STEPS, pretraining=0.5, weights_share=0.0)])
    assert parameter_bits(baseline) == parameter_bits(other)


class Inputs:
    """Notes what enters the quantised layers, before and behind their switches."""

    def __init__(self) -> None:
        self.pairs: dict[int, list[tuple[torch.Tensor, torch.Tensor]]] = {}
        self.handles = []

    def before_step(self, step: Step) -> None:
        for path in switches(step.model):
            layer = step.model.get_submodule(path)
            norm_output = step.model.get_submodule(path.rpartition(".")[0])[1]  # type: ignore[index]
            seen: list[torch.Tensor] = []
            pairs = self.pairs.setdefault(step.index, [])
            self.handles += [
                norm_output.register_forward_hook(lambda m, a, y, seen=seen: seen.append(y.detach())),
                layer.register_forward_hook(
                    lambda m, a, y, seen=seen, pairs=pairs: pairs.append((seen[-1], a[0].detach()))
                ),
            ]

    def on_gradients(self, step: Step) -> None: ...

    def after_step(self, step: Step) -> None:
        for handle in self.handles:
            handle.remove()
        self.handles = []


def test_in_the_first_step_inputs_are_bit_for_bit_the_relus_outputs():
    inputs = Inputs()
    run([two_step(W2A2, steps=STEPS), inputs])
    for index, pairs in inputs.pairs.items():
        assert len(pairs) == 2
        for before, behind in pairs:
            if index < STEPS // 2:
                assert torch.equal(before, behind)
            else:
                assert torch.equal((before.clamp(0, 1) * 3).round() / 3, behind)
                assert not torch.equal(before, behind)


@pytest.mark.parametrize(
    ("name", "value"), [("pretraining", 1.0), ("weights_share", -0.1), ("weights_share", 1.0)]
)
def test_a_share_that_leaves_nothing_is_refused(name, value):
    with pytest.raises(
        ValueError, match=f"{name} is a share of the run, at least 0 and below 1, got {value}"
    ):
        two_step(W2A2, steps=10, **{name: value})
