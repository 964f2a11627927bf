"""The layers of two MLPerf Tiny models as an Ethos-U array takes them, by the index of Vela's operators.

Anomaly detection is an autoencoder of fully connected layers 640-128-128-128-128-8-128-128-128-128-640, keyword
spotting a DS-CNN with 64 channels on 49 x 10 features (github.com/mlcommons/tiny). Indices that are missing are fused
activations, or the element-wise operators of the softmax.

The array takes a pooling as it takes a depthwise convolution, a channel in each column, but without weights
(ethos-u-vela, npu_performance.py): here it is one with a kernel of the window's size.
"""

from __future__ import annotations

from hw_models.validation.layers import ConvShape, convolution, gemm
from lowbit_sim.trace import GemmEvent

#: Words that keyword spotting tells apart, and elements of its softmax.
CLASSES = 12


def _depthwise(
    name: str, *, channels: int, size: tuple[int, int], kernel: tuple[int, int], output: tuple[int, int]
) -> GemmEvent:
    """A depthwise convolution or a pooling."""
    return convolution(
        ConvShape(
            name=name,
            channels=channels,
            size=size,
            filters=channels,
            kernel=kernel,
            output=output,
            groups=channels,
        )
    )


_AUTOENCODER = (640, 128, 128, 128, 128, 8, 128, 128, 128, 128, 640)


def anomaly_detection() -> dict[int, GemmEvent]:
    """The layers of the autoencoder by Vela's operator index; odd ones are activations fused into them."""
    pairs = zip(_AUTOENCODER, _AUTOENCODER[1:], strict=False)
    return {2 * i: gemm(f"dense {i}", M=1, N=out, K=ins) for i, (ins, out) in enumerate(pairs)}


def keyword_spotting() -> dict[int, GemmEvent]:
    """The convolutions, pooling and classifier of the DS-CNN by Vela's operator index."""
    side = (25, 5)
    stem = ConvShape(
        name="conv 0",
        channels=1,
        size=(49, 10),
        filters=64,
        kernel=(10, 4),
        output=side,
        stride=(2, 2),
    )
    layers = {0: convolution(stem)}
    for block in range(4):
        name = f"block {block}"
        layers[2 + 4 * block] = _depthwise(
            f"{name} depthwise", channels=64, size=side, kernel=(3, 3), output=side
        )
        point = ConvShape(
            name=f"{name} pointwise", channels=64, size=side, filters=64, kernel=(1, 1), output=side
        )
        layers[4 + 4 * block] = convolution(point)
    layers[18] = _depthwise("pool", channels=64, size=side, kernel=side, output=(1, 1))
    layers[19] = gemm("classifier", M=1, N=CLASSES, K=64)
    words = (1, CLASSES)
    layers[20] = _depthwise("softmax 20 MaxPool", channels=1, size=words, kernel=words, output=(1, 1))
    layers[24] = gemm("softmax 24 ReduceSum", M=1, N=1, K=CLASSES)
    return layers


#: Layers without weights, bias and scale.
WITHOUT_WEIGHTS = ("pool", "softmax 20 MaxPool", "softmax 24 ReduceSum")

MODELS = {"ad01_int8": anomaly_detection, "kws_ref_model": keyword_spotting}
