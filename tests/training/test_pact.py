"""PACT as a recipe: where the clips are, and that no weight decay reaches their levels."""

import pytest
import torch
from torch import nn

from lowbit_sim.nn.learned_clip import attached_clip, learned_clips
from lowbit_sim.training.pact import PACT
from lowbit_sim.training.sat import SAT
from lowbit_sim.training.settings import TrainingSettings, build_optimizer
from lowbit_sim.training.weighted_layers import weighted_layers
from tests.training.levels import prepared, trained
from tests.training.toys import toy_model


def test_pact_clips_every_input_but_the_models_own():
    model = prepared("small_cnn", PACT(bits=3, gradient="pact", two_sided=["classifier"]), width=4)
    clips = {path: attached_clip(layer) for path, layer in weighted_layers(model).items()}
    assert [path for path, clip in clips.items() if clip is None] == ["features.0.conv"]
    found = [clip for clip in clips.values() if clip is not None]
    assert [float(clip.alpha.detach()) for clip in found] == [8, 8, 10]
    assert [clip.grid.two_sided for clip in found] == [False, False, True]
    assert {(clip.grid.bits, clip.gradient) for clip in found} == {(3, "pact")}
    only = prepared("small_cnn", PACT(layers=["classifier"], linear_alpha=3.0), width=4)
    assert list(learned_clips(only)) == ["classifier.input_clip"]


def test_levels_take_no_weight_decay_and_with_dense_neither_do_norms_biases_and_depthwise_convolutions():
    recipe = PACT()
    model = prepared("mobilenet_v2_cifar", recipe, width=8, size=8)
    alphas = {id(clip.alpha) for clip in learned_clips(model).values()}
    assert {id(p) for p in recipe.without_weight_decay(model)} == alphas
    dense = SAT(weight_decay="dense")
    dense.prepare(model)
    settings = TrainingSettings(epochs=1, batch_size=4, learning_rate=0.1, weight_decay=0.01)
    spared = [*recipe.without_weight_decay(model), *dense.without_weight_decay(model)]
    decayed, kept = build_optimizer(model, settings, spared).param_groups
    assert kept["weight_decay"] == 0
    depthwise = [m for m in model.modules() if isinstance(m, nn.Conv2d) and m.groups > 1]
    layers = list(weighted_layers(model).values())
    assert len(depthwise) == 17
    assert len(decayed["params"]) == len(layers) - 17
    assert {p.ndim for p in decayed["params"]} == {2, 4}
    assert not SAT().without_weight_decay(model)


def test_weight_decay_leaves_levels_alone():
    """Plain PACT with levels beyond all inputs has no gradient for them: only a decay could move them."""
    model = toy_model()
    trained(model, PACT(gradient="pact", linear_alpha=1e4))
    [clip] = learned_clips(model).values()
    assert float(clip.alpha.detach()) == 1e4


def test_the_signed_inputs_of_mobilenet_v2_are_named_or_refused():
    x = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    signed = ["features.*.layers.0.conv", "features.19.conv"]
    model = prepared("mobilenet_v2_cifar", PACT(two_sided=signed), width=8)
    assert model(x).shape == (2, 10)
    with pytest.raises(ValueError, match=r"layer 'features.3.layers.0.conv' has negative inputs"):
        prepared("mobilenet_v2_cifar", PACT(), width=8)(x)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: PACT(bits=17), ValueError, "1 to 16 bits"),
        (lambda: PACT(gradient="ste"), ValueError, "unknown gradient of alpha"),
        (lambda: PACT(conv_alpha=-1.0), ValueError, "positive finite number, got -1.0"),
        (lambda: PACT(layers=()), ValueError, "layers is empty"),
        (lambda: PACT(two_sided="conv"), TypeError, "list of patterns"),
        (lambda: prepared("mlp", PACT(two_sided=["9"])), ValueError, "unknown layer '9'"),
        (lambda: prepared("mlp", PACT(), PACT()), ValueError, "input of layer '3' is clipped already"),
    ],
)
def test_what_can_not_be_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()
