import dataclasses

import pytest
import torch

from lowbit_sim.ghn import predict
from lowbit_sim.ghn.decoder import tiled
from lowbit_sim.ghn.fake_quantization import fake_quantize
from lowbit_sim.ghn.graph import CONVOLUTIONS, Node
from lowbit_sim.ghn.normalization import gain, norm_scale, normalized_weight, shift
from lowbit_sim.ghn.precision import weight_quantizer
from tests.ghn.examples import SIZES, graph, hypernetwork

C = SIZES.channels


def conv(out_channels: int, in_channels: int, kernel: tuple[int, int] = (3, 3), kind="conv") -> Node:
    return Node(name="a", primitive=kind, shape=(out_channels, in_channels, *kernel))


def decoded(*nodes: Node, decoder=None) -> list[torch.Tensor]:
    decoder = decoder or hypernetwork().weights
    states = torch.randn(len(nodes), SIZES.hidden, generator=torch.Generator().manual_seed(0))
    return decoder(states, list(nodes))


def test_a_weight_repeats_every_c_channels_along_both_axes():
    [weight] = decoded(conv(3 * C + 1, 2 * C))
    assert weight.shape == (3 * C + 1, 2 * C, 3, 3)
    for start in range(C, 3 * C + 1):
        assert torch.equal(weight[start], weight[start - C])
    assert torch.equal(weight[:, C:], weight[:, :C])
    assert not torch.equal(weight[0], weight[1])


def test_a_narrow_weight_is_a_part_of_a_wide_one():
    [wide] = decoded(conv(C, C))
    [narrow] = decoded(conv(2, 3))
    torch.testing.assert_close(narrow, wide[:2, :3], rtol=0, atol=0)


def test_a_small_kernel_is_the_corner_of_a_large_one():
    [large] = decoded(conv(C, C, (7, 7)))
    for kernel in ((1, 1), (3, 3), (1, 5), (5, 1)):
        [small] = decoded(conv(C, C, kernel))
        torch.testing.assert_close(small, large[:, :, : kernel[0], : kernel[1]], rtol=1e-5, atol=1e-6)


def test_the_decoder_is_its_formula():
    decoder = hypernetwork().weights
    state = torch.randn(1, SIZES.hidden)
    grid = torch.relu(decoder.spread(state)).reshape(SIZES.inner[0], SIZES.kernel, SIZES.kernel)
    assert decoder.widen.bias is not None
    assert decoder.weights.bias is not None
    at = torch.relu(decoder.widen.weight[:, :, 0, 0] @ grid[:, 2, 1] + decoder.widen.bias)
    point = decoder.weights.weight[:, :, 0, 0] @ at + decoder.weights.bias
    [weight] = decoder(state, [conv(C, C)])
    torch.testing.assert_close(weight[:, :, 2, 1], point.reshape(C, C), rtol=1e-5, atol=1e-6)


def test_a_classifier_has_the_classes_and_repeats_along_its_inputs():
    [weight] = decoded(conv(4, 2 * C + 1, (1, 1), "linear"))
    assert weight.shape == (4, 2 * C + 1)
    assert torch.equal(weight[:, C : 2 * C], weight[:, :C])


def test_a_kernel_beyond_the_decoder_s_is_refused():
    with pytest.raises(ValueError, match="'a' has a kernel of 9x9: the decoder makes kernels up to 7x7"):
        decoded(conv(2, 2, (9, 9)))


def test_initial_weights_have_about_unit_variance():
    sizes = dataclasses.replace(SIZES, hidden=32, inner=(32, 64), channels=16)
    decoder = hypernetwork(sizes).weights
    states = torch.randn(64, 32, generator=torch.Generator().manual_seed(0))
    weights = torch.stack(decoder(states, [conv(16, 16)] * 64)).detach()
    assert 0.7 < float((weights**2).mean()) < 1.4


@pytest.mark.parametrize(
    ("base", "sizes"), [((4,), (3,)), ((4,), (9,)), ((2, 3), (5, 2)), ((2, 3, 3, 3), (2, 7))]
)
def test_tiling_is_an_index_modulo_the_size(base, sizes):
    x = torch.randn(*base)
    found = tiled(x, sizes)
    assert tuple(found.shape) == (*sizes, *base[len(sizes) :])
    rows = x[torch.arange(sizes[0]) % base[0]]
    assert torch.equal(found, rows if len(sizes) == 1 else rows[:, torch.arange(sizes[1]) % base[1]])


def test_predicted_weights_have_the_fan_in_s_variance():
    """The mean square of a weight is beta / fan_in times that of what the decoder put out."""
    ghn, found = hypernetwork(), graph()
    raw: dict[str, torch.Tensor] = {}
    nodes = [node for node in found.nodes if node.primitive in CONVOLUTIONS]
    ghn.weights.register_forward_hook(
        lambda module, args, out: raw.update({n.name: v for n, v in zip(nodes, out, strict=True)})
    )
    predicted = predict(ghn, found)
    for node in nodes:
        square = float((predicted[f"{node.path}.weight"] ** 2).mean())
        beta = 1.0 if node.primitive in ("depthwise_conv", "dilated_conv", "factor_conv") else 2.0
        assert gain(node) == beta
        assert square == pytest.approx(beta / node.fan_in * float((raw[node.name] ** 2).mean()), rel=1e-5)


def test_norms_and_biases_are_within_their_bounds():
    far = torch.tensor([-100.0, -1.0, 0.0, 1.0, 100.0])
    assert norm_scale(far).tolist() == pytest.approx([0.0, 0.7550813, 1.0, 1.2449187, 2.0])
    assert shift(far).tolist() == pytest.approx([-1.0, -0.1973753, 0.0, 0.1973753, 1.0])
    ghn = hypernetwork()
    with torch.no_grad():
        for parameter in ghn.vectors.parameters():
            parameter.mul_(50)
    found = graph()
    predicted = predict(ghn, found)
    for node in found.nodes:
        if node.primitive == "batch_norm":
            assert (
                0
                <= float(predicted[f"{node.path}.weight"].min())
                <= float(predicted[f"{node.path}.weight"].max())
                <= 2
            )
        if node.primitive in ("batch_norm", "bias"):
            assert float(predicted[f"{node.path}.bias"].abs().max()) <= 1


def test_normalisation_by_hand():
    weight = torch.ones(2, 4, 3, 3)
    assert float(normalized_weight(weight, conv(2, 4))[0, 0, 0, 0]) == pytest.approx((2 / 36) ** 0.5)
    one = conv(4, 1, (3, 3), "depthwise_conv")
    assert float(normalized_weight(torch.ones(4, 1, 3, 3), one)[0, 0, 0, 0]) == pytest.approx(1 / 3)


def test_a_repeated_weight_has_a_repeated_rounding_error():
    """Tiled, a channel's error comes again and does not average out; with as many channels decoded none does."""
    whole = hypernetwork(dataclasses.replace(SIZES, channels=2 * C)).weights
    for decoder, repeats in ((None, True), (whole, False)):
        [weight] = decoded(conv(2 * C, C), decoder=decoder)
        error = fake_quantize(weight.detach(), weight_quantizer(2)) - weight.detach()
        assert torch.equal(error[C:], error[:C]) == repeats
        assert bool(error.any())
