import numpy as np
import torch

from lowbit_sim.study.data.digits import load_digits, stratified_test_mask


def test_all_images_are_there_and_each_class_has_its_share():
    data = load_digits()
    assert len(data.train) + len(data.test) == 1797
    assert data.train.inputs.shape == (1442, 1, 8, 8)
    both = torch.cat([data.train.targets, data.test.targets])
    for label in range(10):
        assert (data.test.targets == label).sum() == (both == label).sum() // 5


def test_the_split_is_always_the_same():
    first, second = load_digits(), load_digits()
    assert torch.equal(first.train.inputs, second.train.inputs)
    assert torch.equal(first.test.targets, second.test.targets)


def test_the_mask_takes_every_fifth_of_each_class():
    labels = np.array([0] * 6 + [1] * 11)
    assert np.flatnonzero(stratified_test_mask(labels)).tolist() == [4, 10, 15]


def test_limits_keep_the_first_images():
    whole, part = load_digits(), load_digits(limit=40, test_limit=7)
    assert torch.equal(part.train.targets, whole.train.targets[:40])
    assert torch.equal(part.test.targets, whole.test.targets[:7])
