"""MetaGrad under DistributedDataParallel: two processes with half a batch each are one with the whole."""

import os
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed
from torch import nn
from torch.multiprocessing.spawn import spawn
from torch.nn.parallel import DistributedDataParallel

import lowbit_sim as lb
from lowbit_sim.nn.sharding import set_shard
from lowbit_sim.ops.shard import Shard
from lowbit_sim.training.examples import Examples
from tests.training.metagrad.nets import INT4, STOCHASTIC, batches, dense, step_through

pytestmark = pytest.mark.skipif(not torch.distributed.is_gloo_available(), reason="needs gloo")

STEPS = 4


def model() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        net = dense()
    return lb.preprocess_weights(lb.convert(net, [lb.Rule("*", INT4)], seed=4), "dorefa")


def train(net: nn.Module, part: slice) -> dict[str, Any]:
    recipe = lb.MetaGrad(
        lb.MomentFC(4),
        phi=lb.PhiTraining(learning_rate=0.01),
        gradient_quantizer=lb.Quantizer(lb.INT4, rounding=STOCHASTIC),
    )
    data = [Examples(inputs=b.inputs[part], targets=b.targets[part]) for b in batches("dense", STEPS, size=8)]
    step_through(net, torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9), data, recipe)
    weights = {n.removeprefix("module."): p.detach().clone() for n, p in net.named_parameters()}
    return {"weights": weights, "state": recipe.state_dict()}


def one_rank(rank: int, rendezvous: str, folder: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=2)
    net = DistributedDataParallel(model())
    set_shard(net, Shard.of(torch.distributed.new_group(backend="gloo")))
    torch.save(train(net, slice(4 * rank, 4 * rank + 4)), Path(folder) / f"{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def ranks() -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        spawn(one_rank, (os.path.join(folder, "rendezvous"), folder), nprocs=2)
        return [torch.load(Path(folder) / f"{rank}.pt") for rank in range(2)]


def test_the_ranks_agree_bit_for_bit(ranks):
    assert str(ranks[0]["state"]) == str(ranks[1]["state"])
    for name, w in ranks[0]["weights"].items():
        assert torch.equal(w, ranks[1]["weights"][name])


def test_they_are_one_process_with_the_whole_batch(ranks):
    whole = train(model(), slice(None))
    for name, w in whole["weights"].items():
        torch.testing.assert_close(ranks[0]["weights"][name], w, rtol=1e-5, atol=1e-6)
    for name, p in whole["state"]["learner"]["hypernetwork"].items():
        torch.testing.assert_close(
            ranks[0]["state"]["learner"]["hypernetwork"][name], p, rtol=1e-3, atol=1e-5
        )


def test_a_state_from_several_processes_loads_in_one(ranks):
    recipe = lb.MetaGrad(lb.MomentFC(4))
    recipe.load_state_dict(ranks[0]["state"])
    net = model()
    step_through(net, torch.optim.SGD(net.parameters(), lr=0.1), batches("dense", 1), recipe)
    assert recipe.memory_bytes()["calibration"] == 4 * 72
