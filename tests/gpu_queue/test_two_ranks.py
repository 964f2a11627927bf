from pathlib import Path

import pytest
import torch

from benchmarks.gpu import check_distributed, two_ranks
from benchmarks.gpu.two_ranks import model, of_one_process, of_two_ranks, weights_of


@pytest.mark.slow
def test_two_gloo_ranks_end_with_the_weights_of_one_process():
    one, ranks = of_one_process("cpu"), of_two_ranks("gloo", "cpu")
    for rank in ranks:
        assert all(map(torch.equal, one, rank))
    assert not any(map(torch.equal, one, weights_of(model())))


def fails_after(joined: int):
    """A spawn whose ranks fail once so many of them have exchanged a number."""

    def spawn(work, arguments, nprocs):
        for rank in range(joined):
            two_ranks._joined(Path(arguments[-1]), rank).touch()
        raise RuntimeError("Duplicate GPU detected")

    return spawn


def test_a_library_that_refuses_the_ranks_is_told_apart_from_a_failure_of_ours(monkeypatch):
    monkeypatch.setattr(check_distributed, "WAYS", (("cpu:gloo,cuda:nccl", "cpu"),))
    monkeypatch.setattr(two_ranks, "spawn", fails_after(0))
    monkeypatch.setattr(two_ranks, "of_one_process", lambda device: [])
    refused = check_distributed.two_ranks_on_one_gpu(100)
    assert refused["rows"][0]["refused"] == "Duplicate GPU detected"
    assert (refused["complete"], refused["failed_rows"]) == (True, 0)
    monkeypatch.setattr(two_ranks, "spawn", fails_after(2))
    failed = check_distributed.two_ranks_on_one_gpu(100)
    assert failed["rows"][0]["failed"] == "Duplicate GPU detected"
    assert (failed["all_equal"], failed["failed_rows"]) == (False, 1)
