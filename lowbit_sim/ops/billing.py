"""Who puts work on record, and what counts as kept for the backward pass.

An operator that emits its own events is marked with `bills_itself`: what it calls inside is its own matter, and
whoever watches torch's functions (`training.native_events`) looks away meanwhile.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import ParamSpec, TypeVar

from torch import Tensor

from lowbit_sim.ops.stored import following, memory_bytes

_P = ParamSpec("_P")
_R = TypeVar("_R")

_entered: list[str] = []


def bills_itself(operator: Callable[_P, _R]) -> Callable[_P, _R]:
    """Mark an operator that emits the events of all that it runs."""

    @functools.wraps(operator)
    def run(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        _entered.append(operator.__name__)
        try:
            return operator(*args, **kwargs)
        finally:
            _entered.pop()

    return run


def billed_inside() -> bool:
    """Whether an operator that emits its own events is running."""
    return bool(_entered)


@dataclass
class _Kept:
    """The tensors that a step keeps so far, by their storage; they are held, so that no storage is used again."""

    tensors: dict[int, Tensor] = field(default_factory=dict)
    originals: dict[int, Tensor] = field(default_factory=dict)
    copies: list[Tensor] = field(default_factory=list)


_steps: list[_Kept] = []


@contextmanager
def kept_once() -> Iterator[None]:
    """Follow a step: count each tensor that is kept for the backward pass once, however many operators keep it."""
    _steps.append(_Kept())
    try:
        with following():
            yield
    finally:
        _steps.pop()


def stands_for(copy: Tensor, original: Tensor) -> None:
    """Tell that what is kept of a copy is the original: of one without data, or of one that a machine has rounded."""
    if _steps and _storage(copy) != _storage(original):
        _steps[-1].originals[_storage(copy)] = original
        _steps[-1].copies.append(copy)


def kept_bytes(tensor: Tensor) -> int:
    """Bytes that keeping a tensor takes as it is stored: 0 if it is kept already, no more than its storage holds."""
    if not _steps:
        return _size(tensor)
    step = _steps[-1]
    size, original = _size(tensor), tensor
    while _storage(original) in step.originals:
        original = step.originals[_storage(original)]
        size = min(size, _size(original))
    if _storage(original) in step.tensors:
        return 0
    step.tensors[_storage(original)] = original
    return size


def _size(tensor: Tensor) -> int:
    return min(memory_bytes(tensor), tensor.untyped_storage().nbytes())


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata
