"""The element-wise rule on a module, or on a layer's activations: torch's forward hooks round what goes through it.

The module stays what it is (its class, attributes and state_dict keys); `convert` adds two hooks to it and `restore`
takes them away. The input's hook runs after the module's other ones and the output's before them, so that they see
what the module reads and returns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor, nn

from lowbit_sim.nn.emulation import EmulatedLayer, eager
from lowbit_sim.nn.recomputation import RecomputationError, is_repeated, next_step
from lowbit_sim.numerics.random import Stream
from lowbit_sim.ops.elementwise import ElementwiseSpec, round_gradient, round_output
from lowbit_sim.ops.operand import CallSite, ScaleStates
from lowbit_sim.ops.shard import Shard


class ElementwiseRounding:
    """What rounds one module's output and the gradient of its input.

    Args:
        spec: The numerics.
        layer: The module's path, for messages and traces.
        seed: The seed of its random bits.
        site: Its number among the modules without GEMMs, which addresses its random bits.

    Attributes:
        random_step: How many training forward passes the module has made.
        scale_states: Running scales, for scale rules that look at past steps.
        shard: This process' slice of the batch, or None for the whole batch.

    Raises:
        ValueError: A seed or site that is not an unsigned integer of 32 bits.
    """

    def __init__(self, spec: ElementwiseSpec, layer: str, seed: int, site: int) -> None:
        Stream(seed=seed, site=site)  # refuses what could not address random bits later
        self.spec, self.layer, self.seed, self.site = spec, layer, seed, site
        self.random_step = 0
        self.scale_states: ScaleStates = {}
        self.shard: Shard | None = None
        self._at = CallSite()

    def before(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
        """The forward pre-hook: where this call runs, and inputs whose gradients will be rounded."""
        return eager(ElementwiseRounding._before, self, module, args, kwargs)

    def _before(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        output = self.spec.output
        if output is not None and output.is_stateful and is_repeated():
            raise RecomputationError(
                f"module {self.layer!r} runs forward inside a backward pass (activation checkpointing), but its "
                "output has a running scale, which has moved on since: use a scale without a memory"
            )
        depends = output is not None and output.rounding.is_stochastic
        step = next_step(self, module.training, depends, self.layer)
        for state in self.scale_states.values():
            state.frozen = not module.training  # an evaluation must not move running scales
        self._at = CallSite(
            layer=self.layer,
            seed=self.seed,
            step=step,
            site=self.site,
            states=self.scale_states,
            shard=self.shard,
        )
        in_place = bool(getattr(module, "inplace", False))
        return _each_float(
            (args, kwargs), lambda x, i: round_gradient(x, self.spec, self._at, i, in_place=in_place)
        )

    def after(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        """The forward hook: the output in its format."""
        return eager(ElementwiseRounding._after, self, output)

    def _after(self, output: Any) -> Any:
        return _each_float(output, lambda y, i: round_output(y, self.spec, self._at, i))


def _each_float(value: Any, change: Callable[[Tensor, int], Tensor]) -> Any:
    """Change every floating-point tensor in nested tuples, lists and dicts; the i-th is passed its number i."""
    counter = iter(range(1 << 20))

    def visit(v: Any) -> Any:
        if isinstance(v, Tensor):
            return change(v, next(counter)) if v.is_floating_point() else v
        if isinstance(v, tuple) and hasattr(v, "_fields"):  # a named tuple takes its fields one by one
            return type(v)(*map(visit, v))
        if type(v) in (tuple, list):
            return type(v)(map(visit, v))
        if isinstance(v, dict):
            # In place of a copy's constructor, which a subclass (a model's output class) may have changed.
            changed = {key: visit(item) for key, item in v.items()}
            if type(v) is dict:
                return changed
            for key, item in changed.items():
                v[key] = item
        return v

    return visit(value)


def attach(module: nn.Module, rounding: ElementwiseRounding) -> None:
    """Round what goes through a module from now on."""
    module.register_forward_pre_hook(rounding.before, with_kwargs=True)
    module.register_forward_hook(rounding.after, prepend=True)


def attached(module: nn.Module) -> ElementwiseRounding | None:
    """What rounds a module, or None."""
    return next((owner for hook in module._forward_hooks.values() if (owner := _owner(hook))), None)


def attachments(model: nn.Module) -> Iterator[tuple[str, ElementwiseRounding]]:
    """What rounds modules, by path; that of an emulated layer, which has a state of its own, is "path#output"."""
    for path, module in model.named_modules():
        rounding = attached(module)
        if rounding is not None:
            yield (f"{path}#output" if isinstance(module, EmulatedLayer) else path), rounding


def detach(module: nn.Module) -> None:
    """Take the rounding of a module away; the module's other hooks stay."""
    for hooks, flags in (
        (module._forward_hooks, (module._forward_hooks_with_kwargs, module._forward_hooks_always_called)),
        (module._forward_pre_hooks, (module._forward_pre_hooks_with_kwargs,)),
    ):
        for key in [key for key, hook in hooks.items() if _owner(hook)]:
            del hooks[key]
            for flag in flags:
                flag.pop(key, None)


def _owner(hook: Any) -> ElementwiseRounding | None:
    owner = getattr(hook, "__self__", None)
    return owner if isinstance(owner, ElementwiseRounding) else None
