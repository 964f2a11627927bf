import pytest
import torch

from benchmarks.gpu.two_ranks import model, of_one_process, of_two_ranks, weights_of


@pytest.mark.slow
def test_two_gloo_ranks_end_with_the_weights_of_one_process():
    one, ranks = of_one_process("cpu"), of_two_ranks("gloo", "cpu")
    for rank in ranks:
        assert all(map(torch.equal, one, rank))
    assert not any(map(torch.equal, one, weights_of(model())))
