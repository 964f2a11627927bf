"""Compiled kernels on disk, in a folder of their own for each state of the sources that they are made of.

numba compiles a kept function anew when the file that holds it has changed, but not for a change in another file:
of a function or an instruction that was compiled into it, or of a constant. So the folder's name has a digest of the
file and of all files of this project that it imports, directly or not:

    <cache>/<module>/<digest>/

<cache> is `NUMBA_CACHE_DIR` where that is set, else `__pycache__/kernels` of the top package, or a folder in the
user's cache where that can't be written. `numba.config.CACHE_DIR` is changed only while a function is decorated, so
that functions outside of this project are kept where they were.
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numba
from numba.core import config

_Function = TypeVar("_Function", bound=Callable[..., Any])

#: Packages whose files count as sources.
_PACKAGES = ("lowbit_sim", "hw_models")

#: Folders kept of a module: those of a few versions or branches that take turns.
_KEPT = 4

#: `from module import names`, the names perhaps in parentheses, or `import module`.
_IMPORT = re.compile(
    rf"^[ \t]*(?:from|import)[ \t]+((?:{'|'.join(_PACKAGES)})[\w.]*)(?:[ \t]+import[ \t]+(\([^)]*\)|[^\n]*))?",
    re.MULTILINE,
)

_lock = threading.Lock()


def cached(*, signature: str | None = None, **options: Any) -> Callable[[_Function], _Function]:
    """`numba.njit` of a function that is kept on disk as long as none of its sources changes.

    Where no folder can be written, the function is compiled once for each process.

    Args:
        signature: The only types that it takes, for which it is compiled at once; by default those of each call.
        options: Of `numba.njit`, other than `cache`.
    """

    def decorate(function: _Function) -> _Function:
        folder = _folder(Path(function.__code__.co_filename), function.__module__)
        if folder is None:
            kernel: Any = numba.njit(**options)(function)
        else:
            with _kept_in(folder):
                kernel = numba.njit(cache=True, **options)(function)
        if signature is not None:
            kernel.compile(signature)
            kernel.disable_compile()
        return kernel

    return decorate


@contextmanager
def _kept_in(folder: Path) -> Iterator[None]:
    """numba reads the folder's name when a function is decorated, and never again for that function."""
    with _lock:
        before = config.CACHE_DIR  # pyright: ignore[reportAttributeAccessIssue]
        config.CACHE_DIR = str(folder)  # pyright: ignore[reportAttributeAccessIssue]
        try:
            yield
        finally:
            config.CACHE_DIR = before  # pyright: ignore[reportAttributeAccessIssue]


def _folder(file: Path, module: str) -> Path | None:
    """The folder of a module's kernels, made if need be; None where none can be written."""
    root = file.parents[module.count(".")]
    for cache in _places(root / module.split(".")[0]):
        folder = cache / module / source_digest(file, root)
        try:
            _make(folder)
        except OSError:
            continue
        if os.access(folder, os.W_OK):
            return folder
    return None


def _places(package: Path) -> list[Path]:
    chosen: str = config.CACHE_DIR  # pyright: ignore[reportAttributeAccessIssue]
    if chosen:
        return [Path(chosen)]
    of_user = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return [package / "__pycache__" / "kernels", of_user / "lowbit_sim" / "kernels"]


def _make(folder: Path) -> None:
    """Make the folder and remove all but the newest of the same module."""
    if folder.is_dir():
        return
    folder.mkdir(parents=True, exist_ok=True)
    for old in sorted(folder.parent.iterdir(), key=_made, reverse=True)[_KEPT:]:
        if old != folder:
            shutil.rmtree(old, ignore_errors=True)


def _made(folder: Path) -> float:
    """When a folder was last changed; another process may have removed it."""
    try:
        return folder.stat().st_mtime
    except OSError:
        return 0.0


@functools.cache
def source_digest(file: Path, root: Path) -> str:
    """A digest of a file and of all files below `root` that it imports, directly or not."""
    digest = hashlib.sha256()
    for path in sorted(_sources(file, root)):
        digest.update(f"{path.relative_to(root)}\0".encode() + _text(path).encode() + b"\0")
    return digest.hexdigest()[:16]


def _sources(file: Path, root: Path) -> set[Path]:
    found, waiting = {file}, [file]
    while waiting:
        new = _imported(waiting.pop(), root) - found
        found |= new
        waiting += new
    return found


@functools.cache
def _imported(file: Path, root: Path) -> frozenset[Path]:
    """The files that one file imports; an imported name may be a module or something in the package's file."""
    modules = set()
    for module, names in _IMPORT.findall(_text(file)):
        modules |= {module, *(f"{module}.{name}" for name in re.findall(r"\w+", names))}
    stems = [root.joinpath(*module.split(".")) for module in modules]
    candidates = [path for stem in stems for path in (stem.with_suffix(".py"), stem / "__init__.py")]
    return frozenset(path for path in candidates if path.is_file())


@functools.cache
def _text(file: Path) -> str:
    return file.read_text(encoding="utf-8")
