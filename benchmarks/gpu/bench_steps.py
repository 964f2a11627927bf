"""Training steps on this device: native arms and emulated ones, in one table of time, energy and memory.

The steps are those of `lowbit-sim compare`, taken by the same clocks: two epochs of random images, of which the
second counts. ResNet-18 and -50 run on images of ImageNet's size. An arm that would start in the second half of the
task's time is left out, and its row says so.
"""

from __future__ import annotations

import statistics
import time
from functools import partial
from typing import Any

import torch
from torch import nn

from benchmarks.gpu.task import Record, Task, tell

#: Model, image size, batch and steps of an epoch.
WORKLOADS = (
    ("resnet20", 32, 256, 30),
    ("vgg16", 32, 256, 20),
    ("resnet18", 224, 256, 8),
    ("resnet50", 224, 256, 6),
)

NATIVE = (True, "tf32", "bf16", "fp16", "int8")
EMULATED = ("int8", "int4")


def steps(model: str, size: int, batch: int, number: int, seconds: float, device: str = "cuda") -> Record:
    """Every arm's step of one model.

    Args:
        model: Its name.
        size: Height and width of the images.
        batch: Images in a step.
        number: Steps of an epoch.
        seconds: Time limit of the task.
        device: Where it trains.
    """
    where, started = torch.device(device), time.monotonic()
    rows: list[dict[str, Any]] = []
    for emulated, kinds in ((False, NATIVE), (True, EMULATED)):
        for kind in kinds:
            name = f"{'emulated' if emulated else 'native'} {'fp32' if kind is True else kind}"
            if time.monotonic() - started > seconds / 2:
                row = {"refused": "no time left"}
            else:
                row = _tried(partial(_arm, model, size, batch, number, where, kind, emulated))
            tell(f"{model}, {name}: {row}")
            rows.append({"arm": name, **row})
    fp32 = rows[0].get("median_s")
    for row in rows:
        row["over_fp32"] = row["median_s"] / fp32 if fp32 and "median_s" in row else None
    return {"model": model, "image": size, "batch": batch, "rows": rows}


def _tried(work: Any) -> dict[str, Any]:
    """What an arm gives, or why it gives nothing; the others go on."""
    try:
        return work()
    except (RuntimeError, ValueError, TypeError) as error:
        return {"refused": f"{type(error).__name__}: {error}"[:500]}


def _arm(
    model: str, size: int, batch: int, number: int, device: torch.device, kind: Any, emulated: bool
) -> dict[str, Any]:
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
    return _timed(network.to(device), size, batch, number, extra)


def _timed(network: nn.Module, size: int, batch: int, number: int, extra: dict[str, Any]) -> dict[str, Any]:
    from lowbit_sim.training.examples import Examples
    from lowbit_sim.training.loop import train
    from lowbit_sim.training.settings import TrainingSettings

    generator = torch.Generator().manual_seed(0)
    images = torch.randn(batch * number, 3, size, size, generator=generator)
    examples = Examples(inputs=images, targets=torch.randint(10, (batch * number,), generator=generator))
    settings = TrainingSettings(epochs=2, batch_size=batch, learning_rate=0.01, **extra)
    result = train(network, examples, examples.first(8), settings)
    if result.status != "completed":
        return {"refused": result.reason}
    last, seconds = result.epochs[-1], result.step_seconds[number:]
    return {
        "median_s": statistics.median(seconds),
        "quartiles_s": statistics.quantiles(seconds, n=4),
        "steps": len(seconds),
        "energy_per_step_j": None if last.energy_j is None else last.energy_j / last.steps,
        "peak_memory_mib": None if last.peak_memory_bytes is None else last.peak_memory_bytes / 2**20,
    }


TASKS = [
    Task(
        name=f"steps_{model}",
        summary=f"Native and emulated training steps of {model}, batch {batch}: time, energy, memory.",
        seconds=300,
        work=partial(steps, model, size, batch, number),
    )
    for model, size, batch, number in WORKLOADS
]
