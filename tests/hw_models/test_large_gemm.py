"""The GEMM by which machines are looked at."""

import pytest

import hw_models
from hw_models.compute.dispatch import array_work
from hw_models.large_gemm import CONVOLUTION, SIZE, in_words, large_gemm
from hw_models.operands import gemm_modes
from hw_models.spec_event import spec_event
from tests.hw_models.example import example

ROLES = ("output", "grad_input", "grad_weight")


def test_a_systolic_array_gets_a_matrix_product():
    event = large_gemm(spec_event(None, "output", 1, 1, 1), example())
    assert (event.M, event.N, event.K, event.conv) == (SIZE, SIZE, SIZE, None)
    assert in_words(example()) == "GEMM of 4096 x 4096 x 4096"


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("dataflow", ["rs", "spatial"])
def test_an_array_for_convolutions_gets_one(role, dataflow):
    profile = example(('dataflow = "ws"', f'dataflow = "{dataflow}"'))
    event = large_gemm(spec_event(None, role, 1, 1, 1), profile)
    assert event.conv == CONVOLUTION
    assert event.M * event.N * event.K == 4 * 56 * 56 * 256 * 256 * 9
    assert in_words(profile) == "convolution of 3 x 3, 256 to 256 channels, 4 images of 56 x 56"


@pytest.mark.parametrize("name", hw_models.profile_names())
def test_it_fills_every_machines_array(name):
    profile = hw_models.load(name)
    event = large_gemm(spec_event(profile.gemm_spec("output"), "output", 1, 1, 1), profile)
    modes = gemm_modes(event, profile)
    assert modes is not None
    work = array_work(event, profile.array, modes[2])
    cycles = work.cycles(arrays=profile.array.arrays)
    assert event.macs / cycles / profile.array.macs_per_cycle(modes[2]) > 0.8
