import pytest
import torch

from lowbit_sim.training.determinism import deterministic


def test_switches_are_on_inside_and_restored_after():
    with deterministic(0):
        assert torch.are_deterministic_algorithms_enabled()
    assert not torch.are_deterministic_algorithms_enabled()


def test_switches_are_restored_after_an_exception():
    with pytest.raises(RuntimeError, match="inside"), deterministic(0):
        raise RuntimeError("inside")
    assert not torch.are_deterministic_algorithms_enabled()


def test_the_global_generator_is_seeded_inside_and_untouched_outside():
    before = torch.get_rng_state()
    with deterministic(7):
        first = torch.rand(3)
    with deterministic(7):
        assert torch.equal(torch.rand(3), first)
    with deterministic(8):
        assert not torch.equal(torch.rand(3), first)
    assert torch.equal(torch.get_rng_state(), before)


def test_on_cuda_convolutions_are_in_float32_and_only_warn_of_what_is_not_deterministic():
    tf32 = torch._C._get_cudnn_allow_tf32()
    with deterministic(0, torch.device("cuda")):
        assert not torch._C._get_cudnn_allow_tf32()
        assert not torch.backends.cudnn.benchmark
        assert torch.is_deterministic_algorithms_warn_only_enabled()
    assert torch._C._get_cudnn_allow_tf32() == tf32
    with deterministic(0, torch.device("cpu")):
        assert torch._C._get_cudnn_allow_tf32() == tf32
        assert not torch.is_deterministic_algorithms_warn_only_enabled()


@pytest.mark.parametrize(("tf32", "precision"), [(False, "highest"), (True, "high")])
def test_float32_products_of_a_cuda_device_are_tf32_s_if_asked_for(tf32, precision):
    cuda, before = torch.device("cuda"), torch.get_float32_matmul_precision()
    known = torch.backends.cudnn.allow_tf32
    with deterministic(0, cuda, tf32=tf32):
        assert torch.get_float32_matmul_precision() == precision
        assert torch.backends.cudnn.allow_tf32 is tf32
    assert torch.get_float32_matmul_precision() == before
    assert torch.backends.cudnn.allow_tf32 is known


def test_on_the_cpu_the_precision_of_products_is_left_alone():
    before = torch.get_float32_matmul_precision()
    with deterministic(0, torch.device("cpu"), tf32=True):
        assert torch.get_float32_matmul_precision() == before
