"""Whether what is installed also works: a minute that is spent before the queue, in a process of its own.

A module that can be found need not import, and a compiler that imports need not compile for the device.
"""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec

import torch

from benchmarks.gpu.task import ALWAYS, ROOT, tell

#: Seconds for all of it.
_SECONDS = 120


def start_preflight() -> str | None:
    """Run it in a process; why it failed, in a sentence, or None."""
    command = [sys.executable, "-m", "benchmarks.gpu", "--preflight"]
    try:
        code = subprocess.run(command, cwd=ROOT, timeout=_SECONDS).returncode
    except subprocess.TimeoutExpired:
        return f"the preflight took longer than {_SECONDS} s"
    return None if code == 0 else "the preflight failed, see above"


def preflight() -> str | None:
    """Try the modules that every task imports, and the compilers and counters that are installed.

    Returns:
        What does not work, in a sentence, or None. What is not installed at all only keeps those tasks back that
        need it.
    """
    modules = {name: lambda name=name: importlib.import_module(name) and None for name in ALWAYS}
    for name, trial in {**modules, **_TRIALS}.items():
        if name not in ALWAYS and find_spec(name) is None:
            tell(f"preflight: {name} is not installed")
            continue
        try:
            trial()
        except Exception as error:  # whatever a broken installation raises
            return f"{name} does not work here: {type(error).__name__}: {error}"[:500]
        tell(f"preflight: {name} {_version(name)} works")
    return None


def _version(name: str) -> str:
    return str(getattr(sys.modules.get(name), "__version__", ""))


def _numba() -> None:
    import numba

    if numba.njit(lambda x: x + 1)(1) != 2:
        raise RuntimeError("a compiled function gives a wrong sum")


def _triton() -> None:
    from benchmarks.gpu.preflight_kernel import doubled

    x = torch.arange(1000, device="cuda", dtype=torch.float32)
    if not torch.equal(doubled(x), 2 * x):
        raise RuntimeError("a compiled kernel gives wrong products")


def _nvml() -> None:
    from lowbit_sim.training.energy import energy_meter

    tell(f"preflight: energy: {energy_meter(torch.device('cuda', torch.cuda.current_device())).how}")


def _pydantic() -> None:
    import hw_models

    hw_models.load(hw_models.profile_names()[0])


_TRIALS: dict[str, Callable[[], None]] = {
    "numba": _numba,
    "triton": _triton,
    "pynvml": _nvml,
    "pydantic": _pydantic,
}
