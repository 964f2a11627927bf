"""Golden vectors: operands, accumulators and results of a layer's three GEMMs, for those who build the circuit."""
