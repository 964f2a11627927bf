"""Batch normalisations with a set of their own for full precision: affine parameters and running statistics.

A net whose blocks run now on a grid and now in full precision gives its norms inputs of two distributions. With one
set the running statistics, which an evaluation reads, mix both; with two each belongs to one of them. The set that a
module has of its own is that of the grid, which is what is deployed; the other one stands beside it as "full_weight",
"full_bias", "full_running_mean" and so on, and takes its place while the module runs in full precision.

A set for each precision is how nets of switchable width and bits are trained: Yu et al., "Slimmable Neural Networks",
ICLR 2019; Jin et al., "AdaBits", CVPR 2020.
"""

from __future__ import annotations

from typing import Any

from torch import nn

_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_OWN = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
_PREFIX = "full_"


class SplitNorm:
    """What switches one batch normalisation.

    Args:
        block: The block that it is in.

    Attributes:
        full: Whether its forward passes in training mode are those of full precision; evaluations never are.
    """

    def __init__(self, block: str) -> None:
        self.block, self.full = block, False
        self._swapped = False

    def before(self, norm: nn.Module, args: tuple[Any, ...]) -> None:
        """The forward pre-hook."""
        if self.full and norm.training:
            _swap(norm)
            self._swapped = True

    def after(self, norm: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        """The forward hook, which is called after an error too."""
        if self._swapped:
            _swap(norm)
            self._swapped = False


def split_norms(model: nn.Module, block: str) -> int:
    """Give the batch normalisations inside a block a second set, equal to their own at first.

    Args:
        model: The model.
        block: Path of a module.

    Returns:
        How many there are.
    """
    found = [
        m for m in model.get_submodule(block).modules() if isinstance(m, _NORMS) and norm_split(m) is None
    ]
    for norm in found:
        for name, parameter in list(norm._parameters.items()):
            copied = None if parameter is None else nn.Parameter(parameter.detach().clone())
            norm.register_parameter(_PREFIX + name, copied)
        for name, buffer in list(norm._buffers.items()):
            norm.register_buffer(_PREFIX + name, None if buffer is None else buffer.clone())
        split = SplitNorm(block)
        norm.register_forward_pre_hook(split.before)
        norm.register_forward_hook(split.after, always_call=True)
    return len(found)


def run_in_full(model: nn.Module, block: str, full: bool) -> None:
    """Whether the split norms of a block run on their sets for full precision, in training mode."""
    for module in model.modules():
        split = norm_split(module)
        if split is not None and split.block == block:
            split.full = full


def norm_split(norm: nn.Module) -> SplitNorm | None:
    """What switches a module, or None."""
    owners = (getattr(hook, "__self__", None) for hook in norm._forward_pre_hooks.values())
    return next((owner for owner in owners if isinstance(owner, SplitNorm)), None)


def _swap(norm: nn.Module) -> None:
    """Put each of the two sets in the place of the other."""
    held: list[Any] = [norm._parameters, norm._buffers]
    for members in held:
        for name in _OWN:
            if name in members:
                members[name], members[_PREFIX + name] = members[_PREFIX + name], members[name]
