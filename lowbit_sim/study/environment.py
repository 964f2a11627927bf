"""The versions and the machine that a run's figures hold for, and what of them decides its bits."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import sys
from collections.abc import Mapping
from datetime import datetime
from functools import cache
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from lowbit_sim.study.checkout import checkout_state
from lowbit_sim.training.device import CPU, device_name

_PACKAGES = (
    "lowbit-sim",
    "torch",
    "numpy",
    "numba",
    "pydantic",
    "safetensors",
    "scikit-learn",
    "pyarrow",
    "pillow",
)

#: Packages whose arithmetic a run's numbers pass through.
_ARITHMETIC = ("torch", "numpy", "numba")

#: The packages of ours that a run's numbers pass through.
_CODE = ("lowbit_sim", "hw_models")

#: Code that no number of a run passes through.
_NO_ARITHMETIC = ("cli", "testing")


def environment(started: datetime, device: torch.device = CPU) -> dict[str, Any]:
    """Versions and machine: what another person needs to know to compare figures.

    Args:
        started: When the run started.
        device: What it trains on.
    """
    return {
        "started_utc": started.isoformat(timespec="seconds"),
        "python": sys.version.split()[0],
        "packages": {name: _version(name) for name in _PACKAGES},
        **checkout_state(Path(__file__), [_folder(name) for name in _CODE]),
        "code_sha256": code_digest(),
        "platform": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "logical_cores": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "device": device_name(device),
        **(_cuda(device) if device.type == "cuda" else {}),
    }


def hardware_name(device: torch.device) -> str:
    """What computes: the name of the accelerator, or of the processor."""
    return _processor() if device.type == "cpu" else device_name(device)


def _cuda(device: torch.device) -> dict[str, Any]:
    """What else a CUDA device's figures hold for."""
    known = torch.cuda.get_device_properties(device)
    return {
        "device_memory_gib": round(known.total_memory / 2**30, 1),
        "multiprocessors": known.multi_processor_count,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
    }


def deciding(known: Mapping[str, Any]) -> dict[str, str]:
    """What of an environment decides the bits of a run: the code, what computes for it, the processor and its use.

    Emulated layers give the same bits on any processor and with any number of threads; torch's own do not. Of a run
    on another device than the CPU, the device decides in place of the processor.
    """
    device = str(known.get("device", "cpu"))
    computes = {"device": device}
    if device == "cpu":
        computes["processor"] = str(known.get("processor", "not known"))
        computes["number of torch threads"] = str(known.get("torch_threads", "not known"))
    packages = known.get("packages", {})
    return {
        "code": str(known.get("code_sha256", "not known"))[:12],
        **{name: str(packages.get(name, "not known")) for name in _ARITHMETIC},
        **computes,
    }


@cache
def code_digest() -> str:
    """SHA-256 of the Python code of both packages, the command line apart: equal code computes equal bits."""
    digest = hashlib.sha256()
    for folder in map(_folder, _CODE):
        for path in sorted(folder.rglob("*.py")):
            name = path.relative_to(folder)
            if name.parts[0] not in _NO_ARITHMETIC:
                digest.update(f"{folder.name}/{name.as_posix()}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()


def _folder(package: str) -> Path:
    """Where a package of ours lies; it is not imported, so that versions can be had without what it needs."""
    spec = find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed as a package"


def _processor() -> str:
    """The processor's name; Linux keeps it in a file, where `platform` does not look."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor() or platform.machine()
    match = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return match.group(1) if match else platform.machine()
