"""A batch over two processes: the bits of one process on the whole batch."""

import os
import tempfile
from pathlib import Path

import pytest
import torch
import torch.distributed
from torch import Tensor, nn
from torch.multiprocessing.spawn import spawn
from torch.nn.parallel import DistributedDataParallel

import lowbit_sim as lb
from lowbit_sim.nn.sharding import set_shard
from lowbit_sim.ops.shard import Shard

pytestmark = pytest.mark.skipif(not torch.distributed.is_gloo_available(), reason="needs gloo")

STOCHASTIC = lb.Rounding("stochastic", random_bits=8)
#: Rank 0 has 5 samples and rank 1 has 3.
SIZES = (5, 3)


def spec(scale: object = lb.AbsMaxScale(), granularity: object = lb.PerTensor()) -> lb.OpSpec:
    batch = lb.Quantizer(lb.INT8, rounding=STOCHASTIC, scale=scale, granularity=granularity)  # type: ignore[arg-type]
    weight = lb.Quantizer(lb.INT4, rounding=STOCHASTIC)
    flat = lb.Quantizer(lb.INT8, rounding=STOCHASTIC)
    return lb.OpSpec(
        output=lb.GemmSpec(batch, weight),
        grad_input=lb.GemmSpec(batch, weight),
        grad_weight=lb.GemmSpec(flat, flat),
    )


def fixed() -> lb.OpSpec:
    """Power-of-two scales that never change: all sums are exact in float32."""
    quantizer = lb.Quantizer(lb.INT8, scale=lb.FixedScale(0.25), rounding=STOCHASTIC)
    return lb.OpSpec(
        **dict.fromkeys(("output", "grad_input", "grad_weight"), lb.GemmSpec(quantizer, quantizer))
    )


FLOAT_MAC = lb.FloatMacUnit(accumulator=lb.FP16, rounding=STOCHASTIC)
SPECS = {
    "absmax": spec(),
    "fixed": fixed(),
    "power of two": spec(lb.PowerOfTwoScale()),
    "per sample": spec(granularity=lb.PerSample()),
    "running": spec(lb.EmaScale(momentum=0.5)),
    "stochastic accumulator": lb.OpSpec(
        output=lb.GemmSpec(lb.Quantizer(lb.FP8_E4M3FN), lb.Quantizer(lb.FP8_E4M3FN), mac=FLOAT_MAC),
        grad_input=lb.GemmSpec(lb.Quantizer(lb.FP8_E5M2), lb.Quantizer(lb.FP8_E4M3FN), mac=FLOAT_MAC),
        grad_weight=None,
    ),
    "mxfp8": lb.OpSpec(
        output=lb.GemmSpec(*[lb.Quantizer(lb.MXFP8_E4M3, rounding=STOCHASTIC)] * 2, mac=lb.FloatMacUnit()),
        grad_input=lb.GemmSpec(
            *[lb.Quantizer(lb.MXFP8_E5M2, rounding=STOCHASTIC)] * 2, mac=lb.FloatMacUnit()
        ),
        grad_weight=None,
    ),
}


def model(name: str) -> nn.Module:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1, groups=2),
        nn.GELU(),
        nn.Conv2d(4, 4, 3),
        nn.Flatten(),
        nn.Linear(64, 6),
        nn.Tanh(),
    )
    rounded = lb.Quantizer(lb.INT8, rounding=STOCHASTIC)
    rules = [lb.Rule("*", SPECS[name]), lb.Rule("1", lb.ElementwiseSpec(output=rounded, grad_input=rounded))]
    return lb.convert(net, rules, seed=4)


def batch(step: int) -> tuple[Tensor, Tensor]:
    """Samples of very different sizes, so that ranks have different maxima, and the gradients of the output."""
    generator = torch.Generator().manual_seed(step)
    x = torch.randn(sum(SIZES), 2, 6, 6, generator=generator) * torch.arange(1, 9).reshape(-1, 1, 1, 1)
    return x, torch.randn(sum(SIZES), 6, generator=generator)


def passes(net: nn.Module, part: slice) -> list[dict[str, Tensor]]:
    """Output and gradients of two passes on a part of the batch."""
    found = []
    for step in range(2):
        x, g = (t[part] for t in batch(step))
        x = x.clone().requires_grad_()
        net.zero_grad()
        y = net(x)
        y.backward(g)
        assert x.grad is not None
        weights = {
            name.removeprefix("module."): p.grad.clone()
            for name, p in net.named_parameters()
            if p.grad is not None
        }
        found.append({"output": y.detach(), "grad_input": x.grad, **weights})
    return found


def one_rank(rank: int, rendezvous: str, folder: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=2)
    group = torch.distributed.new_group(backend="gloo")
    part = slice(0, SIZES[0]) if rank == 0 else slice(SIZES[0], None)
    results = {}
    for name in SPECS:
        net = model(name)
        set_shard(net, Shard.of(group))
        results[name] = passes(net, part)
        wrapped = DistributedDataParallel(model(name))
        set_shard(wrapped, Shard.of(group))
        results[f"{name}, averaged"] = passes(wrapped, part)
        results[f"{name}, apart"] = passes(model(name), part)
    torch.save(results, Path(folder) / f"{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def ranks() -> list[dict[str, list[dict[str, Tensor]]]]:
    with tempfile.TemporaryDirectory() as folder:
        rendezvous = os.path.join(folder, "rendezvous")
        spawn(one_rank, (rendezvous, folder), nprocs=2)
        return [torch.load(Path(folder) / f"{rank}.pt") for rank in range(2)]


def joined(ranks, name: str, step: int, tensor: str) -> Tensor:
    return torch.cat([rank[name][step][tensor] for rank in ranks])


@pytest.mark.parametrize("name", SPECS)
def test_slices_are_those_of_one_process(ranks, name) -> None:
    whole = passes(model(name), slice(None))
    for step in range(2):
        for tensor in ("output", "grad_input"):
            assert torch.equal(joined(ranks, name, step, tensor), whole[step][tensor])


@pytest.mark.parametrize("name", SPECS)
def test_without_shards_they_are_not(ranks, name) -> None:
    whole = passes(model(name), slice(None))
    assert not torch.equal(joined(ranks, f"{name}, apart", 0, "output"), whole[0]["output"])


@pytest.mark.parametrize("name", SPECS)
def test_ddp_averages_the_ranks_gradients_of_the_weights(ranks, name) -> None:
    for step in range(2):
        own = [rank[name][step] for rank in ranks]
        for key in own[0].keys() - {"output", "grad_input"}:
            for rank in ranks:
                assert torch.equal(rank[f"{name}, averaged"][step][key], own[0][key] / 2 + own[1][key] / 2)


@pytest.mark.parametrize("name", ["fixed", "absmax"])
def test_the_gradient_of_a_weight_is_one_process_s_but_for_the_float_addition(ranks, name) -> None:
    """Same codes, same scale: the ranks' sums of products add up to the whole's, exactly where nothing rounds."""
    whole = passes(model(name), slice(None))
    for step in range(2):
        for key in (key for key in whole[0] if key.endswith("weight")):
            total, expected = ranks[0][name][step][key] + ranks[1][name][step][key], whole[step][key]
            if name == "fixed":
                assert torch.equal(total, expected)
            else:
                assert torch.allclose(total, expected, rtol=0, atol=2.0**-22 * float(expected.abs().max()))


@pytest.mark.parametrize(
    "arguments", [{"rank": 2, "size": 2}, {"rank": -1, "size": 2}, {"rank": 0, "size": 0}]
)
def test_ranks_and_sizes_out_of_range(arguments) -> None:
    with pytest.raises(ValueError, match="(a rank is from 0 to 1|a batch has from 1 to 512 shards), got"):
        Shard(**arguments)


def test_a_group_without_a_backend_for_the_cpu_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_backend_config", lambda group: "cuda:nccl")
    with pytest.raises(RuntimeError, match=r'the group \(cuda:nccl\) has no backend: .*"cpu:gloo,cuda:nccl"'):
        Shard.of()


def test_what_can_t_be_sharded_is_refused() -> None:
    shard = Shard(rank=0, size=1)
    with pytest.raises(RuntimeError, match="there is no process group"):
        Shard.of()
    with pytest.raises(ValueError, match="nothing of the model is emulated"):
        set_shard(nn.Linear(2, 2), shard)
    quantizer = lb.Quantizer(lb.INT8, scale=lb.PercentileScale(99.0))
    gemm = lb.GemmSpec(quantizer, quantizer)
    net = lb.convert(
        nn.Linear(2, 2), [lb.Rule("*", lb.OpSpec(output=gemm, grad_input=None, grad_weight=None))]
    )
    set_shard(net, shard)
    with pytest.raises(
        ValueError, match="PercentileScale.* can't be found from the extremes of a batch's slices"
    ):
        net(torch.ones(3, 2))
    set_shard(net, None)
    net(torch.ones(3, 2))


@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU])
def test_layers_over_sequences_are_refused_by_name(kind) -> None:
    model = lb.convert(nn.ModuleDict({"memory": kind(3, 2)}), [lb.Rule("*", lb.OpSpec.uniform(lb.INT8))])
    with pytest.raises(ValueError, match=f"layer 'memory', an emulated {kind.__name__}, runs over rows"):
        set_shard(model, Shard(rank=0, size=2))
    set_shard(model, None)


def test_restoring_forgets_the_shard() -> None:
    net = lb.convert(nn.Sequential(nn.Linear(2, 2)), [lb.Rule("*", lb.OpSpec.uniform(lb.INT8))])
    set_shard(net, Shard(rank=0, size=1))
    native = lb.restore(net)
    assert native[0].__dict__.keys() == nn.Linear(2, 2).__dict__.keys()  # type: ignore[index]
