"""One process, from its start to the end of its first training step, as JSON: `python -m benchmarks.first_step int8`.

The seconds of `import torch`, of everything imported and built after it, of the first and of the second step, and
what numba compiled, kernel by kernel. Where its cache holds a kernel, nothing is compiled: NUMBA_CACHE_DIR decides
(an empty folder: a machine that runs this project for the first time).
"""

from __future__ import annotations

import json
import os
import sys
import time

# As `lowbit-sim` sets it: two OpenMP runtimes in one process, whose idle threads must not spin.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

BATCH = 64
UNTIL_FIRST_STEP = ("import torch", "imports and model", "first step")
ARMS = ("int8", "int4_stochastic", "int8_16-bit_saturating")


def main(arm: str) -> None:
    """Train two steps and print what they took."""
    marks = [time.perf_counter()]
    import torch  # noqa: F401

    marks.append(time.perf_counter())
    step = make_step(arm)
    marks.append(time.perf_counter())
    from numba.core.event import install_recorder

    with install_recorder("numba:compile") as compiled:
        step()
    marks.append(time.perf_counter())
    step()
    marks.append(time.perf_counter())
    names = (*UNTIL_FIRST_STEP, "second step")
    parts = {name: end - start for name, start, end in zip(names, marks, marks[1:], strict=False)}
    parts |= {f"compiling {name}": spent for name, spent in kernel_seconds(compiled.buffer).items()}
    print(json.dumps(parts))


def make_step(arm: str):
    """A training step of ResNet-20 on random images."""
    import torch
    import torch.nn.functional as F

    import lowbit_sim as lb
    from lowbit_sim.study.models import build

    spec = {
        "int8": lb.OpSpec.uniform(lb.INT8),
        "int4_stochastic": lb.OpSpec.uniform(
            lb.INT4, gradient_rounding=lb.Rounding("stochastic", random_bits=8)
        ),
        "int8_16-bit_saturating": lb.OpSpec.uniform(
            lb.INT8, mac=lb.MacUnit(accumulator_bits=16, overflow="saturate")
        ),
    }[arm]
    model = lb.convert(build("resnet20", 3, 10, 32, width=16), [lb.Rule("*", spec)])
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
    x, y = torch.randn(BATCH, 3, 32, 32), torch.randint(0, 10, (BATCH,))

    def step() -> None:
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()

    return step


def kernel_seconds(events: list) -> dict[str, float]:
    """Seconds of compiling each kernel, without those of the kernels that it calls; the longest first.

    Functions of numba's own count with the kernel that calls them.

    Args:
        events: Pairs of time and numba event, in order; a kernel's callees are compiled between its start and end.
    """
    spent: dict[str, float] = {}
    running: list[tuple[str, float, float]] = []  # name, start, seconds of callees
    for when, event in events:
        if _name(event).startswith("numba."):
            continue
        if event.is_start:
            running.append((_name(event), when, 0.0))
            continue
        name, start, inside = running.pop()
        spent[name] = spent.get(name, 0.0) + (when - start) - inside
        if running:
            caller, begun, before = running.pop()
            running.append((caller, begun, before + when - start))
    return dict(sorted(spent.items(), key=lambda item: -item[1]))


def _name(event) -> str:
    function = event.data["dispatcher"].py_func
    return f"{function.__module__}.{function.__qualname__}"


if __name__ == "__main__":
    main(sys.argv[1])
