"""Peak memory of two INT4 steps with a hypernetwork, in a process of its own.

    python -m benchmarks.peak_memory_metagrad fc_grad

A network of many weights and few activations, so that what the recipe keeps of each weight is most of the difference
to the plain step ("none").
"""

from __future__ import annotations

import json
import sys

from benchmarks.peak_memory import added_by


def main(hypernetwork: str) -> None:
    """Train and print the bytes, and how many weights there are."""
    from torch import nn

    from benchmarks.test_metagrad import INT4, step_of

    def dense(width: int) -> nn.Module:
        import lowbit_sim as lb

        layers = nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.ReLU(), nn.Linear(width, width))
        return lb.convert(nn.Sequential(*layers, nn.ReLU(), nn.Linear(width, 10)), [lb.Rule("*", INT4)])

    step_of(dense(64), 1, 8, hypernetwork)[0]()  # libraries and compiled kernels do not count
    weights = 0

    def two_steps() -> None:
        nonlocal weights
        model = dense(2048)
        weights = sum(p.numel() for p in model.parameters() if p.ndim > 1)
        run, recipe = step_of(model, 1, 8, hypernetwork)
        run()
        run()
        del recipe

    print(json.dumps({"peak_bytes": added_by(two_steps), "weights": weights}))


if __name__ == "__main__":
    main(sys.argv[1])
