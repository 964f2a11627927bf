"""Each role's GEMM and the convolution that it is do the same work."""

from hypothesis import given

from hw_models.compute.convolution import convolution_of
from tests.hw_models.compute.events import conv_event, event, geometries, geometry, roles


@given(roles, geometries())
def test_the_convolution_has_the_gemms_products(role, conv):
    gemm = conv_event(role, conv)
    assert convolution_of(gemm).macs * gemm.count == gemm.macs


@given(roles, geometries())
def test_its_results_and_operands_are_the_gemms(role, conv):
    gemm, work = conv_event(role, conv), convolution_of(conv_event(role, conv))
    results = work.images * work.filters * work.output_height * work.output_width
    assert results == gemm.M * gemm.N
    filters = work.filters * work.channels * work.kernel_height * work.kernel_width
    assert filters == (gemm.K * gemm.N if work.image_operand == "lhs" else gemm.M * gemm.K)


def test_by_hand():
    conv = geometry(batch=2, channels=6, size=(9, 7), filters=10, kernel=(3, 2), stride=2, groups=2)
    forward = convolution_of(conv_event("output", conv))
    assert (forward.images, forward.filters, forward.channels) == (2, 5, 3)
    assert (forward.output_height, forward.output_width) == (4, 3)
    assert (forward.image_elements, forward.inserted) == (2 * 3 * 9 * 7, 1)
    grad_input = convolution_of(conv_event("grad_input", conv))
    assert (grad_input.images, grad_input.filters, grad_input.channels) == (2, 3, 5)
    assert (grad_input.output_height, grad_input.output_width) == (9, 7)
    assert (grad_input.image_elements, grad_input.inserted) == (2 * 5 * 4 * 3, 4)
    grad_weight = convolution_of(conv_event("grad_weight", conv))
    assert (grad_weight.images, grad_weight.filters, grad_weight.channels) == (3, 5, 2)
    assert (grad_weight.kernel_height, grad_weight.kernel_width) == (4, 3)
    assert (grad_weight.output_height, grad_weight.output_width) == (3, 2)
    assert (grad_weight.image_operand, grad_weight.image_elements) == ("rhs", 2 * 3 * 9 * 7)


def test_a_gemm_is_a_pointwise_convolution():
    work = convolution_of(event("output", 5, 6, 7))
    assert (work.images, work.filters, work.channels) == (1, 6, 7)
    assert (work.output_height, work.output_width, work.kernel_height, work.kernel_width) == (5, 1, 1, 1)
