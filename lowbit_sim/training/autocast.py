"""Forward passes of mixed precision: products in bfloat16 or float16, weights and losses in float32.

`torch.autocast` casts the operands of products to the format and leaves what needs float32's precision in it; the
parameters and their gradients stay in float32. bfloat16 has float32's range; gradients in float16 would fall below
its smallest value, so that its loss is scaled (`loss_scaling.py`).
Sources: Kalamkar et al., "A Study of BFLOAT16 for Deep Learning Training", arXiv 1905.12322; Micikevicius et al.,
"Mixed Precision Training", ICLR 2018.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

#: The formats that products can be cast to.
Autocast = Literal["bf16", "fp16"]

#: Their dtypes.
DTYPES: dict[Autocast, torch.dtype] = {"bf16": torch.bfloat16, "fp16": torch.float16}


def forward(model: nn.Module, inputs: Tensor, autocast: Autocast | None) -> Tensor:
    """The logits of a model; with `autocast` computed in that format, on the inputs' device, and given in float32."""
    if autocast is None:
        return model(inputs)
    with torch.autocast(inputs.device.type, dtype=DTYPES[autocast]):
        return model(inputs).float()
