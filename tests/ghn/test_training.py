import dataclasses
import os
import signal
import subprocess
import sys

import pytest
import torch

from lowbit_sim.ghn import MetaSettings, Strategy, parse_precision, train_hypernetwork
from lowbit_sim.ghn.settings import learning_rate
from lowbit_sim.ghn.training import MetaTraining
from lowbit_sim.training.checkpoint import Checkpoint, CheckpointError
from tests.ghn.examples import SPLIT, hypernetwork, images

SETTINGS = MetaSettings(epochs=3, steps_per_epoch=2, meta_batch=2, batch_size=8)

NOISE = Strategy(name="noisequant", precision=parse_precision("W4A4"))


def trained(strategy=NOISE, settings=SETTINGS, checkpoint=None, on_epoch=None):
    ghn = hypernetwork()
    result = train_hypernetwork(
        ghn, SPLIT, images(), settings, strategy, checkpoint=checkpoint, on_epoch=on_epoch
    )
    return ghn, result


def bits(ghn) -> list[torch.Tensor]:
    return list(ghn.state_dict().values())


def without_time(result):
    return [dataclasses.replace(epoch, seconds=0.0) for epoch in result.epochs]


@pytest.mark.parametrize(
    "strategy", [Strategy(), Strategy(name="simquant", precision=parse_precision("W4A4")), NOISE], ids=str
)
def test_the_same_seed_gives_the_same_bits(strategy):
    (one, first), (other, second) = trained(strategy), trained(strategy)
    assert all(map(torch.equal, bits(one), bits(other)))
    assert without_time(first) == without_time(second)
    assert first.status == "completed"
    assert [epoch.steps for epoch in first.epochs] == [2, 2, 2]


def test_another_seed_gives_others():
    (one, _), (other, _) = trained(), trained(settings=dataclasses.replace(SETTINGS, seed=1))
    assert not all(map(torch.equal, bits(one), bits(other)))


class _Killed(Exception):
    pass


@pytest.mark.parametrize("after", [1, 2])
def test_a_run_goes_on_bit_for_bit(after, tmp_path):
    whole, expected = trained()

    def stop(epoch):
        if epoch.epoch == after:
            raise _Killed

    checkpoint = Checkpoint(path=tmp_path / "state")
    with pytest.raises(_Killed):
        trained(checkpoint=checkpoint, on_epoch=stop)
    resumed: list[int] = []
    again, result = trained(checkpoint=dataclasses.replace(checkpoint, on_resume=resumed.append))
    assert resumed == [after]
    assert all(map(torch.equal, bits(whole), bits(again)))
    assert without_time(result) == without_time(expected)


def test_after_kill_9_it_goes_on_bit_for_bit(tmp_path):
    """A process that kills itself in its second epoch, without any chance to clean up."""
    code = (
        "import os, signal, sys, torch; torch.set_num_threads(1)\n"
        "from pathlib import Path\n"
        "from lowbit_sim.training.checkpoint import Checkpoint\n"
        "from tests.ghn.test_training import trained\n"
        "def stop(epoch):\n"
        "    if epoch.epoch == 1: os.kill(os.getpid(), signal.SIGKILL)\n"
        "trained(checkpoint=Checkpoint(path=Path(sys.argv[1])), on_epoch=stop)\n"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "state")], env=environment, check=False)
    assert done.returncode == -signal.SIGKILL
    resumed: list[int] = []
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        again, _ = trained(checkpoint=Checkpoint(path=tmp_path / "state", on_resume=resumed.append))
        whole, _ = trained()
    finally:
        torch.set_num_threads(threads)
    assert resumed == [1]
    assert all(map(torch.equal, bits(whole), bits(again)))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"strategy": Strategy()}, "its strategy is noisequant W4A4, numerics None, this run's float"),
        ({"settings": dataclasses.replace(SETTINGS, meta_batch=3)}, "its settings is .*meta_batch=2"),
    ],
)
def test_the_checkpoint_of_another_run_is_refused(changed, message, tmp_path):
    checkpoint = Checkpoint(path=tmp_path / "state")
    trained(checkpoint=checkpoint)
    with pytest.raises(CheckpointError, match=message):
        trained(checkpoint=checkpoint, **changed)


def test_it_learns():
    settings = MetaSettings(
        epochs=2, steps_per_epoch=12, meta_batch=2, batch_size=24, learning_rate=3e-2, milestones=()
    )
    two = dataclasses.replace(SPLIT, size=2)
    result = train_hypernetwork(hypernetwork(), two, images(), settings, Strategy())
    assert result.epochs[-1].train_loss < 0.2 * result.epochs[0].train_loss
    assert result.epochs[-1].train_accuracy > 0.9


def test_a_loss_that_is_not_finite_ends_the_run():
    ghn = hypernetwork()
    with torch.no_grad():
        ghn.vectors.to_classes.bias.fill_(float("nan"))
    result = train_hypernetwork(ghn, SPLIT, images(), SETTINGS, Strategy())
    assert result.status == "diverged"
    assert "epoch 0: a network's training loss is nan" in result.reason
    assert result.epochs == ()


def test_an_update_draws_different_networks_and_images():
    run = MetaTraining(
        hypernetwork(), SPLIT, images(), dataclasses.replace(SETTINGS, meta_batch=12), Strategy()
    )
    _, graphs, batch = run.drawn()
    assert len({graph.fingerprint for graph in graphs.graphs}) == 12
    assert len({tuple(x.flatten().tolist()) for x in batch.inputs}) == 8
    few = MetaTraining(hypernetwork(), SPLIT, images(), SETTINGS, Strategy())
    assert len({tuple(g.fingerprint for g in few.drawn()[1].graphs) for _ in range(10)}) > 5


def test_networks_beyond_the_limit_of_nodes_are_left_out():
    settings = dataclasses.replace(SETTINGS, meta_batch=12)
    whole = MetaTraining(hypernetwork(), SPLIT, images(), settings, Strategy()).drawn()[1]
    small = dataclasses.replace(settings, node_limit=whole.nodes // 2)
    part = MetaTraining(hypernetwork(), SPLIT, images(), small, Strategy()).drawn()[1]
    assert part.nodes <= whole.nodes // 2
    assert part.graphs == whole.graphs[: len(part.graphs)]
    least = dataclasses.replace(settings, node_limit=1)
    assert len(MetaTraining(hypernetwork(), SPLIT, images(), least, Strategy()).drawn()[1].graphs) == 1


def test_the_rate_falls_at_the_milestones():
    settings = MetaSettings(epochs=3, steps_per_epoch=100, learning_rate=1e-3)
    rates = [learning_rate(settings, step) for step in (0, 199, 200, 249, 250, 299)]
    assert rates == pytest.approx([1e-3, 1e-3, 1e-4, 1e-4, 1e-5, 1e-5])


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"epochs": 0}, "epochs must be at least 1, got 0"),
        ({"batch_size": 1}, "batch_size must be at least 2"),
        ({"learning_rate": 0.0}, "learning_rate must be positive"),
        ({"milestones": (1.5,)}, "milestones are shares"),
    ],
)
def test_settings_that_can_not_be(changed, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(SETTINGS, **changed)


def test_more_than_there_are_can_not_be_drawn():
    with pytest.raises(ValueError, match="there are 12 to draw 13 networks in a meta-batch from"):
        trained(settings=dataclasses.replace(SETTINGS, meta_batch=13))
    with pytest.raises(ValueError, match="there are 24 to draw 25 images in a batch from"):
        trained(settings=dataclasses.replace(SETTINGS, batch_size=25))
