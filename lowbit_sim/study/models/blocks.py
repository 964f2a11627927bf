"""What several families of models are built of."""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn


def conv_bn(inputs: int, outputs: int, stride: int = 1, *, kernel: int = 3, groups: int = 1) -> nn.Sequential:
    """A convolution with zeros around it, and its batch-norm; the norm's shift makes a bias superfluous."""
    return nn.Sequential(
        OrderedDict(
            conv=nn.Conv2d(
                inputs, outputs, kernel, stride=stride, padding=kernel // 2, groups=groups, bias=False
            ),
            bn=nn.BatchNorm2d(outputs),
        )
    )


class Add(nn.Module):
    """The sum of two tensors of one shape."""

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """X + y."""
        return x + y
