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
