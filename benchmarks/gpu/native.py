"""What the device itself does: exact products, native training steps, the accuracy of short native runs."""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F

from benchmarks.gpu.task import Record, Task


def exact_products(_: float) -> Record:
    """Whether the library products that proofs rely on are exact here, against int64 on the CPU."""
    torch.backends.cuda.matmul.allow_tf32 = False
    generator = torch.Generator().manual_seed(0)
    rows = []
    for m, k, n in ((32, 64, 32), (256, 576, 64), (1024, 1024, 1024), (4096, 288, 128)):
        for limit in (7, 127, 128):
            a = torch.randint(-limit, min(limit, 127) + 1, (m, k), dtype=torch.int8, generator=generator)
            b = torch.randint(-limit, min(limit, 127) + 1, (k, n), dtype=torch.int8, generator=generator)
            a[0], b[:, 0] = -limit, -limit
            expected = a.to(torch.int64) @ b.to(torch.int64)
            x, y = a.cuda(), b.cuda()
            products: dict[str, Callable[[], torch.Tensor]] = {
                "int_mm": lambda x=x, y=y: torch._int_mm(x, y),  # pyright: ignore
                "float32": lambda x=x, y=y: x.float() @ y.float(),
                "bfloat16": lambda x=x, y=y: _bfloat16_product(x, y),
            }
            for name, product in products.items():
                row = {"m": m, "k": k, "n": n, "limit": limit, "product": name}
                # The float products are proven exact below 2^24 only.
                row["proven"] = name == "int_mm" or k * limit * limit < 1 << 24
                row["equal"] = torch.equal(product().cpu().to(torch.int64), expected)
                rows.append(row)
    return {"rows": rows, "every_proven_product_is_exact": all(r["equal"] for r in rows if r["proven"])}


def _bfloat16_product(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """INT8 codes are bfloat16 values; the sum is formed, and returned, in float32."""
    return torch.mm(x.bfloat16(), y.bfloat16(), out_dtype=torch.float32)


MODES = {"float32": (False, None), "tf32": (True, None), "bfloat16": (True, torch.bfloat16)}


def native_steps(_: float) -> Record:
    """Time, energy and memory of native training steps of ResNet-20 and VGG-16 on 32x32 images."""
    from lowbit_sim.study.models import build

    rows = []
    for name, batch in (("resnet20", 128), ("vgg16", 128), ("vgg16", 256)):
        for mode in MODES:
            model = build(name, 3, 10, 32, seed=0).cuda()
            step = _stepper(model, mode)
            x, y = torch.randn(batch, 3, 32, 32).cuda(), torch.randint(10, (batch,)).cuda()
            rows.append({"model": name, "batch": batch, "mode": mode, **_timed(partial(step, x, y))})
    return {"rows": rows}


def _stepper(model: torch.nn.Module, mode: str, rate: float = 0.1) -> Callable[..., torch.Tensor]:
    tf32, dtype = MODES[mode]
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
    optimizer = torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9, weight_decay=5e-4)

    def step(x: torch.Tensor, y: torch.Tensor, scale: float = 1.0) -> torch.Tensor:
        optimizer.param_groups[0]["lr"] = rate * scale
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cuda", dtype=dtype) if dtype else contextlib.nullcontext():
            loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    return step


def _timed(step: Callable[[], Any], warm_up: int = 10, rounds: int = 50) -> Record:
    for _ in range(warm_up):
        step()
    torch.cuda.reset_peak_memory_stats()
    torch.cuda.synchronize()
    before, seconds = _energy_mj(), []
    for _ in range(rounds):
        start = time.perf_counter()
        step()
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    after = _energy_mj()
    joules = None if before is None or after is None else (after - before) / 1e3 / rounds
    return {
        "median_s": statistics.median(seconds),
        "quartiles_s": statistics.quantiles(seconds, n=4),
        "rounds": rounds,
        "energy_per_step_j": joules,
        "peak_memory_mib": round(torch.cuda.max_memory_allocated() / 2**20, 1),
    }


def _energy_mj() -> int | None:
    """The device's energy counter in mJ, or None where NVML can't read it."""
    try:
        import pynvml  # pyright: ignore[reportMissingImports]
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
        return pynvml.nvmlDeviceGetTotalEnergyConsumption(pynvml.nvmlDeviceGetHandleByIndex(0))
    except pynvml.NVMLError:
        return None


def native_accuracy(_: float) -> Record:
    """ResNet-20 on CIFAR-10 in float32 and bfloat16: 15 epochs, three seeds; the native side of emulated runs."""
    from lowbit_sim.study.data import load

    data = load("cifar10")
    runs = [_cifar_run(data, mode, seed) for mode in ("float32", "bfloat16") for seed in range(3)]
    summary = {}
    for mode in ("float32", "bfloat16"):
        accuracies = [run["test_accuracy"] for run in runs if run["mode"] == mode]
        summary[mode] = {"mean": statistics.mean(accuracies), "sd": statistics.stdev(accuracies)}
    return {"data": data.description, "epochs": EPOCHS, "runs": runs, "test_accuracy": summary}


EPOCHS = 15
BATCH = 128


def _cifar_run(data: Any, mode: str, seed: int) -> Record:
    from lowbit_sim.study.models import build

    model = build("resnet20", 3, 10, 32, seed=seed).cuda()
    step = _stepper(model, mode)
    x, y = data.train.inputs.cuda(), data.train.targets.cuda()
    order = torch.Generator().manual_seed(seed)
    start, done, total = time.perf_counter(), 0, EPOCHS * (len(x) // BATCH)
    for _ in range(EPOCHS):
        for index in torch.randperm(len(x), generator=order).cuda().split(BATCH)[: len(x) // BATCH]:
            step(x[index], y[index], scale=1 - done / total)
            done += 1
    seconds = time.perf_counter() - start
    model.eval()
    with torch.no_grad():
        parts = zip(data.test.inputs.split(1000), data.test.targets.split(1000), strict=True)
        correct = sum(int((model(a.cuda()).argmax(1).cpu() == b).sum()) for a, b in parts)
    accuracy = correct / len(data.test.inputs)
    return {"mode": mode, "seed": seed, "test_accuracy": accuracy, "seconds": seconds, "steps": done}


def _task(seconds: int, work: Callable[[float], Record]) -> Task:
    return Task(name=work.__name__, summary=(work.__doc__ or "").splitlines()[0], seconds=seconds, work=work)


#: Checks first, then timings, then accuracy.
TASKS = [_task(120, exact_products), _task(240, native_steps), _task(600, native_accuracy)]
