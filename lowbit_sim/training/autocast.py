"""Forward passes of mixed precision: products in bfloat16, weights and losses in float32.

`torch.autocast` casts the operands of products to bfloat16 and leaves what needs float32's precision in it; the
parameters and their gradients stay in float32. bfloat16 has float32's range, so that no loss is scaled.
Source: Kalamkar et al., "A Study of BFLOAT16 for Deep Learning Training", arXiv 1905.12322.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

#: The formats that products can be cast to.
Autocast = Literal["bf16"]


def forward(model: nn.Module, inputs: Tensor, autocast: Autocast | None) -> Tensor:
    """The logits of a model; with `autocast` computed in that format, on the inputs' device, and given in float32."""
    if autocast is None:
        return model(inputs)
    with torch.autocast(inputs.device.type, dtype=torch.bfloat16):
        return model(inputs).float()
