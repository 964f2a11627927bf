"""The events of a training step from a list of forward GEMMs."""

from collections import Counter

import hw_models
from hw_models.validation.layers import ConvShape, convolution, gemm
from hw_models.validation.training_step import training_step

LAYERS = [
    convolution(
        ConvShape(
            name="conv",
            channels=3,
            size=(8, 8),
            filters=6,
            kernel=(3, 3),
            output=(4, 4),
            stride=(2, 2),
            batch=2,
        )
    ),
    gemm("fc", M=2, N=10, K=96),
]
PROFILE = hw_models.load("rapid_hfp8")


def test_each_layer_has_three_gemms_but_the_first_one_two():
    step = training_step(LAYERS, PROFILE)
    sizes = [(e.layer, e.role, e.M, e.N, e.K) for e in step.gemms]
    assert sizes == [
        ("conv", "output", 32, 6, 27),
        ("conv", "grad_weight", 6, 27, 32),
        ("fc", "output", 2, 10, 96),
        ("fc", "grad_input", 2, 96, 10),
        ("fc", "grad_weight", 10, 96, 2),
    ]
    later = training_step([gemm("first", M=2, N=3, K=4), LAYERS[0]], PROFILE)
    (back,) = [e for e in later.gemms if e.role == "grad_input"]
    # All pixels of the input, zeros that the stride inserts included.
    assert (back.M, back.N, back.K) == (2 * 8 * 8, 3, 6 * 9)


def test_gemms_have_the_formats_of_their_role():
    formats = {(e.role, e.lhs.format, e.rhs.format) for e in training_step(LAYERS, PROFILE).gemms}
    assert formats == {
        ("output", "fp8_e4m3fn", "fp8_e4m3fn"),
        ("grad_input", "fp8_e5m2", "fp8_e4m3fn"),
        ("grad_weight", "fp8_e5m2", "fp8_e4m3fn"),
    }
    assert {(e.chunk, e.outer_bits) for e in training_step(LAYERS, PROFILE).gemms} == {(64, 16)}


def test_element_wise_work_is_complete_and_fusing_it_saves_bytes_alone():
    apart, fused = (training_step(LAYERS, PROFILE, fused=f) for f in (False, True))
    kinds = Counter(v.kind for v in apart.vectors)
    assert kinds == {"quantize": 6, "batch_norm": 4, "activation": 4, "optimizer_update": 2}
    assert [(v.kind, v.elements) for v in apart.vectors] == [(v.kind, v.elements) for v in fused.vectors]
    outputs = 2 * 6 * 16 + 2 * 10
    inputs = 2 * 3 * 64 + 2 * 96
    saved = sum(v.bytes for v in apart.vectors) - sum(v.bytes for v in fused.vectors)
    # The input's and the gradient's codes, both rectifiers, and 3 and 1 bytes of batch normalisation.
    assert saved == 3 * inputs + (3 + 4 + 6 + 3 + 1) * outputs
