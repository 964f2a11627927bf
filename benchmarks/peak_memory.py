"""Peak memory of a training step of the small VGG, in a process of its own: `python -m benchmarks.peak_memory INT8`.

The operating system's figure, not an allocator's: the most that was resident during two steps, minus what was
resident before the model was made. A smaller model has trained a step by then, so that libraries and compiled kernels
are loaded and do not count. Linux alone can set a process's peak back.
"""

from __future__ import annotations

import gc
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def resident(field: str) -> int:
    """Bytes: "VmRSS" now, "VmHWM" at the peak."""
    found = re.search(rf"^{field}:\s+(\d+) kB$", STATUS.read_text(), re.MULTILINE)
    assert found, f"{STATUS} has no {field}"
    return 1024 * int(found[1])


def added_by(run: Callable[[], object]) -> int:
    """What the operating system saw a function add to the process's resident memory at its peak, in bytes."""
    gc.collect()
    CLEAR.write_text("5")  # see proc(5): the peak is set back to what is resident
    before = resident("VmRSS")
    run()
    return resident("VmHWM") - before


def main(arm: str) -> None:
    """Train and print the bytes."""
    from torch import nn

    from benchmarks.test_training_step import convert, step_of, vgg_small

    few = nn.Sequential(
        *list(vgg_small().children())[:3], nn.AdaptiveMaxPool2d(4), nn.Flatten(), nn.Linear(64 * 16, 10)
    )
    step_of(convert(few, arm), batch=2)()
    del few

    def two_steps() -> None:
        step = step_of(convert(vgg_small(), arm))
        step()
        step()

    print(json.dumps({"peak_bytes": added_by(two_steps)}))


if __name__ == "__main__":
    main(sys.argv[1])
