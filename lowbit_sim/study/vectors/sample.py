"""A layer with the tensors of one training step: random ones, or those of a model's first step on a data set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lowbit_sim.arith.spec import OpSpec
from lowbit_sim.nn.convert import convert
from lowbit_sim.nn.rules import Rule
from lowbit_sim.study.data import load
from lowbit_sim.study.errors import StudyError
from lowbit_sim.study.models import build

#: Sizes of a layer of random numbers: a few dozen elements.
DEFAULT_SIZES = {"linear": "2,3,4", "conv2d": "1,1,3,3,2,3"}


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A layer with what a training step gave it: the input, and the gradient of its output.

    Attributes:
        name: Its name in the file.
        layer: An `nn.Linear` or `nn.Conv2d`.
        x: Its input.
        grad_output: The gradient of its output.
    """

    name: str
    layer: nn.Module
    x: Tensor
    grad_output: Tensor


def random_sample(kind: str, sizes: str, seed: int) -> Sample:
    """A layer of one of the `DEFAULT_SIZES` kinds with random numbers, from sizes with commas between.

    Raises:
        StudyError: Sizes that the layer does not take.
    """
    parts = sizes.split(",")
    numbers = [int(part) for part in parts if part.strip().isdecimal()]
    if len(numbers) != len(parts):
        raise StudyError(f"sizes are whole numbers with commas between, got {sizes!r}")
    return linear_sample(numbers, seed) if kind == "linear" else conv_sample(numbers, seed)


def linear_sample(sizes: Sequence[int], seed: int) -> Sample:
    """A linear layer with random numbers; sizes are those of its output GEMM, (M, N, K) = (batch, outputs, inputs).

    Raises:
        StudyError: Not three positive sizes.
    """
    _check_sizes(sizes, 3, "a linear layer takes M,N,K")
    rows, columns, inner = sizes
    return _random_sample("linear", lambda: nn.Linear(inner, columns, bias=False), (rows, inner), seed)


def conv_sample(sizes: Sequence[int], seed: int) -> Sample:
    """A convolution with random numbers, stride 1 and zeros all around that keep the image's size.

    Args:
        sizes: (N, C, H, W, O, R): images, channels, height, width, output channels, kernel size (odd).
        seed: Of the random numbers.

    Raises:
        StudyError: Not six positive sizes, or an even kernel.
    """
    _check_sizes(sizes, 6, "a convolution takes N,C,H,W,O,R")
    batch, channels, height, width, outputs, kernel = sizes
    if kernel % 2 == 0:
        raise StudyError(f"the kernel's size R is odd, so that zeros keep the image's size; got {kernel}")
    shape = (batch, channels, height, width)
    return _random_sample(
        "conv2d", lambda: nn.Conv2d(channels, outputs, kernel, padding=kernel // 2, bias=False), shape, seed
    )


def _check_sizes(sizes: Sequence[int], count: int, what: str) -> None:
    if len(sizes) != count or min(sizes, default=0) < 1:
        raise StudyError(f"{what}, whole numbers from 1 on; got {','.join(map(str, sizes))}")


def _random_sample(name: str, make: Any, shape: tuple[int, ...], seed: int) -> Sample:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layer, x = make(), torch.randn(shape)
        return Sample(name=name, layer=layer, x=x, grad_output=torch.randn_like(layer(x)))


def model_sample(model: str, path: str, spec: OpSpec, *, data: str, batch: int, seed: int) -> Sample:
    """A layer of a model in the first training step on a data set, every layer emulated.

    Args:
        model: One of `models.MODELS`.
        path: The layer's module path.
        spec: The numerics of all layers.
        data: A data set.
        batch: Images in the step, the first ones.
        seed: Seed of the initial weights.

    Raises:
        StudyError: An unknown model, data set or layer, or a batch without images.
    """
    if batch < 1:
        raise StudyError(f"a batch has at least one image, got {batch}")
    examples = load(data, limit=batch)
    native = build(model, examples.in_channels, examples.classes, examples.image_size, seed=seed)
    kinds = {n: m for n, m in native.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)}
    if path not in kinds:
        raise StudyError(f"{model} has no linear or convolution layer {path!r}; it has {', '.join(kinds)}")
    layer = kinds[path]
    emulated = convert(native, [Rule("*", spec)], seed=seed)
    seen: list[Tensor] = []

    def note(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        seen.append(inputs[0].detach().clone())
        output.register_hook(lambda g: seen.append(g.detach().clone()))

    emulated.get_submodule(path).register_forward_hook(note)
    images, targets = examples.train.inputs[:batch], examples.train.targets[:batch]
    nn.functional.cross_entropy(emulated(images), targets).backward()
    x, grad_output = seen
    return Sample(name=path, layer=layer, x=x, grad_output=grad_output)
