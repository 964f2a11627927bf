"""Layer 3: differentiable operators with three emulated GEMMs each."""
