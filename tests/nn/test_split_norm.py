import copy

import pytest
import torch
from torch import nn

from lowbit_sim.nn.split_norm import norm_split, run_in_full, split_norms


def net() -> nn.Sequential:
    return nn.Sequential(
        nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2)),
        nn.Sequential(nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2)),
    )


def seen(model: nn.Module, path: str) -> int:
    """How many batches a norm has seen in full precision."""
    return int(model.get_submodule(path).get_buffer("full_num_batches_tracked"))


def batch(mean: float) -> torch.Tensor:
    return torch.randn(8, 1, 3, 3, generator=torch.Generator().manual_seed(0)) + mean


def test_each_precision_has_statistics_and_parameters_of_its_own():
    model = net()
    assert split_norms(model, "0") == 1
    norm = model.get_submodule("0.1")
    own = (norm.weight, norm.get_buffer("running_mean").clone())
    run_in_full(model, "0", True)
    model(batch(5.0))
    assert norm.weight is own[0], "the sets are back in their places after the pass"
    assert torch.equal(norm.get_buffer("running_mean"), own[1])
    assert not torch.equal(norm.get_buffer("full_running_mean"), own[1])
    assert seen(model, "0.1") == 1
    run_in_full(model, "0", False)
    model(batch(5.0))
    assert not torch.equal(norm.get_buffer("running_mean"), own[1])
    assert int(norm.get_buffer("num_batches_tracked")) == 1


def test_gradients_go_to_the_set_that_ran():
    model = net()
    split_norms(model, "0")
    run_in_full(model, "0", True)
    model(batch(0.0)).square().sum().backward()
    norm = model.get_submodule("0.1")
    assert norm.get_parameter("weight").grad is None
    assert norm.get_parameter("full_weight").grad is not None


def test_evaluations_are_on_the_modules_own_set():
    model = net()
    split_norms(model, "0")
    run_in_full(model, "0", True)
    model(batch(5.0))
    plain = net()
    plain.load_state_dict({k: v for k, v in model.state_dict().items() if "full_" not in k})
    assert torch.equal(model.eval()(batch(1.0)), plain.eval()(batch(1.0)))


def test_a_block_is_split_alone_and_once():
    model = net()
    assert split_norms(model, "0") == 1
    assert split_norms(model, "0") == 0
    assert norm_split(model.get_submodule("1.1")) is None
    run_in_full(model, "1", True)
    split = norm_split(model.get_submodule("0.1"))
    assert split is not None
    assert not split.full


def test_the_sets_are_back_after_an_error():
    model = net()
    split_norms(model, "0")
    run_in_full(model, "0", True)
    norm = model.get_submodule("0.1")
    weight = norm.weight
    with pytest.raises(ValueError, match="Expected more than 1 value per channel"):
        norm(torch.ones(1, 2, 1, 1))
    assert norm.weight is weight


def test_a_copy_has_sets_of_its_own():
    model = net()
    split_norms(model, "0")
    twin = copy.deepcopy(model)
    run_in_full(twin, "0", True)
    twin(batch(3.0))
    assert seen(model, "0.1") == 0
    assert seen(twin, "0.1") == 1


def test_norms_without_affine_parameters_are_split():
    model = nn.Sequential(nn.BatchNorm1d(2, affine=False))
    split_norms(model, "0")
    run_in_full(model, "0", True)
    model(torch.randn(4, 2))
    assert seen(model, "0") == 1
    assert model.get_submodule("0").full_weight is None
