import pytest
import torch
import torch.nn.functional as F
from torch import nn

import lowbit_sim as lb
from lowbit_sim.quant.codebook import grid_codebook
from lowbit_sim.training.gradient_samples import collected_gradients
from lowbit_sim.training.loop import train
from tests.training.toys import SETTINGS, parameter_bits, toy_examples, toy_model


def test_the_samples_are_the_gradients_over_their_largest():
    """Of the last layer of a cross-entropy they are (softmax - one-hot) / batch."""
    model, examples = toy_model().train(), toy_examples(6)
    with collected_gradients(model) as found:
        logits = model(examples.inputs)
        F.cross_entropy(logits, examples.targets).backward()
    expected = (logits.softmax(1) - F.one_hot(examples.targets, 3)).flatten() / 6
    largest = expected[expected.abs().argmax()].reshape(1)
    [sample] = found.by_layer["5"]
    assert torch.allclose(sample, torch.cat([expected, largest]).detach() / largest.abs(), atol=1e-6)
    assert list(found.by_layer) == ["0", "5"]
    assert found.values().numel() == sum(len(s) for samples in found.by_layer.values() for s in samples)


def test_converted_models_and_activations_in_place_are_watched_and_nothing_changes():
    int8 = lb.OpSpec.uniform(lb.INT8)
    plain, watched = (lb.convert(toy_model(), [lb.Rule("*", int8)]) for _ in range(2))
    train(plain, toy_examples(), toy_examples(5), SETTINGS)
    with collected_gradients(watched, per_tensor=7) as found:
        train(watched, toy_examples(), toy_examples(5), SETTINGS)
    assert parameter_bits(plain) == parameter_bits(watched)
    steps = 2 * 3  # epochs, and batches of 8 of 20 examples
    assert [len(samples) for samples in found.by_layer.values()] == [steps, steps]
    samples = [sample for samples in found.by_layer.values() for sample in samples]
    assert all(len(sample) <= 8 and sample.abs().max() == 1 for sample in samples)
    assert len(grid_codebook(found.values(), 15).values) == 15


def test_every_so_many_passes_and_none_after_the_block():
    model, examples = nn.Linear(2, 2), torch.ones(1, 2)
    with collected_gradients(model, every=3) as found:
        for _ in range(7):
            model(examples).sum().backward()
        with torch.no_grad():
            model(examples)
    model(examples).sum().backward()
    assert len(found.by_layer[""]) == 3


def test_gradients_that_are_all_zero_are_left_out():
    model = nn.Linear(2, 2)
    with collected_gradients(model) as found:
        (0 * model(torch.ones(1, 2))).sum().backward()
    with pytest.raises(ValueError, match="no gradients were collected"):
        found.values()


def test_what_can_not_be_is_refused():
    with (
        pytest.raises(ValueError, match="every must be at least 1, got 0"),
        collected_gradients(nn.Linear(1, 1), every=0),
    ):
        pass
    with pytest.raises(ValueError, match="no linear or convolutional layer"), collected_gradients(nn.ReLU()):
        pass
