"""Training steps on this device: native arms and emulated ones, in one table of time, energy and memory.

The steps are those of `lowbit-sim compare`, taken by the same clocks: two epochs of random images, of which the
second counts, and is long enough for a counter of energy. ResNet-18 and -50 run on images of ImageNet's size.

Such training is reproducible: deterministic algorithms, which cuDNN chooses without timing them. What this costs the
native arms, rows "at full speed" tell: the same float32 and bfloat16 step with cuDNN's fastest algorithms and images
in channels-last order (`full_speed`). The loop records the first step of an epoch, to count overflows: what
that takes is in an emulated arm's peak memory.
"""

from __future__ import annotations

import gc
import math
import statistics
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from benchmarks.gpu.rows import Rows
from benchmarks.gpu.task import Record, Task

if TYPE_CHECKING:
    from lowbit_sim.training.metrics import TrainingResult

#: Model, image size, batch and steps of an epoch.
WORKLOADS = (
    ("resnet20", 32, 256, 30),
    ("vgg16", 32, 256, 20),
    ("resnet18", 224, 256, 8),
    ("resnet50", 224, 256, 6),
)

NATIVE = (True, "tf32", "bf16", "fp16", "int8")
EMULATED = ("int8", "int4")


#: Native arms that are also timed without deterministic algorithms.
FULL_SPEED = (True, "bf16")

#: Seconds of an epoch: NVML's counter moves every few tens of milliseconds.
EPOCH_SECONDS = 3.0


def steps(
    model: str,
    size: int,
    batch: int,
    number: int,
    seconds: float,
    device: str = "cuda",
    epoch_s: float = EPOCH_SECONDS,
) -> Record:
    """Every arm's step of one model.

    Args:
        model: Its name.
        size: Height and width of the images.
        batch: Images in a step.
        number: Steps of an epoch, at least.
        seconds: Time limit of the task.
        device: Where it trains.
        epoch_s: Seconds of the epoch that counts, at least.
    """
    from lowbit_sim.training.device import find_device

    where, rows = find_device(device), Rows(seconds)
    for kind, named in [*((k, "native") for k in NATIVE), *((k, "emulated") for k in EMULATED)]:
        name = f"{named} {'fp32' if kind is True else kind}"
        arm = partial(_arm, model, size, batch, number, where, kind, named == "emulated", epoch_s)
        rows.add({"model": model, "arm": name}, partial(_with_memory_freed, arm, where))
    for kind in FULL_SPEED:
        name = f"native {'fp32' if kind is True else kind}, at full speed"
        arm = partial(_at_full_speed, model, size, batch, number, where, kind, epoch_s)
        rows.add({"model": model, "arm": name}, partial(_with_memory_freed, arm, where))
    fp32 = rows.rows[0].get("median_s")
    for row in rows.rows:
        row["over_fp32"] = row["median_s"] / fp32 if fp32 and "median_s" in row else None
    return rows.record(model=model, image=size, batch=batch)


def _with_memory_freed(work: Callable[[], Record], device: torch.device) -> Record:
    """The work, with nothing of the arm before it in the device's memory."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    return work()


def _arm(
    model: str,
    size: int,
    batch: int,
    number: int,
    device: torch.device,
    kind: Any,
    emulated: bool,
    epoch_s: float,
) -> Record:
    import lowbit_sim as lb
    from lowbit_sim.quant.quantizer import missing_kernel
    from lowbit_sim.study import native_arms
    from lowbit_sim.study.models import build

    why = missing_kernel(device) if emulated else native_arms.not_available(kind, device)
    if why is not None:
        return {"refused": why}
    network = build(model, 3, 10, size, seed=0)
    if emulated:
        gradients = lb.Rounding("stochastic", random_bits=8)
        spec = lb.OpSpec.uniform(lb.parse_format(kind), gradient_rounding=gradients)
        network = lb.convert(network, [lb.Rule("*", spec)])
    else:
        network = native_arms.as_trained(network, kind)
    extra = {} if emulated else native_arms.hyperparameters(kind)
    network = network.to(device)
    once = _trained(network, size, batch, min(number, 3), device, extra)
    if once.status != "completed":
        return {"refused": once.reason}
    number = epoch_steps(once.step_seconds, number, epoch_s)
    result = _trained(network, size, batch, number, device, extra)
    if result.status != "completed":
        return {"refused": result.reason}
    last, seconds = result.epochs[-1], result.step_seconds[number:]
    return {
        **times(seconds),
        "energy_per_step_j": None if last.energy_j is None else last.energy_j / last.steps,
        "peak_memory_mib": None if last.peak_memory_bytes is None else last.peak_memory_bytes / 2**20,
    }


def epoch_steps(seconds: Sequence[float], least: int, epoch_s: float) -> int:
    """Steps that take so many seconds, at least some, by the faster half of those timed before; at most 1000."""
    return max(least, min(1000, math.ceil(epoch_s / statistics.median_low(seconds))))


def times(seconds: Sequence[float]) -> Record:
    """Median and quartiles of the steps of an epoch."""
    return {
        "median_s": statistics.median(seconds),
        "quartiles_s": statistics.quantiles(seconds, n=4),
        "steps": len(seconds),
    }


def _trained(
    network: nn.Module, size: int, batch: int, number: int, device: torch.device, extra: dict[str, Any]
) -> TrainingResult:
    """Two epochs; the images are on the device before."""
    from lowbit_sim.training.examples import Examples
    from lowbit_sim.training.loop import train
    from lowbit_sim.training.settings import TrainingSettings

    generator = torch.Generator(device).manual_seed(0)
    images = torch.randn(batch * number, 3, size, size, generator=generator, device=device)
    targets = torch.randint(10, (batch * number,), generator=generator, device=device)
    examples = Examples(inputs=images, targets=targets)
    settings = TrainingSettings(epochs=2, batch_size=batch, learning_rate=0.01, **extra)
    return train(network, examples, examples.first(8), settings)


def _at_full_speed(
    model: str, size: int, batch: int, number: int, device: torch.device, kind: Any, epoch_s: float
) -> Record:
    from benchmarks.gpu.full_speed import step_seconds
    from lowbit_sim.study import native_arms
    from lowbit_sim.study.models import build
    from lowbit_sim.training.usage import UsageMeter

    if (why := native_arms.not_available(kind, device)) is not None:
        return {"refused": why}
    network = build(model, 3, 10, size, seed=0).to(device)
    autocast = None if kind is True else kind
    once = step_seconds(network, batch, size, 3, device, autocast)
    number = epoch_steps(once, number, epoch_s)
    meter = UsageMeter(device)
    meter.start()
    seconds = step_seconds(network, batch, size, number, device, autocast)
    used = meter.stop()
    peak = used.peak_memory_bytes
    return {
        **times(seconds),
        "energy_per_step_j": None if used.energy_j is None else used.energy_j / number,
        "peak_memory_mib": None if peak is None else peak / 2**20,
    }


TASKS = [
    Task(
        name=f"steps_{model}",
        summary=f"Native and emulated training steps of {model}, batch {batch}: time, energy, memory.",
        seconds=150,
        work=partial(steps, model, size, batch, number),
    )
    for model, size, batch, number in WORKLOADS
]
