"""Layer 2: the MAC unit and the emulated matrix product; `backends.reference` defines it."""
