"""What the benchmarks share: peers that may not be installed are rows of the table, not errors."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

MISSING = pytest.StashKey[list[dict[str, str]]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[MISSING] = []


@pytest.fixture
def peer(pytestconfig: pytest.Config) -> Callable[..., ModuleType]:
    """`peer("qtorch.quant", work=..., case=..., implementation=...)`: the module, or a row "not installed"."""

    def imported(module: str, *, work: str, implementation: str, case: str = "") -> ModuleType:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # what a peer says at its import is not this project's
                return importlib.import_module(module)
        except (ImportError, RuntimeError) as error:  # qtorch compiles at its import, and may fail at it
            why = str(error).splitlines()[0]
            row = {"work": work, "case": case, "implementation": implementation, "why": why}
            pytestconfig.stash[MISSING].append(row)
            pytest.skip(f"{implementation}: {why}")

    return imported


def pytest_benchmark_update_json(
    config: pytest.Config, benchmarks: list[Any], output_json: dict[str, Any]
) -> None:
    """What was missing goes into the report."""
    output_json["missing"] = config.stash[MISSING]
