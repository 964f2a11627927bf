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
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

import hw_models
import lowbit_sim
from lowbit_sim.study.checkout import checkout_state

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

#: Code that no number of a run passes through.
_NO_ARITHMETIC = ("cli", "testing")


def environment(started: datetime) -> dict[str, Any]:
    """Versions and machine: what another person needs to know to compare figures."""
    return {
        "started_utc": started.isoformat(timespec="seconds"),
        "python": sys.version.split()[0],
        "packages": {name: _version(name) for name in _PACKAGES},
        **checkout_state(Path(__file__), [_folder(lowbit_sim), _folder(hw_models)]),
        "code_sha256": code_digest(),
        "platform": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "logical_cores": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
    }


def deciding(known: Mapping[str, Any]) -> dict[str, str]:
    """What of an environment decides the bits of a run: the code, what computes for it, the processor and its use.

    Emulated layers give the same bits on any processor and with any number of threads; torch's own do not.
    """
    packages = known.get("packages", {})
    return {
        "code": str(known.get("code_sha256", "not known"))[:12],
        **{name: str(packages.get(name, "not known")) for name in _ARITHMETIC},
        "processor": str(known.get("processor", "not known")),
        "number of torch threads": str(known.get("torch_threads", "not known")),
    }


@cache
def code_digest() -> str:
    """SHA-256 of the Python code of both packages, the command line apart: equal code computes equal bits."""
    digest = hashlib.sha256()
    for folder in (_folder(lowbit_sim), _folder(hw_models)):
        for path in sorted(folder.rglob("*.py")):
            name = path.relative_to(folder)
            if name.parts[0] not in _NO_ARITHMETIC:
                digest.update(f"{folder.name}/{name.as_posix()}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()


def _folder(package: ModuleType) -> Path:
    return Path(str(package.__file__)).parent


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
