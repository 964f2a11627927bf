import math

import pytest
import torch

import lowbit_sim as lb
from tests.training.metagrad.nets import batches, net, step_through


@pytest.mark.parametrize(("schedule", "rates"), [("base", [1e-3, 1e-3, 5e-4]), ("constant", [1e-3] * 3)])
def test_the_schedule(schedule, rates):
    """The model's learning rate warms up and falls again; phi's follows from its largest so far."""
    model = net()
    recipe = lb.MetaGrad(lb.FCGrad(), phi=lb.PhiTraining(schedule=schedule))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for index, (rate, expected) in enumerate(zip((0.1, 0.2, 0.1), rates, strict=True)):
        optimizer.param_groups[0]["lr"] = rate
        step_through(model, optimizer, batches("dense", 2), recipe, start=2 * index)
        assert recipe._learner._optimizer.param_groups[0]["lr"] == pytest.approx(expected)


def test_the_rate_of_a_model_that_has_not_begun():
    assert lb.PhiTraining().rate(0.0, 0.0) == 1e-3


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_phi_in_low_precision(optimizer):
    """The hypernetwork's own parameters are kept in bfloat16."""
    phi = lb.PhiTraining(learning_rate=0.1, optimizer=optimizer, update=lb.UpdateSpec.uniform(lb.BF16))
    model, recipe = net(), lb.MetaGrad(lb.MomentFC(4), phi=phi)
    step_through(model, torch.optim.SGD(model.parameters(), lr=0.1), batches("dense", 4), recipe)
    for p in recipe.hypernetwork.parameters():
        assert torch.equal(p.to(torch.bfloat16).float(), p)
    assert any(bool(p.detach().any()) for p in recipe.hypernetwork.last.parameters())


def test_what_is_wrong_is_said():
    with pytest.raises(ValueError, match="learning_rate must be at least 0 and finite, got nan"):
        lb.PhiTraining(learning_rate=math.nan)
    with pytest.raises(ValueError, match="unknown optimizer of the hypernetwork 'adma'.*did you mean 'adam'"):
        lb.PhiTraining(optimizer="adma")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="unknown schedule of the hypernetwork 'cosine'"):
        lb.PhiTraining(schedule="cosine")  # type: ignore[arg-type]
