"""Layer 1: from tensors to codes; `Quantizer` in, `QTensor` out."""
