import pytest
import torch

from lowbit_sim.training.examples import Examples
from lowbit_sim.training.gradient_clipping import ClipGradientNorm
from lowbit_sim.training.loop import train
from lowbit_sim.training.recipe import Step
from tests.training.toys import SETTINGS, parameter_bits, toy_examples, toy_model


def step_with_gradient(*values: float) -> Step:
    model = torch.nn.Linear(len(values), 1)
    model.weight.grad = torch.tensor([values])
    return Step(
        index=0,
        epoch=0,
        model=model,
        optimizer=torch.optim.SGD(model.parameters(), lr=0.1),
        batch=Examples(inputs=torch.zeros(1, len(values)), targets=torch.zeros(1, dtype=torch.int64)),
    )


def test_a_long_gradient_is_scaled_to_the_norm():
    step = step_with_gradient(3.0, 4.0)
    ClipGradientNorm(max_norm=2.5).on_gradients(step)
    assert torch.equal(step.model.weight.grad, torch.tensor([[1.5, 2.0]]))


def test_a_short_gradient_keeps_its_bits():
    step = step_with_gradient(0.1, 0.2)
    ClipGradientNorm(max_norm=2.5).on_gradients(step)
    assert torch.equal(step.model.weight.grad, torch.tensor([[0.1, 0.2]]))


def test_the_norm_is_over_all_parameters_together():
    step = step_with_gradient(3.0)
    step.model.bias.grad = torch.tensor([4.0])
    ClipGradientNorm(max_norm=1.0).on_gradients(step)
    assert step.model.weight.grad.item() == pytest.approx(0.6)
    assert step.model.bias.grad.item() == pytest.approx(0.8)


def test_a_model_without_gradients_is_left_alone():
    step = step_with_gradient(3.0)
    step.model.weight.grad = None
    ClipGradientNorm(max_norm=1.0).on_gradients(step)
    assert step.model.weight.grad is None


def test_a_limit_that_is_never_reached_is_plain_training_bit_for_bit():
    plain, clipped = toy_model(), toy_model()
    train(plain, toy_examples(), toy_examples(5), SETTINGS)
    train(clipped, toy_examples(), toy_examples(5), SETTINGS, recipes=[ClipGradientNorm(max_norm=1e6)])
    assert parameter_bits(plain) == parameter_bits(clipped)


def test_a_tight_limit_changes_training():
    plain, clipped = toy_model(), toy_model()
    train(plain, toy_examples(), toy_examples(5), SETTINGS)
    train(clipped, toy_examples(), toy_examples(5), SETTINGS, recipes=[ClipGradientNorm(max_norm=1e-3)])
    assert parameter_bits(plain) != parameter_bits(clipped)


@pytest.mark.parametrize("norm", [0.0, -1.0, float("nan")])
def test_a_norm_that_is_not_positive_is_refused(norm):
    with pytest.raises(ValueError, match="max_norm must be positive"):
        ClipGradientNorm(max_norm=norm)
