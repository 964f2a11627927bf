import copy
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lowbit_sim.nn.dorefa_grid import Precision
from lowbit_sim.nn.precision_switch import switches
from lowbit_sim.training.checkpoint import Checkpoint
from lowbit_sim.training.gradient_clipping import ClipGradientNorm
from lowbit_sim.training.recipe import Measured, Placed, Preparing, Staged, Stateful, Step
from lowbit_sim.training.sat import SAT
from lowbit_sim.training.settings import learning_rate
from lowbit_sim.training.staged_precision import PrecisionStage, StagedPrecision, in_steps
from tests.training.grid_nets import SETTINGS, STEPS, emulated_model, grid_model, run, same_weights
from tests.training.toys import parameter_bits

FULL, W2A2 = Precision(), Precision(weight_bits=2, activation_bits=2)
W2A32 = Precision(weight_bits=2)


def staged(*stages: tuple[Precision, int], **options) -> StagedPrecision:
    return StagedPrecision([PrecisionStage(precision=p, steps=n) for p, n in stages], **options)


class Seen:
    """Notes the learning rate and the layers' precisions of every step, and copies of the model."""

    def __init__(self, copies: tuple[int, ...] = ()) -> None:
        self.rates: list[float] = []
        self.precisions: list[str] = []
        self.copies, self.models = copies, {}

    def before_step(self, step: Step) -> None:
        self.rates.append(step.optimizer.param_groups[0]["lr"])
        [precision] = {str(switch.training) for switch in switches(step.model).values()}
        self.precisions.append(precision)
        if step.index in self.copies:
            self.models[step.index] = copy.deepcopy(step.model)

    def on_gradients(self, step: Step) -> None: ...

    def after_step(self, step: Step) -> None: ...


def test_each_step_is_in_its_stages_precision():
    seen = Seen()
    run([staged((FULL, 1), (W2A32, 2), (W2A2, 3)), seen])
    assert seen.precisions == ["W32A32", *["W2A32"] * 2, *["W2A2"] * 3]


def test_a_switch_changes_no_weight():
    """The weights that a stage begins with are those that the one before it ended with."""
    first, _ = run([staged((W2A32, STEPS))], settings=replace(SETTINGS, schedule="constant"))
    whole = Seen(copies=(3,))
    run([staged((W2A32, 3), (W2A2, 3)), whole], settings=replace(SETTINGS, schedule="constant"))
    reference = Seen(copies=(3,))
    run([staged((W2A32, 6)), reference], settings=replace(SETTINGS, schedule="constant"))
    assert same_weights(whole.models[3], reference.models[3])
    assert not same_weights(first, whole.models[3])


def test_stages_of_one_precision_are_one_run_bit_for_bit():
    """From k bits to k bits nothing changes, wherever the boundary is."""
    one, _ = run([staged((W2A2, 6))])
    two, _ = run([staged((W2A2, 2), (W2A2, 4))])
    assert parameter_bits(one) == parameter_bits(two)


@pytest.mark.parametrize("model", [grid_model])
def test_full_precision_throughout_is_plain_training_bit_for_bit(model):
    plain, expected = run([], model())
    full, result = run([staged((FULL, 6))], model())
    assert same_weights(plain, full)
    assert [e.test_loss for e in result.epochs] == [e.test_loss for e in expected.epochs]


def test_more_bits_come_nearer_to_sixteen():
    """The loss before the first update, of all examples in one step."""
    settings = replace(SETTINGS, epochs=1, batch_size=20)

    def first_loss(bits: int) -> float:
        stage = (Precision(weight_bits=bits, activation_bits=bits), 1)
        return run([staged(stage)], settings=settings)[1].epochs[0].train_loss

    off = {bits: abs(first_loss(bits) - first_loss(16)) for bits in (2, 4, 8)}
    assert off[2] > off[8]
    assert off[4] > off[8]
    assert off[8] < 1e-2


def test_evaluations_are_in_the_stage_they_fall_in_and_the_end_is_the_last_one():
    recipe = staged((FULL, 3), (W2A2, 3))
    model, result = run([recipe])
    plain, expected = run([])
    assert result.epochs[0].test_loss == expected.epochs[0].test_loss
    assert {str(switch.evaluation) for switch in switches(model).values()} == {"W2A2"}
    assert result.epochs[1].test_loss != expected.epochs[1].test_loss


def test_a_prepared_model_is_in_the_last_stages_precision():
    model = grid_model()
    staged((FULL, 3), (W2A2, 3)).prepare(model)
    assert {str(s.training) for s in switches(model).values()} == {"W2A2"}


def test_the_learning_rate_starts_anew_in_each_stage_if_it_shall():
    seen = Seen()
    run([staged((FULL, 2), (W2A2, 4), restarts=SETTINGS), seen])
    assert seen.rates == [learning_rate(SETTINGS, t, 2) for t in range(2)] + [
        learning_rate(SETTINGS, t, 4) for t in range(4)
    ]
    whole = Seen()
    run([staged((FULL, 2), (W2A2, 4)), whole])
    assert whole.rates == [learning_rate(SETTINGS, t, 6) for t in range(6)]


def test_the_losses_on_both_sides_of_a_switch_are_measured():
    recipe = staged((FULL, 4), (W2A2, 2))
    _, result = run([recipe])
    first, last = (epoch.measurements for epoch in result.epochs)
    assert first == {"staged_precision.weight_bits": 32, "staged_precision.activation_bits": 32}
    assert last["staged_precision.weight_bits"] == 2
    # The switch is at the second step of the second epoch, whose three losses make its mean.
    before, after = (last[f"staged_precision.loss_{side}_switch"] for side in ("before", "after"))
    third = 20 * result.epochs[1].train_loss - 8 * before - 8 * after
    assert before != after
    assert third > 0


def test_micro_batches_make_the_same_losses():
    settings = replace(SETTINGS, accumulation=2)
    _, result = run([staged((FULL, 3), (W2A2, 3))], settings=settings)
    assert result.epochs[1].measurements["staged_precision.loss_after_switch"] > 0


@pytest.mark.parametrize("make", [grid_model, emulated_model])
@pytest.mark.parametrize("stop_after", [0, 1])
def test_a_run_goes_on_bit_for_bit(make, stop_after, tmp_path):
    settings = replace(SETTINGS, epochs=3)

    def whole(**options):
        recipe = staged((FULL, 2), (W2A32, 3), (W2A2, 4), restarts=settings)
        model, result = run([recipe], make(), settings, **options)
        return parameter_bits(model), result.epochs[-1].measurements, recipe.state_dict()

    def stop(metrics):
        if metrics.epoch == stop_after:
            raise KeyboardInterrupt

    checkpoint = Checkpoint(path=tmp_path / "run")
    with pytest.raises(KeyboardInterrupt):
        whole(checkpoint=checkpoint, on_epoch=stop)
    assert whole(checkpoint=checkpoint) == whole()


def test_shares_become_steps():
    assert in_steps([(FULL, 1), (W2A32, 1), (W2A2, 2)], 100) == (
        PrecisionStage(precision=FULL, steps=25),
        PrecisionStage(precision=W2A32, steps=25),
        PrecisionStage(precision=W2A2, steps=50),
    )
    assert in_steps([(FULL, 0), (W2A2, 1)], 3) == (PrecisionStage(precision=W2A2, steps=3),)
    assert in_steps([(W2A2, 1), (W2A2, 2)], 9) == (PrecisionStage(precision=W2A2, steps=9),)


@given(st.lists(st.floats(0.01, 1), min_size=1, max_size=6), st.integers(1000, 5000))
def test_stages_share_all_steps_of_a_run(shares, steps):
    bits = (16, 15, 14, 13, 12, 11)
    stages = in_steps([(Precision(weight_bits=b), s) for b, s in zip(bits, shares, strict=False)], steps)
    assert sum(stage.steps for stage in stages) == steps
    recipe = StagedPrecision(stages)
    ends = [stage.first_step + stage.steps for stage in recipe.stages()]
    assert [0, *ends[:-1]] == [stage.first_step for stage in recipe.stages()]
    assert recipe.stage_at(steps - 1)[1] == recipe.last == recipe.stage_at(steps + 5)[1]


@pytest.mark.parametrize(
    ("refused", "message"),
    [
        (lambda: in_steps([(FULL, 1), (W2A2, 1)], 1), "a run of 1 steps is too short for its 2 stages"),
        (lambda: in_steps([(FULL, -1), (W2A2, 1)], 9), "shares of stages must be at least 0"),
        (lambda: in_steps([(FULL, 0)], 9), "not all 0"),
        (lambda: StagedPrecision([]), "a run has at least one stage, got none"),
        (lambda: staged((FULL, 0)), "a stage has at least one step, got 0 in W32A32"),
        (lambda: staged((W2A2, 1), clip=0.0), "clip, the upper end of the inputs' range, must be positive"),
    ],
    ids=["too short", "negative", "none", "no stages", "empty stage", "clip"],
)
def test_what_can_not_be_is_refused(refused, message):
    with pytest.raises(ValueError, match=message):
        refused()


def test_a_tensor_is_on_one_grid_alone():
    with pytest.raises(ValueError, match="staged_precision: sat puts weights on grids of its own"):
        run([SAT(bits=2), staged((W2A2, 6))])
    with pytest.raises(
        ValueError, match="staged_precision_2: layer '1.2' can't switch its precision: its weight is pre"
    ):
        run([staged((W2A2, 6)), staged((W2A2, 6))])


def test_other_recipes_may_stand_on_either_side():
    clipped, _ = run([ClipGradientNorm(max_norm=0.1), staged((W2A2, 6))])
    other, _ = run([staged((W2A2, 6)), ClipGradientNorm(max_norm=0.1)])
    assert parameter_bits(clipped) == parameter_bits(other)


def test_the_protocols_tell_what_it_does():
    recipe = staged((W2A2, 6))
    for protocol in (Preparing, Staged, Placed, Measured, Stateful):
        assert isinstance(recipe, protocol)
    assert torch.is_grad_enabled()
