import pytest
import torch

from lowbit_sim.training.examples import Examples, in_order, shuffled


def examples(count: int) -> Examples:
    return Examples(inputs=torch.arange(count, dtype=torch.float32)[:, None], targets=torch.arange(count))


def test_in_order_covers_each_example_once_and_keeps_the_remainder():
    batches = list(in_order(examples(7), 3))
    assert [len(b) for b in batches] == [3, 3, 1]
    assert torch.cat([b.targets for b in batches]).tolist() == list(range(7))


def test_shuffled_covers_each_example_once_with_inputs_and_targets_together():
    batches = list(shuffled(examples(50), 8, torch.Generator().manual_seed(0)))
    targets = torch.cat([b.targets for b in batches])
    assert sorted(targets.tolist()) == list(range(50))
    assert targets.tolist() != list(range(50))
    assert torch.cat([b.inputs for b in batches])[:, 0].tolist() == targets.tolist()


def test_the_order_comes_from_the_generator_alone():
    def order(global_seed: int) -> list[int]:
        torch.manual_seed(global_seed)
        batches = shuffled(examples(20), 4, torch.Generator().manual_seed(5))
        return torch.cat([b.targets for b in batches]).tolist()

    state = torch.get_rng_state()
    try:
        assert order(1) == order(2)
    finally:
        torch.set_rng_state(state)


def test_first_keeps_the_first():
    assert examples(5).first(2).targets.tolist() == [0, 1]
    assert len(examples(5).first(9)) == 5


def test_inputs_without_targets_are_refused():
    with pytest.raises(ValueError, match=r"inputs \[3, 1\] and targets \[2\]"):
        Examples(inputs=torch.zeros(3, 1), targets=torch.zeros(2, dtype=torch.int64))


def test_no_examples_are_refused():
    with pytest.raises(ValueError, match=r"no examples: inputs have shape \[0, 4\]"):
        Examples(inputs=torch.zeros(0, 4), targets=torch.zeros(0, dtype=torch.int64))
