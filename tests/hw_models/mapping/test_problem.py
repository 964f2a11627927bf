from hypothesis import given
from hypothesis import strategies as st

from hw_models.mapping.conv_tiles import region_elements
from hw_models.mapping.problem import region_of, window_region
from tests.hw_models.mapping.problems import convolution, geometry


@given(
    st.integers(1, 2),
    st.integers(1, 3),
    st.integers(1, 7),
    st.integers(1, 2),
    st.integers(1, 2),
    st.integers(0, 1),
    st.sampled_from(["output", "grad_input", "grad_weight"]),
)
def test_an_operand_without_a_tensor_behind_it_is_the_tensor(
    kernel, channels, size, batch, stride, padding, role
):
    if size + 2 * padding < kernel:
        return
    shape = geometry(kernel=kernel, channels=channels, size=size, batch=batch, stride=stride, padding=padding)
    event = convolution(role, shape)
    windows = window_region(event)
    assert windows is not None
    if region_of(event) is not None:
        assert region_of(event) == windows
        return
    assert kernel == 1
    pixels = batch * shape.out_height * shape.out_width
    for a in range(1, pixels + 1):
        for b in range(1, channels + 1):
            assert region_elements(windows, a, b) == a * b


def test_a_1x1_layer_reads_its_input_as_it_lies_but_not_where_it_strides():
    assert region_of(convolution("output", geometry(kernel=1, padding=0))) is None
    assert region_of(convolution("output", geometry(kernel=1, padding=0, stride=2))) is not None
