import math

import pytest
import torch
from torch import nn

from lowbit_sim.study.errors import StudyError
from lowbit_sim.study.models import MODELS, build
from lowbit_sim.study.models.resnet import Shortcut
from lowbit_sim.study.price import model_trace


def parameters(model: nn.Module, *kinds: type[nn.Module]) -> int:
    return sum(
        p.numel() for m in model.modules() if isinstance(m, kinds) for p in m.parameters(recurse=False)
    )


def layers(model: nn.Module, *kinds: type[nn.Module]) -> int:
    return sum(isinstance(m, kinds) for m in model.modules())


@pytest.mark.parametrize("name", MODELS)
def test_every_model_gives_a_logit_for_each_class_and_passes_gradients_to_every_parameter(name):
    model = build(name, 3, 7, 32)
    logits = model(torch.randn(2, 3, 32, 32))
    assert logits.shape == (2, 7)
    logits.sum().backward()
    assert all(p.grad is not None for p in model.parameters())


def test_resnet20_is_the_papers():
    """He et al. 2016, table 6: 20 layers, 0.27M parameters.

    By hand: convolutions 9 (3 16 + 6 16 16 + 16 32 + 5 32 32 + 32 64 + 5 64 64) = 267,696;
    batch-norms 2 (7 16 + 6 32 + 6 64) = 1,376; linear 64 10 + 10 = 650. Option A shortcuts have none.
    """
    model = build("resnet20", 3, 10, 32)
    assert layers(model, nn.Conv2d, nn.Linear) == 20
    assert parameters(model, nn.Conv2d) == 267_696
    assert sum(p.numel() for p in model.parameters()) == 267_696 + 1_376 + 650 == 269_722


def test_vgg16_has_the_papers_convolutions():
    """Simonyan and Zisserman 2015, table 1, D: 13 convolutions of 14,714,688 parameters with 4,224 biases."""
    model = build("vgg16", 3, 10, 32)
    assert layers(model, nn.Conv2d) == 13
    assert parameters(model, nn.Conv2d) == 14_714_688 - 4_224
    assert parameters(model, nn.BatchNorm2d) == 2 * 4_224


@pytest.mark.parametrize(
    ("name", "parameters"),
    [  # the figures of torchvision's models of these names
        ("resnet18", 11_689_512),
        ("resnet50", 25_557_032),
        ("vgg16_imagenet", 138_357_544),
        ("mobilenet_v2", 3_504_872),
        # Howard et al. 2017, table 8: 4.2 million. By hand: convolutions 3,185,088; batch-norms 2 10,944; linear
        # 1,025,000.
        ("mobilenet_v1", 4_231_976),
        # ResNet-50's with the norms in front: convolutions 23,454,912; batch-norms 2 22,720; linear 2,049,000.
        ("preresnet50", 25_549_352),
    ],
)
def test_the_models_for_imagenet_are_the_published_ones(name, parameters):
    with torch.device("meta"):
        model = build(name, 3, 1000, 224)
        assert model(torch.empty(2, 3, 224, 224)).shape == (2, 1000)
    assert sum(p.numel() for p in model.parameters()) == parameters


@pytest.mark.parametrize(
    ("name", "macs"),
    # He et al. 2016, table 1 (1.8 and 3.8 x 10^9, the latter with the stride on the 1x1 convolutions: 4.1 with it on
    # the 3x3 ones); Simonyan and Zisserman 2015 (15.5); Sandler et al. 2018, table 4 (0.30); Howard et al. 2017,
    # table 8 (0.569); PreResNet-50's convolutions are ResNet-50's.
    [
        *(("resnet18", 1.8e9), ("resnet50", 4.1e9), ("vgg16_imagenet", 15.5e9), ("mobilenet_v2", 0.30e9)),
        *(("mobilenet_v1", 0.569e9), ("preresnet50", 4.1e9)),
    ],
)
def test_the_models_for_imagenet_multiply_as_often_as_published(name, macs):
    trace = model_trace(name, batch=1 + 1, shape=(3, 224, 224), classes=1000, spec=None)
    assert sum(e.macs for e in trace.gemms if e.role == "output") / 2 == pytest.approx(macs, rel=0.02)


def test_depthwise_convolutions_have_a_group_a_channel():
    with torch.device("meta"):
        model = build("mobilenet_v2", 3, 10, 32, width=16)
    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    assert sum(m.groups == m.in_channels for m in convolutions) == 17
    assert {m.groups for m in convolutions if m.groups != m.in_channels} == {1}


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_mobilenets_for_small_images_have_the_same_weights_and_smaller_strides(version):
    with torch.device("meta"):
        small, large = (
            build(f"mobilenet_{version}{suffix}", 3, 10, 32, width=16) for suffix in ("_cifar", "")
        )
        pixels = {"v1": 2, "v2": 4}[version]
        last = [m for m in small.modules() if isinstance(m, nn.AvgPool2d)]
        assert [m.kernel_size for m in last] == [pixels]
    shapes = [[tuple(p.shape) for p in model.parameters()] for model in (small, large)]
    assert shapes[0] == shapes[1]
    strides = [
        math.prod(m.stride[0] for m in model.modules() if isinstance(m, nn.Conv2d))
        for model in (small, large)
    ]
    assert strides == [32 // pixels, 32]


def test_preresnet20_has_the_convolutions_of_resnet20_and_its_norms_in_front():
    """He et al. 2016 (ECCV): the norms are those of the blocks' inputs, and one more behind the last block."""
    model = build("preresnet20", 3, 10, 32)
    assert layers(model, nn.Conv2d, nn.Linear) == 20
    assert parameters(model, nn.Conv2d) == 267_696
    # 3 (16 + 16) + (16 + 32) + 2 (32 + 32) + (32 + 64) + 2 (64 + 64) + 64 channels
    assert parameters(model, nn.BatchNorm2d) == 2 * 688
    assert parameters(build("preresnet20_imagenet", 3, 10, 224, width=16), nn.Conv2d) == 267_696 + 16 * 3 * (
        49 - 9
    )


@pytest.mark.parametrize("name", ["preresnet20", "preresnet50_cifar"])
def test_a_pre_activation_block_without_its_last_convolution_is_the_identity(name):
    """What the paper is named after: nothing but the sum is on the way."""
    model = build(name, 3, 10, 32, width=4)
    block = next(b for b in reversed(list(model.modules())) if hasattr(b, "bn1"))  # the last of its stage
    last = block.get_submodule("conv3" if name.startswith("preresnet50") else "conv2")
    nn.init.zeros_(last.get_parameter("weight"))
    x = torch.randn(2, block.get_submodule("bn1").num_features, 8, 8)
    assert torch.equal(block(x), x)


def test_the_stems_of_preresnet50():
    small, large = (
        build(name, 3, 10, size, width=4) for name, size in (("preresnet50_cifar", 32), ("preresnet50", 64))
    )
    assert [m.kernel_size for m in small.modules() if isinstance(m, nn.Conv2d)][0] == (3, 3)
    assert [m.kernel_size for m in large.modules() if isinstance(m, nn.Conv2d)][0] == (7, 7)
    assert parameters(large, nn.Conv2d) - parameters(small, nn.Conv2d) == 3 * 4 * (49 - 9)


def test_mlp_bn_by_hand():
    model = build("mlp_bn", 1, 10, 8, width=8)
    assert sum(p.numel() for p in model.parameters()) == 64 * 2 + 2 * 2 + 2 * 8 + 2 * 8 + (8 * 10 + 10)


def test_mlp_by_hand():
    model = build("mlp", 1, 10, 8, width=5)
    assert sum(p.numel() for p in model.parameters()) == (64 * 5 + 5) + (5 * 5 + 5) + (5 * 10 + 10)


def test_small_cnn_by_hand():
    model = build("small_cnn", 1, 10, 8, width=4)
    assert parameters(model, nn.Conv2d) == 9 * (1 * 4 + 4 * 8 + 8 * 8)
    assert parameters(model, nn.Linear) == 8 * 10 + 10


@pytest.mark.parametrize("size", [8, 28, 32])
def test_small_cnn_takes_digits_mnist_and_cifar(size):
    assert build("small_cnn", 1, 10, size)(torch.randn(2, 1, size, size)).shape == (2, 10)


def test_the_shortcut_is_option_a():
    """Every second pixel, and zeros for the new channels."""
    x = torch.arange(2 * 4 * 4, dtype=torch.float32).reshape(1, 2, 4, 4)
    y = Shortcut(3, 2)(x)
    assert y.shape == (1, 5, 2, 2)
    assert torch.equal(y[0, 0], torch.tensor([[0.0, 2.0], [8.0, 10.0]]))
    assert not y[0, 2:].any()


def test_a_block_is_the_sum_of_its_branches():
    """With the last batch-norm's scale at zero a block is relu of its shortcut."""
    block = build("resnet20", 3, 10, 32, width=4).get_submodule("features.5")  # first of the second stage
    conv2 = block.get_submodule("conv2.bn")
    assert isinstance(conv2, nn.BatchNorm2d)
    nn.init.zeros_(conv2.weight)
    x = torch.randn(2, 4, 8, 8)
    assert torch.equal(block(x), torch.relu(Shortcut(4, 2)(x)))


def test_the_seed_alone_decides_the_weights():
    def weights(seed: int, global_seed: int) -> list[torch.Tensor]:
        torch.manual_seed(global_seed)
        return list(build("small_cnn", 1, 10, 8, seed=seed).state_dict().values())

    state = torch.get_rng_state()
    try:
        assert all(map(torch.equal, weights(3, 0), weights(3, 1)))
        assert not all(map(torch.equal, weights(3, 0), weights(4, 0)))
        torch.set_rng_state(state)
        build("mlp", 1, 10, 8)
        assert torch.equal(torch.get_rng_state(), state)
    finally:
        torch.set_rng_state(state)


def test_an_unknown_model_names_the_nearest():
    with pytest.raises(StudyError, match="unknown model 'resnet21': known are .*did you mean 'resnet20'"):
        build("resnet21", 3, 10, 32)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("mlp", (0, 10, 8), "in_channels must be at least 1, got 0"),
        ("mlp", (1, 0, 8), "classes must be at least 1, got 0"),
        ("small_cnn", (1, 10, 7), "images of 2 pixels or more in multiples of 2, got 7"),
        ("resnet20", (3, 10, 30), "multiples of 4, got 30"),
        ("vgg16", (3, 10, 28), "images of 32 pixels or more in multiples of 32, got 28"),
    ],
)
def test_sizes_that_do_not_fit_are_named(name, arguments, message):
    with pytest.raises(StudyError, match=f"{name}.*{message}"):
        build(name, *arguments)


def test_a_width_of_zero_is_refused():
    with pytest.raises(StudyError, match="width must be at least 1, got 0"):
        build("mlp", 1, 10, 8, width=0)
