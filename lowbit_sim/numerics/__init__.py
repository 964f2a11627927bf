"""Layer 0: formats, rounding and random bits; `reference` defines them, `kernels` computes them."""
