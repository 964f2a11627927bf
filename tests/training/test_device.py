from importlib.util import find_spec

import pytest
import torch
from torch import nn

from lowbit_sim.quant.quantizer import missing_kernel
from lowbit_sim.training.checkpoint import Checkpoint, CheckpointError
from lowbit_sim.training.device import CPU, DeviceError, device_name, device_of, find_device
from lowbit_sim.training.examples import Examples
from lowbit_sim.training.loop import evaluate, train
from lowbit_sim.training.settings import TrainingSettings

META = torch.device("meta")
SETTINGS = TrainingSettings(epochs=2, batch_size=8, learning_rate=0.1)


def examples(count: int = 24) -> Examples:
    inputs = torch.randn(count, 6, generator=torch.Generator().manual_seed(1))
    return Examples(inputs=inputs, targets=(inputs.sum(dim=1) > 0).long())


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 2))


def test_the_cpu_is_always_there():
    assert find_device("cpu") == CPU
    assert device_name(CPU) == "cpu"


def test_an_unknown_device_names_the_known_ones():
    with pytest.raises(DeviceError, match="unknown device 'cudaa'.*cuda"):
        find_device("cudaa")


@pytest.mark.parametrize(
    ("version", "why"), [(None, "is built for the CPU alone"), ("13.0", "finds no CUDA device")]
)
def test_cuda_that_is_not_there_says_why(monkeypatch, version, why):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", version)
    with pytest.raises(DeviceError, match=f"can't run on cuda: torch .* {why} here; run on cpu"):
        find_device("cuda")


@pytest.mark.parametrize(("before", "after"), [(None, ":4096:8"), (":16:8", ":16:8")])
def test_cuda_is_told_of_a_fixed_workspace(monkeypatch, before, after):
    import os

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
    if before is not None:
        monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", before)
    assert find_device("cuda") == torch.device("cuda", 0)
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == after


def test_a_model_is_where_its_parameters_are():
    assert device_of(model()) == CPU
    assert device_of(model().to(META)) == META
    assert device_of(nn.Identity()) == CPU


def test_examples_move_to_a_device_and_stay_themselves_where_they_are():
    here = examples()
    assert here.to(CPU) is here
    there = here.to(META)
    assert (there.inputs.device, there.targets.device) == (META, META)


@pytest.fixture
def moves(monkeypatch) -> list[torch.device]:
    """The devices that batches are moved to."""
    seen: list[torch.device] = []

    def to(self: Examples, device: torch.device) -> Examples:
        seen.append(device)
        return self

    monkeypatch.setattr(Examples, "to", to)
    return seen


def test_every_batch_of_training_and_evaluation_is_moved(moves):
    train(model(), examples(), examples(), SETTINGS)
    assert moves == [CPU] * 2 * (3 + 1)


class OnMeta(nn.Module):
    """A model that computes where its inputs are, and has its only parameter on the meta device."""

    def __init__(self):
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1, device=META))

    def forward(self, inputs):
        return inputs[:, :2]


def test_evaluation_moves_its_batches_to_the_model(moves):
    evaluate(OnMeta(), examples())
    assert moves == [META]


def test_a_checkpoint_of_another_device_is_refused(tmp_path, monkeypatch):
    checkpoint = Checkpoint(path=tmp_path / "run.safetensors")
    with monkeypatch.context() as patch:
        patch.setattr("lowbit_sim.training.loop.device_name", lambda device: "NVIDIA H200")
        train(model(), examples(), examples(), SETTINGS, checkpoint=checkpoint)
    with pytest.raises(CheckpointError, match="its device is NVIDIA H200, this run's cpu"):
        train(model(), examples(), examples(), SETTINGS, checkpoint=checkpoint)


def test_what_is_raised_on_saving_ends_the_run_with_the_epoch_on_the_disk(tmp_path):
    def stop() -> None:
        raise TimeoutError

    path = tmp_path / "run.safetensors"
    with pytest.raises(TimeoutError):
        train(model(), examples(), examples(), SETTINGS, checkpoint=Checkpoint(path=path, on_saved=stop))
    resumed: list[int] = []
    subject, whole = model(), model()
    result = train(
        subject, examples(), examples(), SETTINGS, checkpoint=Checkpoint(path=path, on_resume=resumed.append)
    )
    expected = train(whole, examples(), examples(), SETTINGS)
    assert resumed == [1]
    assert [e.test_loss for e in result.epochs] == [e.test_loss for e in expected.epochs]
    assert all(torch.equal(a, b) for a, b in zip(subject.parameters(), whole.parameters(), strict=True))


def test_quantisers_have_kernels_for_the_cpu_and_for_cuda_and_shapes_for_meta():
    assert missing_kernel(CPU) is None
    assert missing_kernel(META) is None
    assert missing_kernel(torch.device("mps")) == "there is no quantisation kernel for device mps"
    without = None if find_spec("triton") else "Triton is not installed (pip install lowbit-sim[gpu])"
    expected = without and f"there is no quantisation kernel for device cuda:0: {without}"
    assert missing_kernel(torch.device("cuda", 0)) == expected


@pytest.mark.gpu
def test_a_run_on_cuda_goes_on_bit_for_bit(tmp_path):
    device = find_device("cuda")

    def stop() -> None:
        raise TimeoutError

    path = tmp_path / "run.safetensors"
    with pytest.raises(TimeoutError):
        train(
            model().to(device),
            examples(),
            examples(),
            SETTINGS,
            checkpoint=Checkpoint(path=path, on_saved=stop),
        )
    subject, whole = model().to(device), model().to(device)
    train(subject, examples(), examples(), SETTINGS, checkpoint=Checkpoint(path=path))
    train(whole, examples(), examples(), SETTINGS)
    assert all(torch.equal(a, b) for a, b in zip(subject.parameters(), whole.parameters(), strict=True))
