"""Published quantisers of neural gradients, as `Quantizer` values (and transforms) for the backward GEMMs."""
