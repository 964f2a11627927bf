"""That a kernel on disk is used as long as none of its sources changes, and no longer."""

import os
import re
import sys
from pathlib import Path
from types import ModuleType

import numba
import pytest
from numba.core import config

from lowbit_sim.numerics import kernel_cache

ROOT = Path(__file__).parents[2]

KERNEL = """
from lowbit_sim.numerics.kernel_cache import cached
from lowbit_sim.step_of_a_test import (
    STEP,
    step,
)

@cached()
def kernel(x):
    return step(x) + STEP
"""

STEP = """
import numba

STEP = {constant}

@numba.njit
def step(x):
    return x * {factor}
"""


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A folder whose `lowbit_sim` holds nothing but a kernel and what it is made of."""
    (tmp_path / "lowbit_sim").mkdir()
    (tmp_path / "lowbit_sim" / "kernel_of_a_test.py").write_text(KERNEL)
    monkeypatch.setattr(config, "CACHE_DIR", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    return tmp_path


def load(package: Path, monkeypatch: pytest.MonkeyPatch, constant: int, factor: int) -> ModuleType:
    """The kernel's module as a new process would import it, once its other source reads so."""
    (package / "lowbit_sim" / "step_of_a_test.py").write_text(STEP.format(constant=constant, factor=factor))
    for function in (kernel_cache._text, kernel_cache._imported, kernel_cache.source_digest):
        function.cache_clear()
    for name in ("lowbit_sim.step_of_a_test", "lowbit_sim.kernel_of_a_test"):
        path = package.joinpath(*name.split(".")).with_suffix(".py")
        # Compiled here: byte code on disk is told apart by a time in seconds and the size.
        module = ModuleType(name)
        module.__file__ = str(path)
        monkeypatch.setitem(sys.modules, name, module)
        exec(compile(path.read_text(), str(path), "exec"), module.__dict__)
    return sys.modules["lowbit_sim.kernel_of_a_test"]


def hits(module: ModuleType) -> int:
    return sum(module.kernel.stats.cache_hits.values())


def test_another_file_of_a_kernel_changes(package, monkeypatch):
    first = load(package, monkeypatch, constant=1, factor=2)
    assert (first.kernel(10), hits(first)) == (21, 0)
    again = load(package, monkeypatch, constant=1, factor=2)
    assert (again.kernel(10), hits(again)) == (21, 1)
    function = load(package, monkeypatch, constant=1, factor=3)
    assert (function.kernel(10), hits(function)) == (31, 0)
    constant = load(package, monkeypatch, constant=4, factor=3)
    assert (constant.kernel(10), hits(constant)) == (34, 0)
    back = load(package, monkeypatch, constant=1, factor=2)
    assert (back.kernel(10), hits(back)) == (21, 1)


def test_few_folders_are_kept(package, monkeypatch):
    for constant in range(kernel_cache._KEPT + 3):
        assert load(package, monkeypatch, constant, factor=1).kernel(5) == 5 + constant
    kept = list(
        (package / "lowbit_sim" / "__pycache__" / "kernels" / "lowbit_sim.kernel_of_a_test").iterdir()
    )
    assert len(kept) == kernel_cache._KEPT
    newest = load(package, monkeypatch, constant, factor=1)
    assert (newest.kernel(5), hits(newest)) == (5 + constant, 1)


def test_where_kernels_are_kept(package, monkeypatch):
    def folder() -> Path:
        return Path(load(package, monkeypatch, 1, 2).kernel.stats.cache_path)

    beside = package / "lowbit_sim" / "__pycache__" / "kernels"
    assert folder().is_relative_to(beside)
    blocked = package / "lowbit_sim" / "__pycache__"
    os.rename(blocked, package / "moved")
    blocked.write_text("a file, in which no folder can be made")
    assert folder().is_relative_to(package / "user" / "lowbit_sim")
    monkeypatch.setattr(config, "CACHE_DIR", str(package / "chosen"))
    assert folder().is_relative_to(package / "chosen")
    assert str(package / "chosen") == config.CACHE_DIR


def test_no_folder_can_be_written(package, monkeypatch):
    (package / "lowbit_sim" / "__pycache__").write_text("a file")
    (package / "user").write_text("a file")
    module = load(package, monkeypatch, 1, 2)
    assert module.kernel(10) == 21
    assert not module.kernel.stats.cache_path


def test_a_signature_is_the_only_one():
    @kernel_cache.cached(signature="float64(float64)")
    def half(x):
        return x / 2

    assert half.signatures == [(numba.float64,)]  # pyright: ignore
    with pytest.raises(TypeError):
        half("a")


@pytest.mark.parametrize(
    ("module", "sources"),
    [
        (
            "arith.backends.tile_kernel",
            ["arith.backends.lanes", "arith.backends.tile_ir"],
        ),
        ("arith.lanes_kernel", ["arith.lanes", "arith.lanes_draws", "arith.lanes_plan", "numerics.random"]),
        ("numerics.integer_lanes", ["numerics.lanes", "numerics.philox_kernel", "numerics.random"]),
        ("numerics.kernels", ["numerics.philox_kernel", "numerics.rounding"]),
        ("ops.direct_conv.layout_kernel", ["ops.direct_conv.tile_ir", "ops.direct_conv.grid"]),
    ],
    ids=["tile", "lanes", "integers", "elements", "layout"],
)
def test_sources_of_kernels(module, sources):
    def file(name: str) -> Path:
        return ROOT.joinpath("lowbit_sim", *name.split(".")).with_suffix(".py")

    expected = {file(name) for name in (*sources, "numerics.kernel_cache")}
    assert expected <= kernel_cache._sources(file(module), ROOT)


def test_every_kernel_on_disk_is_kept_so():
    """No other way to numba's cache is left in the packages."""
    files = [path for package in ("lowbit_sim", "hw_models") for path in (ROOT / package).rglob("*.py")]
    assert len(files) > 100
    using = [p.name for p in files if re.search(r"jit\([^)]*\bcache=True", p.read_text(encoding="utf-8"))]
    assert using == ["kernel_cache.py"]
