"""Steps of random bits under activation checkpointing: a repeated forward pass draws what the first one drew.

torch.utils.checkpoint runs a function in the forward pass and repeats it in the backward pass. Both passes belong to
one region, an object that torch makes for each use of checkpoint: the autograd context of `CheckpointFunction`
(use_reentrant=True) or the `_CheckpointFrame` (use_reentrant=False). A call finds the regions it runs in on the
Python stack:

| where the call runs          | its step                                                                       |
|------------------------------|--------------------------------------------------------------------------------|
| in no region                 | the layer's next one                                                           |
| in a region's first pass     | the layer's next one, written in the region's log                              |
| in a region's repeated pass  | that of the k-th call of this layer in the log, for its k-th call in this pass |

A region inside a repeated region is a new one whose first pass is itself a repetition: its log takes the repeated
steps, so any nesting works. A repetition may stop early (torch leaves out what nobody needs); the calls before that
have the same numbers. A log lives as long as its region.

A forward pass inside of a backward pass that is in no region's repeated pass is not known to be one or the other:
where its bits would depend on it, it is refused.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from types import CodeType, FrameType
from typing import Any, Protocol
from weakref import WeakKeyDictionary

import torch
import torch.utils.checkpoint


class RecomputationError(RuntimeError):
    """A forward pass inside of a backward pass whose random bits, or running scales, can't be told."""


class Counted(Protocol):
    """What draws random bits step by step: a layer, or the rounding of a module's output."""

    random_step: int


@dataclass
class _Log:
    """The steps of a region's first pass, by caller, and how far a repetition has come.

    Attributes:
        steps: The steps of each caller's calls, in order.
        backward: The backward pass that the counts are of.
        calls: Calls of each caller in the repeated pass so far.
    """

    steps: dict[int, list[int]] = field(default_factory=lambda: defaultdict(list))
    backward: int = -1
    calls: Counter[int] = field(default_factory=Counter)

    def repeated(self, caller: int, backward: int) -> int | None:
        """The step of the caller's next call in a repeated pass, or None if the first pass had no such call."""
        if backward != self.backward:
            self.backward, self.calls = backward, Counter()
        number = self.calls[caller]
        self.calls[caller] += 1
        steps = self.steps.get(caller, [])
        return steps[number] if number < len(steps) else None


_LOGS: WeakKeyDictionary[Any, _Log] = WeakKeyDictionary()


@dataclass(frozen=True)
class _Pass:
    """A pass over a checkpointed region that is in progress.

    Attributes:
        region: torch's object.
        repeated: Whether it is a repeated pass.
        differentiable: Whether a first pass that runs without gradients will be repeated with them.
    """

    region: Any
    repeated: bool
    differentiable: bool = False


def next_step(caller: Counted, training: bool, depends: bool, name: str) -> int:
    """The step whose random bits a call draws; a training call moves the caller's counter on.

    Args:
        caller: Who draws.
        training: Whether it is in training mode.
        depends: Whether a repeated call that did not find its first one would have another result.
        name: The layer, for messages.

    Raises:
        RecomputationError: The call runs inside of a backward pass, `depends`, and its first call is not known.
    """
    passes, backward = _passes(), torch._C._current_graph_task_id()
    depth = next((i for i, p in enumerate(passes) if p.repeated), len(passes))
    step = None
    if depth < len(passes) and backward != -1:
        step = _LOGS.get(passes[depth].region, _Log()).repeated(id(caller), backward)
    if step is None:
        if depends and (backward != -1 or depth < len(passes)):
            raise _unknown(name)
        step = caller.random_step
        if training and (torch.is_grad_enabled() or any(p.differentiable for p in passes[:depth])):
            caller.random_step += 1
    for p in passes[:depth]:
        _LOGS.setdefault(p.region, _Log()).steps[id(caller)].append(step)
    return step


def checkpoint_depth() -> int:
    """How many checkpointed regions the current call runs in, one inside the other."""
    return len(_passes())


def is_repeated() -> bool:
    """Whether the current call runs inside of a backward pass, so that it may repeat another one."""
    return torch._C._current_graph_task_id() != -1


def _unknown(name: str) -> RecomputationError:
    return RecomputationError(
        f"layer {name!r} runs forward inside a backward pass, rounds its forward operands stochastically (or by "
        "running scales), and is not found to repeat a call under torch.utils.checkpoint: which random bits it "
        "should draw is not known. Round the forward operands to nearest, or use torch.utils.checkpoint.checkpoint"
    )


def _passes() -> list[_Pass]:
    """The passes over checkpointed regions that the current call runs in, innermost first."""
    found: list[_Pass] = []
    frame: FrameType | None = sys._getframe(2)
    codes = _codes()
    while frame is not None:
        kind = codes.get(frame.f_code)
        if kind is not None:
            current = _pass_of(kind, frame)
            if current is not None:
                found.append(current)
        frame = frame.f_back
    return found


def _pass_of(kind: str, frame: FrameType) -> _Pass | None:
    names = frame.f_locals
    match kind:
        case "reentrant first":
            # A context without edges records no gradient: nothing will be repeated.
            return _Pass(
                names["ctx"], False, any(edge[0] is not None for edge in names["ctx"].next_functions)
            )
        case "reentrant repeated":
            return _Pass(names["ctx"], True)
        case "first":
            generator = names.get("gen")  # unset where checkpoint() runs the reentrant kind
            suspended = generator.gi_frame if generator is not None else None
            region = suspended.f_locals.get("new_frame") if suspended is not None else None
            return None if region is None else _Pass(region, False)
        case _:
            return _Pass(names["frame"], True)


@functools.cache
def _codes() -> dict[CodeType, str]:
    """The functions of torch that run the passes, by their code.

    A torch that names them otherwise leaves regions unfound, and repeated calls are refused.
    """
    module = torch.utils.checkpoint
    function = module.CheckpointFunction
    codes = {
        function.forward.__code__: "reentrant first",
        function.backward.__code__: "reentrant repeated",
        inspect.unwrap(module.checkpoint).__code__: "first",
    }
    hook = getattr(module, "_checkpoint_hook", None)
    for constant in hook.__init__.__code__.co_consts if hook is not None else ():
        if isinstance(constant, CodeType) and constant.co_name == "unpack_hook":
            codes[constant] = "repeated"
    return codes
