import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from lowbit_sim.nn.dorefa_grid import Precision
from lowbit_sim.nn.precision_switch import add_switches, set_precision, switches
from lowbit_sim.nn.split_norm import norm_split
from lowbit_sim.numerics.random import Stream, draw
from lowbit_sim.training.checkpoint import Checkpoint
from lowbit_sim.training.dorefa import dorefa
from lowbit_sim.training.pact import PACT
from lowbit_sim.training.recipe import Step
from lowbit_sim.training.stochastic_precision import BLOCK_STREAM, StochasticPrecision, probability
from tests.training.grid_nets import SETTINGS, STEPS, emulated_model, grid_model, run, same_weights
from tests.training.toys import parameter_bits

W2A2 = Precision(weight_bits=2, activation_bits=2)


def recipe(**options) -> StochasticPrecision:
    return StochasticPrecision(W2A2, **{"steps": STEPS, **options})


def test_with_p_1_it_is_quantised_training_bit_for_bit():
    quantised, expected = run([dorefa(W2A2, steps=STEPS)])
    for options in ({"initial": 1.0}, {"rise": 0.0}):
        model, result = run([recipe(**options)])
        assert parameter_bits(model) == parameter_bits(quantised)
        assert result.epochs[-1].test_loss == expected.epochs[-1].test_loss


def test_with_p_0_it_trains_the_net_in_full_precision_bit_for_bit():
    """And evaluates the quantised one, which is what would be deployed."""
    plain, expected = run([])
    model, result = run([recipe(pretraining=0.99, rise=0.0, steps=STEPS * 1000)])
    assert same_weights(plain, model)
    assert [e.train_loss for e in result.epochs] == [e.train_loss for e in expected.epochs]
    assert result.epochs[-1].test_loss != expected.epochs[-1].test_loss


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_blocks_are_quantised_as_often_as_p_says(p):
    steps, blocks = 4000, 3
    subject = StochasticPrecision(W2A2, steps=1 << 30, initial=p, rise=1.0, seed=5)
    drawn = [subject.is_quantized(step, block) for step in range(steps) for block in range(blocks)]
    deviation = math.sqrt(p * (1 - p) / len(drawn))
    assert abs(sum(drawn) / len(drawn) - p) < 4 * deviation


def test_blocks_and_steps_are_drawn_apart():
    subject = StochasticPrecision(W2A2, steps=1 << 30, initial=0.5, rise=1.0)
    columns = torch.tensor([[subject.is_quantized(s, b) for b in range(4)] for s in range(2000)]).double()
    correlation = torch.corrcoef(columns.T) - torch.eye(4)
    assert float(correlation.abs().max()) < 4 / math.sqrt(2000)
    assert not torch.equal(columns[:-1], columns[1:])
    other = StochasticPrecision(W2A2, steps=1 << 30, initial=0.5, rise=1.0, seed=1)
    assert any(subject.is_quantized(s, 0) != other.is_quantized(s, 0) for s in range(50))


def test_a_draw_is_the_projects_random_bits():
    subject = recipe(initial=0.5, rise=1.0, seed=7, steps=1 << 20)
    for step in range(20):
        bits = draw(Stream(seed=7, step=step, site=2, operand=BLOCK_STREAM), 0, 32)
        assert subject.is_quantized(step, 2) == (bits < subject.probability_at(step) * 2**32)


def test_p_rises_linearly_or_in_steps_and_ends_at_1():
    linear = StochasticPrecision(W2A2, steps=100, initial=0.5, rise=0.5, pretraining=0.2)
    expected = [0.0] * 20 + [0.5 + 0.5 * i / 50 for i in range(50)] + [1.0] * 30
    assert [linear.probability_at(t) for t in range(100)] == pytest.approx(expected)
    stepwise = [probability(share, 0.5, "stepwise") for share in (0, 0.24, 0.25, 0.5, 0.75, 0.99, 1)]
    assert stepwise == [0.5, 0.5, 0.75, 0.875, 0.9375, 0.9375, 1.0]
    assert StochasticPrecision(W2A2, steps=100).probability_at(99) == 1.0


class Noted:
    """The precisions of the layers in every step."""

    def __init__(self) -> None:
        self.steps: list[dict[str, str]] = []

    def before_step(self, step: Step) -> None:
        self.steps.append({path: str(s.training) for path, s in switches(step.model).items()})
        assert {str(s.evaluation) for s in switches(step.model).values()} == {"W2A2"}

    def on_gradients(self, step: Step) -> None: ...

    def after_step(self, step: Step) -> None: ...


def test_a_blocks_layers_run_in_one_precision():
    noted = Noted()
    subject = recipe(rise=1.0, blocks=["1", "2"], layers=["1.*", "2.*"])
    run([subject, noted])
    for index, precisions in enumerate(noted.steps):
        for block, path in enumerate(("1.2", "2.2")):
            assert precisions[path] == ("W2A2" if subject.is_quantized(index, block) else "W32A32")
    assert len({tuple(step.values()) for step in noted.steps}) > 1


def test_all_layers_in_one_block_run_alike():
    class Whole(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.features = grid_model()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.features(x)

    noted = Noted()
    run([recipe(blocks=["features"], rise=1.0), noted], Whole())
    assert all(len(set(step.values())) == 1 for step in noted.steps)


def test_the_gradient_goes_through_the_branch_that_ran():
    model = grid_model()
    add_switches(model)
    x = torch.randn(8, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    gradients = {}
    for name, precision in (("full", Precision()), ("low", W2A2)):
        model.zero_grad(set_to_none=True)
        set_precision(model, precision, layers=["1.2"])
        model(x).square().sum().backward()
        gradients[name] = model.get_parameter("1.2.parametrizations.weight.original").grad
    plain = grid_model()
    plain(x).square().sum().backward()
    assert torch.equal(gradients["full"], plain.get_parameter("1.2.weight").grad)  # type: ignore[arg-type]
    assert not torch.equal(gradients["low"], gradients["full"])


def test_the_branches_have_other_statistics_and_a_split_norm_keeps_them_apart():
    """The norm behind block 1 sees weights up to 1 where that ran on its grids, and W itself where it did not."""
    settings = replace(SETTINGS, epochs=8)

    def norm_behind(batch_norm: str) -> nn.Module:
        options = {"rise": 1.0, "batch_norm": batch_norm, "blocks": ["1", "2"], "layers": ["1.*", "2.*"]}
        model, _ = run([recipe(steps=settings.steps(20), **options)], settings=settings)
        return model.get_submodule("2.0")

    shared, split = norm_behind("shared"), norm_behind("split")
    assert not hasattr(shared, "full_running_var")
    # Blocks are drawn apart, so that either set of block 2 has seen block 1 in both precisions, but not as often.
    low, full = split.running_var, split.full_running_var
    assert not torch.allclose(low, full, rtol=0.2)  # type: ignore[arg-type]
    assert not torch.allclose(shared.running_var, low, rtol=0.01)  # type: ignore[arg-type]


def test_between_steps_split_norms_are_on_their_own_sets():
    """What recalibrates statistics in between finds those of the grids, whatever the last step drew."""
    model, _ = run([recipe(initial=0.0, rise=1.0, steps=STEPS * 1000, batch_norm="split", blocks=["1", "2"])])
    splits = [norm_split(module) for module in model.modules()]
    assert [split.full for split in splits if split is not None] == [False, False]


def test_it_measures_p_and_what_was_drawn():
    subject = recipe(rise=1.0)
    _, result = run([subject])
    values = [epoch.measurements for epoch in result.epochs]
    assert values[-1]["stochastic_precision.probability"] == subject.probability_at(STEPS - 1)
    for epoch, value in enumerate(values):
        drawn = [subject.is_quantized(3 * epoch + s, b) for s in range(3) for b in range(2)]
        assert value["stochastic_precision.quantized_share"] == sum(drawn) / 6


@pytest.mark.parametrize("make", [grid_model, emulated_model])
@pytest.mark.parametrize("batch_norm", ["shared", "split"])
def test_a_run_goes_on_bit_for_bit(make, batch_norm, tmp_path):
    settings = replace(SETTINGS, epochs=3)

    def whole(**options):
        subject = recipe(steps=9, batch_norm=batch_norm, seed=2)
        model, result = run([subject], make(), settings, **options)
        return parameter_bits(model), result.epochs[-1].measurements

    def stop(metrics):
        if metrics.epoch == 0:
            raise KeyboardInterrupt

    checkpoint = Checkpoint(path=tmp_path / "run")
    with pytest.raises(KeyboardInterrupt):
        whole(checkpoint=checkpoint, on_epoch=stop)
    assert whole(checkpoint=checkpoint) == whole()


def test_the_stages_that_are_priced_fill_the_run():
    for options in ({}, {"pretraining": 0.25}, {"rise": 1.0}, {"rise": 0.0}, {"steps": 5}):
        subject = recipe(**{"steps": 200, **options})
        stages = subject.stages()
        assert stages[0].first_step == 0
        assert sum(stage.steps for stage in stages) == subject.steps
        assert all(stage.steps >= 1 for stage in stages)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"initial": 1.5}, "initial must be from 0 to 1, got 1.5"),
        ({"rise": -0.1}, "rise must be from 0 to 1, got -0.1"),
        ({"schedule": "cosine"}, "unknown schedule of the rise 'cosine': known are linear, stepwise"),
        ({"batch_norm": "both"}, "unknown batch_norm 'both': known are shared, split"),
        (
            {"pretraining": 0.5, "rise": 0.75},
            "pretraining 0.5 and rise 0.75 are more than the whole run together",
        ),
        ({"steps": 0}, "a run has at least one step, got 0"),
        ({"seed": -1}, "stream seed must be from 0 to"),
    ],
    ids=["initial", "rise", "schedule", "batch_norm", "shares", "steps", "seed"],
)
def test_what_can_not_be_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        recipe(**options)


def test_blocks_that_do_not_fit_the_layers_are_refused():
    with pytest.raises(
        ValueError, match=r"stochastic_precision: layer '2.2' is in no block: blocks = \['1'\] must name"
    ):
        run([recipe(blocks=["1"])])
    with pytest.raises(ValueError, match=r"layer '1.2' is in the blocks 1, 1.2: blocks = "):
        run([recipe(blocks=["1", "2", "1.2"])])
    plain = nn.Sequential(
        nn.Flatten(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3)
    )
    with pytest.raises(ValueError, match="no batch normalisation to split inside the blocks 3"):
        run([recipe(batch_norm="split")], plain)


def test_a_tensor_is_on_one_grid_alone():
    with pytest.raises(ValueError, match="stochastic_precision: pact puts inputs on grids of its own"):
        run([recipe(), PACT(bits=2)])
