from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from lowbit_sim.training import loop
from lowbit_sim.training.checkpoint import Checkpoint
from lowbit_sim.training.gradient_clipping import ClipGradientNorm
from lowbit_sim.training.hypergradient import Hypergradient
from lowbit_sim.training.loop import train
from lowbit_sim.training.loss_scaling import LossScaling
from lowbit_sim.training.metagrad.hypernetworks import FCGrad
from lowbit_sim.training.metagrad.recipe import MetaGrad
from lowbit_sim.training.settings import build_optimizer
from tests.training.toys import SETTINGS, parameter_bits, toy_examples, toy_model

FP16 = replace(SETTINGS, autocast="fp16")
CPU = torch.device("cpu")


class Starts(LossScaling):
    """A loss that is scaled so much at first that gradients overflow."""

    def __init__(self, device):
        super().__init__(device)
        self.scaler = torch.amp.GradScaler(device.type, init_scale=2.0**24)


class Looks:
    """A recipe that notes what it is called for."""

    def __init__(self):
        self.calls: list[str] = []
        self.largest: list[float] = []

    def before_step(self, step):
        self.calls.append("before")

    def on_gradients(self, step):
        self.calls.append("gradients")
        self.largest.append(max(float(p.grad.abs().max()) for p in step.model.parameters()))

    def after_step(self, step):
        self.calls.append("after")

    def abandon_step(self):
        self.calls.append("abandoned")


def test_a_step_is_grad_scalers_by_hand():
    model, data = toy_model(), toy_examples(8)
    train(model, data, data, replace(FP16, epochs=1))
    twin, scaler = toy_model(), torch.amp.GradScaler("cpu")
    order = torch.randperm(8, generator=torch.Generator().manual_seed(FP16.seed))
    optimizer = build_optimizer(twin, FP16)
    with torch.autocast("cpu", dtype=torch.float16):
        logits = twin(data.inputs[order]).float()
    scaler.scale(F.cross_entropy(logits, data.targets[order])).backward()
    scaler.step(optimizer)
    assert all(map(torch.equal, model.parameters(), twin.parameters()))


def test_recipes_see_gradients_without_the_scale():
    looks, plain = Looks(), Looks()
    data = toy_examples()
    train(toy_model(), data, data, FP16, recipes=[looks])
    train(toy_model(), data, data, SETTINGS, recipes=[plain])
    assert looks.largest == pytest.approx(plain.largest, rel=0.2)


def test_a_step_with_infinite_gradients_is_left_out_as_a_whole(monkeypatch):
    monkeypatch.setattr(loop, "LossScaling", Starts)
    model, data, looks = toy_model(), toy_examples(8), Looks()
    before = [p.detach().clone() for p in model.parameters()]
    result = train(model, data, data, replace(FP16, epochs=1), recipes=[looks])
    assert looks.calls[:2] == ["before", "abandoned"]
    assert "gradients" not in looks.calls
    assert all(map(torch.equal, before, model.parameters()))
    assert result.epochs[0].measurements == {"loss_scale.scale": 2.0**23, "loss_scale.skipped_steps": 1.0}


@pytest.mark.parametrize(
    "recipe",
    [
        lambda: ClipGradientNorm(max_norm=0.5),
        lambda: Hypergradient(hyper_learning_rate=0.01),
        lambda: MetaGrad(FCGrad(), parameters=["*.weight"]),
    ],
    ids=["clip", "hypergradient", "metagrad"],
)
def test_runs_with_recipes_and_steps_left_out_resume_bit_for_bit(recipe, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "LossScaling", Starts)
    settings, data = replace(FP16, epochs=4), toy_examples()

    def run(**options):
        model = toy_model()
        result = train(model, data, data, settings, recipes=[recipe()], **options)
        return parameter_bits(model), result.epochs[-1].measurements

    def stop(metrics):
        if metrics.epoch == 1:
            raise KeyboardInterrupt

    checkpoint = Checkpoint(path=tmp_path / "run")
    with pytest.raises(KeyboardInterrupt):
        run(checkpoint=checkpoint, on_epoch=stop)
    resumed, whole = run(checkpoint=checkpoint), run()
    assert resumed == whole
    assert 0 < whole[1]["loss_scale.skipped_steps"] < 12


def test_a_state_goes_on_with_its_scale():
    scaling, other = Starts(CPU), LossScaling(CPU)
    scaling.skipped = 3
    other.load_state_dict(scaling.state_dict())
    other.scaled(torch.ones(()))
    assert other.measurements() == {"loss_scale.scale": 2.0**24, "loss_scale.skipped_steps": 3.0}


class Waits(TorchDispatchMode):
    """Counts the values that the host asks a device for."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func.overloadpacket.__name__ in ("_local_scalar_dense", "equal")
        return func(*args, **(kwargs or {}))


def test_updates_are_grad_scalers_with_one_wait_each():
    ours, theirs = (torch.nn.Parameter(torch.ones(3)) for _ in range(2))
    optimizer, twin = torch.optim.SGD([ours], lr=0.5), torch.optim.SGD([theirs], lr=0.5)
    scaling, scaler = LossScaling(CPU), torch.amp.GradScaler("cpu")
    for gradient in (1.0, torch.inf, 2.0, torch.nan, torch.nan, 3.0):
        ours.grad = scaling.scaled(torch.full((3,), gradient))
        theirs.grad = scaler.scale(torch.full((3,), gradient))
        with Waits() as waits:
            finite = scaling.unscale(optimizer)
            scaling.update(optimizer)
        scaler.step(twin)
        scaler.update()
        assert finite == (gradient < 4)
        assert waits.count == 1
        assert torch.equal(ours, theirs)
        assert scaling.scaler.state_dict() == scaler.state_dict()
    assert scaling.measurements()["loss_scale.skipped_steps"] == 3
