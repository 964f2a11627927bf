"""A study's arms make every tensor on the device of the tensors that it meets.

Without a GPU this shows so: while training steps run on the CPU, tensors that are made without naming a device land
on the meta device, and torch refuses to mix the two. The kernels of the CPU alone are left out of it.
"""

import functools
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch

from lowbit_sim.arith import bounds, float_numba, lanes_gemm
from lowbit_sim.arith.backends import numba_cpu, torch_exact
from lowbit_sim.numerics import encode
from lowbit_sim.ops import counts, product
from lowbit_sim.quant import codes, magnitudes
from lowbit_sim.study import arms
from lowbit_sim.study.data import Dataset
from lowbit_sim.study.load_study import parse_study
from lowbit_sim.study.resolve import resolved
from lowbit_sim.training import loop
from lowbit_sim.training.examples import Examples

STUDY = """
title = "devices"
question = "Is every tensor where it belongs?"
seeds = [0]
profiles = []
data = { name = "digits" }
model = { name = "small_cnn", width = 2 }
training = { epochs = 1, batch_size = 4, learning_rate = 0.1, momentum = 0.9 }

[[arms]]
name = "fp32"
native = true

[[arms]]
name = "stochastic gradients"
format = "int4"
gradient_rounding = { mode = "stochastic", random_bits = 8 }

[[arms]]
name = "narrow accumulator"
format = "int8"
accumulator_bits = 16
overflow = "saturate"

[[arms]]
name = "blocks"
format = "mxfp4"

[[arms]]
name = "running scales"
format = "int8"
scale = { rule = "ema", momentum = 0.9 }

[[arms]]
name = "searched scales"
format = "int4"
scale = "sawb"

[[arms]]
name = "recipes"
format = "int8"
clip_gradient_norm = 1.0
recipes = [{ name = "metagrad", hypernetwork = "moment_fc", learning_rate = 1e-3 }]

[[arms]]
name = "error feedback"
format = "int8"
recipes = [{ name = "error_feedback", quantizer = "int4" }]
"""

#: What runs on the CPU's tensors alone: a GPU's have kernels of their own there.
CPU_ONLY: list[tuple[ModuleType, str]] = [
    (codes, "to_codes"),
    (magnitudes, "absmax_on_cpu"),
    (numba_cpu, "run"),
    (float_numba, "run"),
    (lanes_gemm, "run"),
    (torch_exact, "int_mm_is_sound"),
    (encode, "_looked_up"),
]


def on_the_cpu(function: Callable) -> Callable:
    @functools.wraps(function)
    def run(*args, **kwargs):
        with torch.device("cpu"):
            return function(*args, **kwargs)

    return run


@pytest.fixture
def no_device_by_itself(monkeypatch) -> Iterator[None]:
    for module, name in CPU_ONLY:
        original, wrapped = getattr(module, name), on_the_cpu(getattr(module, name))
        for other in list(sys.modules.values()):
            if getattr(other, "__name__", "").startswith("lowbit_sim") and vars(other).get(name) is original:
                monkeypatch.setattr(other, name, wrapped)
    monkeypatch.setattr(bounds, "_norms", bounds._norms_on_device)
    monkeypatch.setattr(counts, "_count_on_cpu", counts.count_on_device)
    monkeypatch.setattr(product, "codes_of", lambda *operands: None)  # the way of the CPU's own convolutions
    with torch.device("meta"):
        yield


def examples(count: int) -> Examples:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(count, 1, 8, 8, generator=generator)
    return Examples(inputs=inputs, targets=torch.randint(0, 10, (count,), generator=generator))


study = resolved(parse_study(tomllib.loads(STUDY), "devices.toml", Path()))


@pytest.fixture(params=[arm for arm in study.arms if not arm.is_native], ids=lambda arm: arm.name)
def run(request) -> loop._Run:
    """A run that is about to train; made before tensors lose their device."""
    data = Dataset(name="digits", description="random", train=examples(8), test=examples(4), classes=10)
    return loop._Run(
        arms.trained_arm(study, request.param, data, 0),
        data.train,
        data.test,
        arms.settings(study, request.param, 0),
        arms.recipes(study, request.param, data, 0),
    )


def test_training_steps_name_the_device_of_every_tensor(run, no_device_by_itself):
    losses = [run._step(0, 0.1, run.train_set)[0] for _ in range(2)]
    assert losses[1] != losses[0]


def test_the_fixture_notices_a_tensor_without_a_device(no_device_by_itself):
    with pytest.raises(RuntimeError, match="meta"):
        _ = torch.ones(2, device="cpu") * torch.ones(2)
