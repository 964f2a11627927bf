"""The studies of SAT and PACT: each is read, and each arm's model is prepared and multiplies on its levels."""

from pathlib import Path

import pytest
import torch

from lowbit_sim.nn.learned_clip import learned_clips
from lowbit_sim.nn.rescaled_weight import rescaled_weight
from lowbit_sim.study.arms import prepared_arm
from lowbit_sim.study.data import load
from lowbit_sim.study.data.dataset import Dataset
from lowbit_sim.study.load_study import load_study
from tests.study.data.files import random_pixels, write_batches_folder, write_idx_set

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
STUDIES = sorted(path.stem for path in EXPERIMENTS.glob("sat_*.toml"))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_idx_set(folder, random_pixels(30, 28, 28), random_pixels(30) % 10)
    write_batches_folder(folder, random_pixels(20, 3, 32, 32), [i % 10 for i in range(20)])
    return folder


def test_the_studies_are_all_here():
    assert STUDIES == ["sat_cifar10_mobilenet_v2", "sat_mnist", "sat_mnist_pairs", "sat_mnist_triples"]


@pytest.mark.parametrize("name", STUDIES)
def test_every_arm_has_the_bits_and_the_rescaling_that_its_name_says(root, name):
    study = load_study(EXPERIMENTS / f"{name}.toml")
    data: Dataset = load(study.data.name, root, limit=8, test_limit=4)
    for arm in study.arms:
        if arm.name == "fp32":
            continue
        model, _ = prepared_arm(study, arm, data, 0)
        with torch.no_grad():
            assert model(data.train.inputs[:2]).shape == (2, data.classes)
        bits = int(arm.name.split(" bits")[0][-1])
        assert {clip.grid.bits for clip in learned_clips(model).values()} == (
            {bits} if "PACT" in arm.name else set()
        )
        if "CG-PACT" in arm.name:
            assert {clip.gradient for clip in learned_clips(model).values()} == {"cg_pact"}
        steps = [step for module in model.modules() if (step := rescaled_weight(module)) is not None]
        if arm.name.startswith("no clamp"):
            assert not steps
            continue
        widths = [step.rescaling.levels.bits for step in steps]
        assert widths == [8, *[bits] * (len(steps) - 2), 8]
        assert [step.rescaling.kind for step in steps][-1] == ("constant" if "SAT" in arm.name else "none")
